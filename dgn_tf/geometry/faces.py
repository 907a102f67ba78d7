"""Corners of faces, checked before anything indexes with them."""

import numpy as np


def checked_faces(faces, vertices: int) -> np.ndarray:
    """The faces as an array, once each corner is known to be a vertex.

    Compiled code and mesh writers don't look: an index out of range reads foreign memory.

    Args:
        faces: [F, 3] integers.
        vertices: V.

    Raises:
        ValueError: another shape or type, or an index that is not in 0 .. V - 1.
    """
    faces = np.asarray(faces)
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise ValueError(f"faces are {list(faces.shape)} of {faces.dtype}, wanted [F, 3] integers")
    if faces.size and not (faces.min() >= 0 and faces.max() < vertices):
        raise ValueError(
            f"faces name vertices {faces.min()} .. {faces.max()}, there are 0 .. {vertices - 1}"
        )
    return faces
