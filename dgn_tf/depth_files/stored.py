"""What a depth file holds before anybody knows its unit."""

from typing import NamedTuple

import numpy as np

from dgn_tf import depth_io
from dgn_tf.errors import InputError

METRES, MM = 1000.0, 1.0  # mm for one step


class Stored(NamedTuple):
    """A frame as it is stored.

    Attributes:
        values: [H, W] integers or floats, in steps.
        kind: what it is, such as "a numpy array of float32".
        unit: mm for one step where the format says it, else None.
    """

    values: np.ndarray
    kind: str
    unit: float | None = None


def check_pixels(file, height: int, width: int) -> None:
    """Refuses a size that no depth camera has, before anything of that size is made."""
    if height < 1 or width < 1 or height * width > depth_io.MAX_PIXELS:
        raise InputError(
            f"{file} has {width} x {height} pixels; 1 to {depth_io.MAX_PIXELS} are read. Is this a "
            "depth frame?"
        )


def damaged(file, kind: str, error) -> InputError:
    """The error of a file whose reader gave up."""
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return InputError(
        f"{file} is {kind} that can't be read ({reason[0][:120]}); record or copy it again."
    )
