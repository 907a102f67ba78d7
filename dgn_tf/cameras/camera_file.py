"""Intrinsics in the files of librealsense, ROS, OpenCV, Open3D and of this project.

Whatever the form, a file becomes nested dicts (`parsing`), in which cameras are looked for by the
names that these programs give to the same numbers.
"""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from dgn_tf.cameras import parsing
from dgn_tf.cameras.camera import Camera, Distortion
from dgn_tf.errors import InputError

# Names in lower case without underscores.
_MATRIX = ("cameramatrix", "k", "intrinsicmatrix", "mtx")
_COEFFICIENTS = ("distortioncoefficients", "coeffs", "distcoeffs", "dist", "d", "distortion")
_MODEL = ("distortionmodel", "model")
_WIDTH, _HEIGHT = ("imagewidth", "width"), ("imageheight", "height")
_CX, _CY = ("cx", "ppx"), ("cy", "ppy")
_MODELS = {
    **dict.fromkeys(("plumbbob", "rationalpolynomial", "brownconrady", "radtan"), "brown_conrady"),
    **dict.fromkeys(("equidistant", "kannalabrandt", "kannalabrandt4"), "kannala_brandt"),
    **dict.fromkeys(("fisheye", "opencvfisheye"), "kannala_brandt"),
    "inversebrownconrady": "inverse_brown_conrady",
}
_COUNTS = {
    "brown_conrady": (4, 5, 8, 12, 14),
    "kannala_brandt": (4,),
    "inverse_brown_conrady": (5,),
}
_DEEPEST = 4
_MOST_NUMBERS = 64


def is_file(text: str) -> bool:
    """Whether --intrinsics names a file, perhaps with :CAMERA, and not numbers."""
    if os.path.exists(os.path.expanduser(text)):
        return True
    return "," not in text and any(character.isalpha() for character in text)


def read_camera(text: str) -> Camera:
    """The camera of FILE, or of FILE:NAME or FILE:NUMBER (from 1) where it holds several.

    Raises:
        InputError: unreadable, of no known form, without or with several cameras, or a model of
            distortion that is not known; says what the file is.
    """
    path, name = os.path.expanduser(text), ""
    if not os.path.exists(path) and ":" in path:
        path, _, name = path.rpartition(":")
    file = pathlib.Path(path)
    found = _cameras(parsing.read_tree(file))
    if not found:
        raise InputError(
            f"--intrinsics={file} holds no camera: neither fx, fy, cx, cy (ppx, ppy) nor a 3x3 "
            "camera matrix; give fx,fy,cx,cy in pixels."
        )
    chosen = _choose(file, found, name)
    return dataclasses.replace(camera_of(f"--intrinsics={file}", chosen), file=str(file))


def _simple(name) -> str:
    return str(name).lower().replace("_", "").replace("-", "").replace(" ", "")


def _cameras(tree, name: str = "", above: dict | None = None, depth: int = 0) -> dict[str, dict]:
    """Name -> the entries of each camera in the tree, with the sizes that stand above them."""
    if depth > _DEEPEST:
        return {}
    if isinstance(tree, list):
        parts = {f"{name}{number}": part for number, part in enumerate(tree[:100], 1)}
    elif isinstance(tree, dict):
        entries = {_simple(key): value for key, value in tree.items()}
        above = {**(above or {}), **{key: entries[key] for key in _inherited(entries)}}
        if {"fx", "fy"} <= set(entries) or any(key in entries for key in _MATRIX):
            return {name: {**above, **entries}}
        parts = {str(key): part for key, part in list(tree.items())[:100]}
    else:
        return {}
    found: dict[str, dict] = {}
    for key, part in parts.items():
        found.update(_cameras(part, key, above, depth + 1))
    return found


def _inherited(entries) -> list[str]:
    names = (*_WIDTH, *_HEIGHT, *_MODEL, *_COEFFICIENTS)
    return [key for key in names if isinstance(entries.get(key), int | float | str | list)]


def _choose(file, found: dict[str, dict], name: str) -> dict:
    if name.isdecimal() and 1 <= int(name) <= len(found):
        return list(found.values())[int(name) - 1]
    if name:
        for key, entries in found.items():
            if _simple(key) == _simple(name):
                return entries
    elif len(found) == 1:
        return next(iter(found.values()))
    else:
        depth = [key for key in found if "depth" in key.lower()]
        if len(depth) == 1:
            return found[depth[0]]
    wrong = f"no camera {name!r}" if name else f"{len(found)} cameras"
    raise InputError(
        f"--intrinsics={file} holds {wrong}; name one as {file}:NAME of "
        f"{', '.join(list(found)[:12])}."
    )


