"""Values that a record can't rightly hold, though its checksum is right: refused by name."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from dgn_tf.errors import InputError

_FAR_MM = 10_000.0  # no depth camera sees a hand from farther
_PIXELS = 1e6
# Name -> the two values that each number of it lies between.
_LIMITS = {
    "cube": (0.0, _FAR_MM),
    "focal length": (0.0, _PIXELS),
    "principal point": (-_PIXELS, _PIXELS),
    "centre": (-_FAR_MM, _FAR_MM),
    "keypoints": (-_FAR_MM, _FAR_MM),
    "camera_from_rig": (-10 * _FAR_MM, 10 * _FAR_MM),
    "depth_unit": (0.0, 1000.0),
}


def _limited(values: dict) -> Iterator[tuple[str, Any, float, float]]:
    """Name, numbers and limits of what there is in `values`, arrays or tensors by feature."""
    parts = {name: value for name, value in values.items() if name in _LIMITS}
    parts["focal length"] = values["intrinsics"][..., :2]
    parts["principal point"] = values["intrinsics"][..., 2:]
    for name, value in parts.items():
        yield name, value, *_LIMITS[name]


def impossible(values: dict) -> str:
    """What of one record can't be, in words; empty where all can.

    Args:
        values: numpy arrays by feature: `intrinsics`, and those of `_LIMITS` that it has. What is
            not valid is 0 in them.
    """
    for name, value, low, high in _limited(values):
        numbers = np.asarray(value, np.float64).reshape(-1)
        wrong = numbers[~((numbers > low) & (numbers < high))]  # NaN among them
        if len(wrong):
            return f"{name} {wrong[0]:g}, wanted between {low:g} and {high:g}"
    return ""


def refuse_impossible(values: dict, where: str, writer: str) -> None:
    """Raises InputError that names `where` and the value, where one can't be."""
    if why := impossible(values):
        raise InputError(f"{where}: {why}; write the records again with {writer}.")


def checked(values: dict, rows: tf.Tensor, refuse: Callable[[int, dict], None]) -> dict:
    """The same tensors, once it is known that they can be; in a graph or eagerly.

    Args:
        values: tensors by feature, of one record or, with a first axis more, of B.
        rows: [] or [B] numbers of the records.
        refuse: raises for a record by its number and its numpy arrays, where one can't be.
    """
    limited = {name: value for name, value in values.items() if name in (*_LIMITS, "intrinsics")}
    possible = tf.reduce_all(
        [tf.reduce_all((value > low) & (value < high)) for _, value, low, high in _limited(limited)]
    )

    def look(rows, *arrays):
        for place, row in enumerate(np.reshape(rows, -1)):
            one = [array[place] if rows.ndim else array for array in arrays]
            refuse(int(row), dict(zip(limited, one, strict=True)))
        return np.int64(0)

    # Looked at one by one only where there is something to name: that costs a call of Python.
    done = tf.cond(
        possible,
        lambda: tf.constant(0, tf.int64),
        lambda: tf.numpy_function(look, [rows, *limited.values()], tf.int64),
    )
    with tf.control_dependencies([done]):
        return {name: tf.identity(value) for name, value in values.items()}
