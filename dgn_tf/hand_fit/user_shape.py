"""From frames to a user's template."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.hand_fit.bias import ShapeBias
from dgn_tf.hand_fit.seen_frames import FrameReader, SeenFrames, joined
from dgn_tf.hand_fit.shape_fit import ShapeFit
from dgn_tf.hand_fit.shapes import personal_template, shapes_of
from dgn_tf.hand_fit.solver import Solution
from dgn_tf.model_folder import SHAPE_BIAS, find_model_folder, weights_sha256
from dgn_tf.template import HandTemplate

MIN_FRAMES = 4
_MIN_PIXELS = 50  # a frame with fewer has no hand to fit


class UserShape(NamedTuple):
    """A user's hand.

    template: of the user; coefficients: [K] of `shapes_of` its parent.
    fitted: [K] the coefficients before the bias was undone.
    energy: median over the frames, mm, where the fit began and where it ended.
    """

    template: HandTemplate
    coefficients: np.ndarray
    fitted: np.ndarray
    energy: tuple[float, float]


def seen_frames(read: FrameReader, batches: Iterable[dict]) -> SeenFrames:
    """All frames of batches with the network's inputs."""
    several = [read(batch) for batch in batches]
    if not several:
        raise InputError("--records hold no frame; write them again.")
    return joined(several)


def usable(frames: SeenFrames) -> np.ndarray:
    """[N] bool: there are enough pixels near an estimate that is finite."""
    finite = np.isfinite(frames.sampled).all(axis=(1, 2))
    finite &= np.isfinite(frames.transforms).all(axis=(1, 2, 3))
    return finite & (frames.counted.sum(axis=1) >= _MIN_PIXELS)


def choose(frames: SeenFrames, limit: int, where: str) -> SeenFrames:
    """The usable frames, at most `limit` (0: all), evenly spread; `where` names them in errors."""
    rows = np.flatnonzero(usable(frames))
    if len(rows) < MIN_FRAMES:
        raise InputError(
            f"{where}: {len(rows)} of {len(frames.depth)} frames show a hand of {_MIN_PIXELS} "
            f"pixels or more, {MIN_FRAMES} are wanted; record more, with the hand in the crop."
        )
    if limit and len(rows) > limit:
        rows = rows[np.linspace(0, len(rows) - 1, limit).round().astype(int)]
    return frames.rows(rows)


def fit_user(
    template: HandTemplate, frames: SeenFrames, steps: int, bias: ShapeBias | None
) -> UserShape:
    """A user's template from frames of `choose`.

    Args:
        template: the network's that has seen the frames.
        frames: of one user.
        steps: of the fit, see `ShapeFit`.
        bias: of the fit, to be undone; None: it stays.
    """
    shapes = shapes_of(template)
    fitted = fit_shape(template, frames, steps)
    coefficients = fitted.shape if bias is None else bias(fitted.shape)
    begun, ended = np.median(fitted.energy, axis=0)
    personal = personal_template(template, shapes, coefficients, len(frames.depth))
    return UserShape(personal, coefficients, fitted.shape, (float(begun), float(ended)))


def fit_shape(template: HandTemplate, frames: SeenFrames, steps: int) -> Solution:
    """Fits a shape and poses to the frames that are of use."""
    return ShapeFit(template, shapes_of(template))(frames.rows(usable(frames)), steps)


def load_bias(folder, template: HandTemplate) -> ShapeBias | None:
    """The bias in a model folder, None where it has none."""
    file = find_model_folder(folder) / SHAPE_BIAS
    if not file.is_file():
        return None
    return ShapeBias.load(file, shapes_of(template).names, weights_sha256(folder))