def camera_of(source: str, entries: dict) -> Camera:
    """The camera that entries of a file or of a driver, named as librealsense or ROS do, describe.

    Args:
        source: where they are from, for messages.
        entries: lower-case names without underscores to values.

    Raises:
        InputError: a value is missing or wrong, or the model of distortion is not known.
    """
    intrinsics = _intrinsics(source, entries)
    size = _size(source, entries)
    if size and not (0 < intrinsics[2] < size[0] and 0 < intrinsics[3] < size[1]):
        raise InputError(
            f"{source}: its principal point {intrinsics[2]:g}, {intrinsics[3]:g} lies outside of "
            f"its image of {size[0]} x {size[1]} pixels."
        )
    for name in ("binningx", "binningy"):
        if entries.get(name) not in (None, 0, 1):
            raise InputError(f"{source}: its image is binned ({name} {entries[name]}); not read.")
    return Camera(intrinsics, source, size, _distortion(source, entries))


def _intrinsics(source, entries) -> tuple[float, float, float, float]:
    if "fx" in entries:
        given = [entries.get("fx"), entries.get("fy"), _first(entries, _CX), _first(entries, _CY)]
    else:
        numbers = _numbers(_first(entries, _MATRIX))
        if len(numbers) != 9:
            raise InputError(f"{source}: its camera matrix has {len(numbers)} numbers, 9 wanted.")
        matrix = np.reshape(numbers, [3, 3])
        if matrix[0, 2] == 0 and matrix[2, 0] != 0:  # Open3D stores columns
            matrix = matrix.T
        if not np.allclose(matrix[[1, 2, 2, 2], [0, 0, 1, 2]], [0, 0, 0, 1]):
            raise InputError(f"{source}: {matrix.tolist()} is no camera matrix.")
        if abs(matrix[0, 1]) > 1e-3 * abs(matrix[0, 0]):
            raise InputError(f"{source}: pixels are skewed ({matrix[0, 1]:g}); not read.")
        given = [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]]
    values = _numbers(given)
    if len(values) != 4 or not np.isfinite(values).all() or min(values[:2]) <= 0:
        raise InputError(
            f"{source}: fx, fy, cx, cy are {given}; four numbers are wanted, fx and fy positive."
        )
    return values[0], values[1], values[2], values[3]


def _size(source, entries) -> tuple[int, int] | None:
    given = [_first(entries, _WIDTH), _first(entries, _HEIGHT)]
    if given == [None, None]:
        return None
    numbers = _numbers(given)
    if len(numbers) != 2 or not all(1 <= number <= 2**14 for number in numbers):
        raise InputError(f"{source}: its image's width and height are {given}.")
    return int(numbers[0]), int(numbers[1])


def _distortion(source, entries) -> Distortion | None:
    coefficients = _numbers(_first(entries, _COEFFICIENTS))
    if not any(coefficients):  # none or all zero: a pinhole, whatever the model
        return None
    if not np.isfinite(coefficients).all():
        raise InputError(f"{source}: its distortion is {coefficients}; finite numbers are wanted.")
    named = _first(entries, _MODEL)
    if named is None:
        model: str | None = "kannala_brandt" if entries.get("fisheyemodel") else "brown_conrady"
    else:
        model = _MODELS.get(_simple(str(named).rpartition(".")[2]))
    if model is None:
        raise InputError(
            f"{source}: the distortion model {str(named)[:40]!r} is not known; calibrate by "
            "OpenCV's or rectify the frames."
        )
    if model == "kannala_brandt" and not any(coefficients[4:]):  # librealsense has a fifth, 0
        coefficients = coefficients[:4]
    if len(coefficients) not in _COUNTS[model]:
        wanted = " or ".join(map(str, _COUNTS[model]))
        raise InputError(
            f"{source}: {len(coefficients)} coefficients of {model} distortion, {wanted} wanted."
        )
    return Distortion(model, tuple(coefficients))


def _first(entries: dict, names) -> Any:
    return next((entries[name] for name in names if entries.get(name) is not None), None)


def _numbers(value, most: int = _MOST_NUMBERS) -> list[float]:
    """The numbers in nested lists, or in a matrix's `data`; [] where there is anything else."""
    if isinstance(value, dict):
        value = value.get("data")
    if isinstance(value, bool):
        return []
    if isinstance(value, int | float):
        return [float(value)]
    numbers: list[float] = []
    for item in value if isinstance(value, list | tuple) else ():
        one = _numbers(item, most)
        if not one or len(numbers) + len(one) > most:
            return []
        numbers += one
    return numbers
