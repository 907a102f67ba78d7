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
    """What of a record, or of several, can't be, in words; empty where all can.

    Args:
        values: numpy arrays by feature: `intrinsics`, and those of `_LIMITS` that it has. What is
            not valid is 0 in them.
    """
    for name, value, low, high in _limited(values):
        numbers = np.asarray(value)
        if not numbers.size or (low < numbers.min() and numbers.max() < high):  # no NaN either
            continue
        wrong = numbers[~((numbers > low) & (numbers < high))]
        return f"{name} {wrong[0]:g}, wanted between {low:g} and {high:g}"
    return ""


def refuse_impossible(values: dict, where: str, writer: str) -> None:
    """Raises InputError that names `where` and the value, where one can't be."""
    if why := impossible(values):
        raise InputError(f"{where}: {why}; write the records again with {writer}.")


def limited(values: dict) -> dict:
    """Those of a record's values that `impossible` looks at."""
    return {name: value for name, value in values.items() if name in (*_LIMITS, "intrinsics")}


def checked(
    through: tf.Tensor, values: dict, rows: tf.Tensor, refuse: Callable[[int, dict], None]
) -> tf.Tensor:
    """`through`, for whoever reads it to learn whether `values` can be; in a graph or eagerly.

    Args:
        through: any tensor that comes to be read.
        values: tensors by feature, of one record or, with a first axis more, of B.
        rows: [] or [B] numbers of the records.
        refuse: raises for a record by its number and its numpy arrays, where one can't be.
    """
    values = limited(values)

    def look(given, rows, *arrays):
        if impossible(dict(zip(values, arrays, strict=True))):
            for place, row in enumerate(np.reshape(rows, -1)):
                one = [array[place] if rows.ndim else array for array in arrays]
                refuse(int(row), dict(zip(values, one, strict=True)))
        return given

    # One call for the whole batch: the same in operations of the graph costs 8 % of reading, and a
    # call with state 2 %. One without would be optimised away, were it not for what it gives.
    given = tf.numpy_function(
        look, [through, rows, *values.values()], through.dtype, stateful=False
    )
    return tf.ensure_shape(given, through.shape)
