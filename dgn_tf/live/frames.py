"""A frame of a live source."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from dgn_tf.live.synthetic import Truth


class LiveFrame(NamedTuple):
    """What a source gives: any iterable of these is one.

    Attributes:
        depth: [H, W] steps as the camera counts them, 0 = missing.
        intrinsics: [4] fx, fy, cx, cy, pixels, of a pinhole camera.
        unit: mm for one step.
        time_s: when it was taken, seconds by any clock that only goes forward.
        truth: what is known of a synthetic frame.
    """

    depth: np.ndarray
    intrinsics: np.ndarray
    unit: float
    time_s: float
    truth: "Truth | None" = None
