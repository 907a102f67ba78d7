"""From frames to a user's template."""

import dataclasses
import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.geometry import kinematics
from dgn_tf.hand_fit import residuals, solver
from dgn_tf.hand_fit.seen_frames import FrameReader, SeenFrames, joined
from dgn_tf.hand_fit.shapes import Shapes, personal_template, shapes_of
from dgn_tf.hand_fit.skeleton import ROOT, Poses, posed_hands, room, skeleton
from dgn_tf.hand_fit.solver import Solution
from dgn_tf.model_folder import SHAPE_BIAS, find_model_folder, weights_sha256
from dgn_tf.npz_file import read_fields, write_fields
from dgn_tf.template import HandTemplate

MIN_FRAMES = 4
_MIN_PIXELS = 50  # a frame with fewer has no hand to fit


# What the shape fit gets wrong in the mean, learnt on synthetic users and undone.


_RIDGE = 0.3  # of the ridge regression, in users at one deviation of each shape


@dataclasses.dataclass(frozen=True, eq=False)
class ShapeBias:
    """A linear map from fitted coefficients to true ones.

    The network knows hands near the mean shape, and some shapes look alike in depth: the fit's
    error is partly the same for all users of a kind, and that part can be predicted.

    Attributes:
        matrix: [K, K], offset: [K]: true = fitted @ matrix + offset.
        names: of the K shapes.
        weights_sha256: hex, of the network's weights.h5.
        users, frames: how many it was learnt on, and frames of each.
    """

    matrix: np.ndarray
    offset: np.ndarray
    names: tuple[str, ...]
    weights_sha256: str
    users: int
    frames: int

    def __call__(self, shape: np.ndarray) -> np.ndarray:
        """[K] corrected coefficients."""
        return shape @ self.matrix + self.offset

    def save(self, file: str | os.PathLike) -> None:
        """Writes an .npz, beside, then renamed."""
        write_fields(self, file)

    @classmethod
    def load(cls, file: str | os.PathLike, names: tuple[str, ...], sha256: str) -> "ShapeBias":
        """Reads what `save` wrote.

        Args:
            file: the .npz.
            names: of the shapes that are fitted.
            sha256: of the weights that fit them.

        Raises:
            InputError: it is damaged, or of another network.
        """
        values = read_fields(cls, file, "python -m dgn_tf.learn_shape_bias makes it anew")
        found = cls(
            values["matrix"],
            values["offset"],
            tuple(map(str, values["names"])),
            str(values["weights_sha256"]),
            int(values["users"]),
            int(values["frames"]),
        )
        if found.weights_sha256 != sha256 or found.names != names:
            raise InputError(
                f"{file} belongs to other weights or shapes; make it anew with "
                "dgn_tf.learn_shape_bias, or remove it."
            )
        return found


def learn_bias(
    fitted: np.ndarray, true: np.ndarray, names: tuple[str, ...], sha256: str, frames: int
) -> ShapeBias:
    """Ridge regression of true coefficients on fitted ones.

    Args:
        fitted, true: [U, K] of U users.
        names: of the shapes.
        sha256: of the weights.
        frames: of each user.
    """
    middle, target = fitted.mean(axis=0), true.mean(axis=0)
    apart = fitted - middle
    square = apart.T @ apart + _RIDGE * np.eye(fitted.shape[1])
    matrix = np.linalg.solve(square, apart.T @ (true - target))
    return ShapeBias(matrix, target - middle @ matrix, names, sha256, len(fitted), frames)


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


# Fits hands that share a shape to what a network and a camera said of many frames.


_DAMPING = 0.15  # per rad^2; of lengths the same share of a finger bone's square


class ShapeFit:
    """Lowers the frames' energy over their poses, and over the shape they share where wanted.

    Args:
        template: HandTemplate.
        shapes: K linear shapes of it.
        weights: of the energy's terms.
    """

    def __init__(
        self,
        template,
        shapes: Shapes,
        weights: residuals.FitWeights | None = None,
    ):
        self._template, self._weights = template, weights or residuals.FitWeights()
        self.hand = skeleton(
            template, template.vertices, template.skinning_weights, shapes.joints, shapes.vertices
        )
        self._faces = np.ascontiguousarray(template.faces, np.int32)
        self.damping = np.full(self.hand.sizes[0], _DAMPING)
        self.damping[3:ROOT] /= solver.BONE_MM**2

    def __call__(
        self, seen: SeenFrames, steps: int, shape: np.ndarray | None = None
    ) -> solver.Solution:
        """Fits frames; those with an estimate that is not finite are no use here.

        Args:
            seen: N frames.
            steps: of Gauss-Newton.
            shape: [K] that the hand has; None: find it, from the mean shape on.
        """
        frames = residuals.SeenFrame(
            *(np.ascontiguousarray(getattr(seen, name)) for name in residuals.SeenFrame._fields)
        )
        return solver.minimise(
            lambda shape, poses: self.equations(shape, poses, frames),
            self.start(seen),
            np.zeros(self.hand.sizes[1]) if shape is None else np.asarray(shape, np.float64),
            steps,
            solver.Damping(self.damping),
            (lambda energy: _trust(energy, seen.confidence)) if shape is None else None,
        )

    def posed(self, shape: np.ndarray, poses: Poses) -> tuple[np.ndarray, np.ndarray]:
        """[N, P, 4, 4] rigid camera_from_template of the shaped hand, and [N, V, 3] mm."""
        return posed_hands(self.hand, shape, *poses, room(self.hand))

    def start(self, seen: SeenFrames) -> Poses:
        """The poses to begin at: the network's, with angles within the limits."""
        transforms = tf.constant(seen.transforms)
        scale = kinematics.scales(transforms[:, :1]).numpy()
        rotation = (seen.transforms[:, 0, :3, :3] / scale[..., np.newaxis]).astype(np.float64)
        template, limits = self._template, self.hand.limits
        angles = kinematics.joint_angles(
            transforms, template.bone_from_template, template.parents
        ).numpy()
        angles = np.clip(angles.astype(np.float64), limits[..., 0], limits[..., 1])
        angles[:, 0] = 0
        count = len(rotation)
        poses = Poses(rotation, np.zeros([count, 3]), angles, np.zeros([count, 0]))
        middle = self.posed(np.zeros(self.hand.sizes[1]), poses)[1].mean(axis=1)
        return poses._replace(place=seen.sampled.mean(axis=1, dtype=np.float64) - middle)

    def equations(self, shape, poses: Poses, frames: residuals.SeenFrame) -> solver.Equations:
        """The frames' normal equations."""
        out = solver.equations_of(len(poses.place), sum(self.hand.sizes))
        rows = residuals.frame_rows(
            len(self.hand.points), frames.points.shape[1], sum(self.hand.sizes)
        )
        residuals.frame_equations(
            self.hand, self._faces, self._weights, shape, *poses, frames, room(self.hand), rows, out
        )
        return out


def _trust(energy, confidence):
    """[N] say of a frame in the shape: none where the network is lost.

    Near the squared confidence up to the frames' median energy, near 0 from twice as much on.
    """
    return confidence**2 / (1 + (energy / (1.3 * np.median(energy))) ** 6)
