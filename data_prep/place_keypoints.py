"""Derives `makehuman_keypoints.json`: NYU's 36 key points, carried over from LibHand's mesh.

    python -m data_prep.place_keypoints --libhand=right_hand.pkl --markers=nyu_markers.json

build_template reads the table alone, so that the template is rebuilt without LibHand's mesh.
"""

import json
import pathlib

import numpy as np
from absl import flags

from data_prep import libhand
from data_prep.keypoint_placement import TABLE, describe_hand, normalise
from data_prep.makehuman_hand import PART_NAMES
from dgn_tf.errors import InputError, run
from dgn_tf.template import nyu_keypoint_names

_LIBHAND = flags.DEFINE_string("libhand", None, "LibHand's mesh, right_hand.pkl.", required=True)
_MARKERS = flags.DEFINE_string("markers", None, "Where the key points lie on that mesh (JSON).",
                               required=True)
_OUTPUT = flags.DEFINE_string("output", str(TABLE), "The table to write.")


def derive_table(libhand_path, markers_path) -> dict:
    """Returns name to {part, coordinates}; see `keypoint_placement`."""
    try:
        markers = json.loads(pathlib.Path(markers_path).read_text())["markers"]
        markers = {name: (libhand.part_of_bone(markers[name]["bone"]),
                          np.array(markers[name]["position"], np.float64) * libhand.MM_PER_UNIT)
                   for name in nyu_keypoint_names()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--markers={markers_path}: is no table of NYU's 36 key points "
                         f"({error!r}); pass nyu_markers.json.") from None
    vertices, _, weights, joints = libhand.read_libhand(libhand_path)
    hand = describe_hand(vertices, weights, joints, dorsal=np.array([0.0, 0.0, 1.0]))
    return {name: {"part": PART_NAMES[part],
                   "coordinates": [round(value, 4) for value in normalise(hand, part, point)]}
            for name, (part, point) in markers.items()}


def main(_):
    table = derive_table(_LIBHAND.value, _MARKERS.value)
    rows = ",\n".join(f'  "{name}": {json.dumps(row)}' for name, row in table.items())
    text = ('{\n "origin": "NYU key points on LibHand\'s right hand, in coordinates of '
            'data_prep/keypoint_placement.py",\n "keypoints": {\n' + rows + "\n }\n}\n")
    try:
        pathlib.Path(_OUTPUT.value).write_text(text)
    except OSError as error:
        raise InputError(f"--output={_OUTPUT.value}: cannot write ({error.strerror}); choose "
                         "another path.") from None
    print(f"{_OUTPUT.value}: {len(table)} key points")


if __name__ == "__main__":
    run(main)
