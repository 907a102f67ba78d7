"""Reads the paper's mesh, LibHand's right hand of 1721 vertices, from `right_hand.pkl`."""

import numpy as np

from data_prep import restricted_pickle
from data_prep.makehuman_hand import PART_NAMES
from dgn_tf.errors import InputError

MM_PER_UNIT = 58.0
_FINGERS = {"finger5": "thumb", "finger4": "index", "finger3": "middle", "finger2": "ring",
            "finger1": "little"}  # LibHand counts from the little finger, as NYU does.


def part_of_bone(bone: str) -> int:
    """Returns the part (of `PART_NAMES`) of a LibHand bone; wrist and palm make one."""
    finger, _, number = bone.partition("joint")
    return PART_NAMES.index(_FINGERS[finger] + number) if finger in _FINGERS else 0


def read_libhand(path):
    """Returns vertices [1721, 3] mm, faces, weights [V, 16], joints [16, 3] mm of the rest pose."""
    content = restricted_pickle.load(path)
    try:
        corners = np.asarray(content["vertices"], np.float64)
        _, first, welded = np.unique(np.round(corners, 5), axis=0, return_index=True,
                                     return_inverse=True)
        vertices = corners[first] * MM_PER_UNIT
        faces = welded.reshape(-1)[np.asarray(content["faces"], np.int64)]
        weights, joints = np.zeros([len(vertices), 16]), np.zeros([16, 3])
        for bone in content["bones"]:
            part, index = part_of_bone(bone["name"]), np.asarray(bone["weight_vertexid"], np.int64)
            # A vertex's corners all carry its weight: put it down once for each bone.
            column = np.zeros(len(vertices))
            column[welded.reshape(-1)[index]] = np.asarray(bone["weight_coeff"], np.float64)
            weights[:, part] += column
            if part:
                rest = np.linalg.inv(np.asarray(bone["offset_matrix"], np.float64))
                joints[part] = rest[:3, 3] * MM_PER_UNIT
    except (KeyError, TypeError, ValueError, IndexError, np.linalg.LinAlgError) as error:
        raise InputError(f"{path}: is not LibHand's right_hand.pkl ({error!r}); use the original "
                         "file.") from None
    return vertices, faces, weights / weights.sum(axis=1, keepdims=True), joints
