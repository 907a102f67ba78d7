"""The mirror between left and right hands: everything that a left hand's frames become, and back.

The mirror is the camera's plane x = 0. With D = diag(-1, 1, 1) a point p becomes D p, a transform
T becomes D T D (rotation, translation and scale alike), an image's columns are reversed, and cx
becomes width - 1 - cx, as pixel centres are at integers. Where camera and rig are mirrored both,
`camera_from_rig` is such a transform. Depth, y and joint angles stay: the mirrored hand bends as
the hand does. Mirroring twice gives back the same bits; of cx, to the rounding of one subtraction.

All functions take numpy arrays and tensors, and return what they were given.
"""

import numpy as np

# What `mirror_named` does with an array of that name.
POINTS = frozenset(["vertices", "vertices_sampled", "keypoints", "centre", "origin"])
TRANSFORMS = frozenset(["transforms", "camera_from_rig"])
# The axis of the columns, from the end.
IMAGES = {
    "depth": -1,
    "mesh_layer": -1,
    "valid": -1,
    "face": -1,
    "mesh_coords": -2,
    "barycentric": -2,
}
NAMED = POINTS | TRANSFORMS | frozenset(IMAGES)


def mirror_points(points):
    """Mirrors points or directions [..., 3]."""
    return points * _like(points, (-1, 1, 1))


def mirror_transforms(transforms):
    """Mirrors affine transforms [..., 4, 4], target_from_source, in target and source."""
    diagonal = _like(transforms, (-1, 1, 1, 1))
    return transforms * np.outer(diagonal, diagonal)


def mirror_image(image, axis: int = -1):
    """Reverses the columns of an image, which lie along `axis`."""
    whole = [slice(None)] * len(image.shape)
    whole[axis] = slice(None, None, -1)
    return image[tuple(whole)]


def mirror_intrinsics(intrinsics, width):
    """Mirrors cameras [..., 4] (fx, fy, cx, cy), pixels, of images `width` pixels wide.

    `width` is a number, numpy numbers [...] of each camera's images, or a scalar tensor of the
    intrinsics' type.
    """
    if isinstance(width, (int, np.ndarray, np.generic)):
        width = _like(intrinsics, width)[..., np.newaxis]
    last = (width - 1) * _like(intrinsics, (0, 0, 1, 0))  # the last column's number
    return intrinsics * _like(intrinsics, (1, 1, -1, 1)) + last


def mirror_faces(faces) -> np.ndarray:
    """The faces [F, 3] of a mirrored mesh: their winding is reversed, so that normals point out."""
    return np.ascontiguousarray(np.asarray(faces)[:, [0, 2, 1]])


def mirror_named(values: dict) -> dict:
    """Mirrors the arrays whose names stand in `POINTS`, `TRANSFORMS` or `IMAGES`.

    The others, such as confidences and joint angles, pass through; so do intrinsics, which want
    their image's width.
    """
    return {name: _mirror_one(name, value) for name, value in values.items()}


def _mirror_one(name, value):
    if name in POINTS:
        return mirror_points(value)
    if name in TRANSFORMS:
        return mirror_transforms(value)
    return mirror_image(value, IMAGES[name]) if name in IMAGES else value


def _like(array, values):
    """`values` as numpy numbers of the type of an array or tensor."""
    return np.asarray(values, getattr(array.dtype, "as_numpy_dtype", array.dtype))
