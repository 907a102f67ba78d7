"""Depth in numpy's files: `.npy`, and `.npz` with one frame in it. Nothing in them runs."""

import io

import numpy as np

from dgn_tf import depth_io, npz_file
from dgn_tf.depth_files.stored import Stored, check_pixels, damaged
from dgn_tf.errors import InputError

_NAMES = ("depth", "depth_mm", "depth_map")  # that an array of several is taken by
_WIDEST = 8  # bytes of a number


def read_npy(file, content: bytes) -> Stored:
    """A frame in a .npy file; `content` is all of it."""
    try:
        array = npz_file.array_of(content)
    except ValueError as error:
        raise damaged(file, "a numpy array (.npy)", error) from None
    return _frame(file, array, "a numpy array")


def read_npz(file, content: bytes) -> Stored:
    """A frame in a .npz file: the array called `depth`, or the only one."""
    try:
        limit = 2 * _WIDEST * depth_io.MAX_PIXELS
        arrays = npz_file.read_arrays(io.BytesIO(content), limit=limit)
    except (OSError, ValueError) as error:
        raise damaged(file, "a numpy archive (.npz)", error) from None
    named = [name for name in _NAMES if name in arrays] or list(arrays)
    if len(named) != 1:
        listed = ", ".join(f"{name} {list(arrays[name].shape)}" for name in sorted(arrays))
        raise InputError(
            f"{file} holds several arrays ({listed or 'none'}), none of them called `depth`; save "
            "a frame alone, numpy.savez(FILE, depth=...)."
        )
    return _frame(file, arrays[named[0]], f"the array `{named[0]}`")


def _frame(file, array: np.ndarray, what: str) -> Stored:
    shape = list(array.shape)
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array.reshape([length for length in shape if length != 1][:2] or [1, 1])
    if array.ndim != 2:
        remedy = "save each frame as a file of its own" if array.ndim == 3 else "save one frame"
        raise InputError(f"{file} is {what} of shape {shape}, a frame is [H, W]; {remedy}.")
    kind = f"{what} of {array.dtype.name}"
    if array.dtype.kind not in "iuf" or array.dtype.itemsize == 1:
        lost = "8 bits have lost the depth" if array.dtype.itemsize == 1 else "no real numbers"
        raise InputError(f"{file} is {kind}: {lost}; save uint16 steps or float32 metres.")
    check_pixels(file, *array.shape)
    return Stored(array, kind)
