"""Hands that hold still: a filter on root, rotations and bone lengths, and the mesh posed anew."""

import dataclasses
import math

import numpy as np
from scipy.spatial.transform import Rotation

from dgn_tf.geometry import kinematics
from dgn_tf.geometry.mirror import mirror_points, mirror_transforms

FILTERS = ("none", "one_euro")
_BREAK_S = 0.5  # a longer gap between frames, or time that runs back, begins anew
_CALIBRATION_S = 8.0  # bones: the mean over all frames first, then over about so many seconds
_RATE = 30.0  # frames a second, of the first frame


@dataclasses.dataclass(frozen=True)
class OneEuroSettings:
    """Of a One Euro filter (Casiez, Roussel and Vogel, CHI 2012).

    Attributes:
        cutoff_hz: below it what holds still passes.
        by_speed: Hz by which the cutoff rises for each unit of speed.
        speed_cutoff_hz: of the speed's own low pass.
    """

    cutoff_hz: float
    by_speed: float
    speed_cutoff_hz: float


# Of mm and of radians; measured by benchmarks/tracking.py: 0.5 mm of jitter, a frame of lag.
PLACE = OneEuroSettings(0.5, 0.05, 2.0)
TURN = OneEuroSettings(0.5, 1.8, 1.0)


def _gain(cutoff_hz, seconds):
    """Of an exponential low pass: the share of the new value."""
    return 1.0 / (1.0 + 1.0 / (2.0 * math.pi * cutoff_hz * seconds))


class OneEuroPoint:
    """Filters a point [3]: a One Euro filter of what a constant velocity does not foretell.

    The plain filter is behind what moves, by its speed over its cutoff; with the velocity, which
    follows by the gain of a critically damped filter, a steady motion passes whole.
    """

    def __init__(self, settings: OneEuroSettings = PLACE):
        self._settings = settings
        self._value: np.ndarray | None = None
        self._given = self._speed = self._velocity = np.zeros(3)

    def __call__(self, value: np.ndarray, seconds: float) -> np.ndarray:
        """The filtered point, `seconds` after the one before."""
        if self._value is None:
            self._value = self._given = np.array(value, np.float64)
            return self._value
        change = (value - self._given) / seconds
        self._given = np.array(value, np.float64)
        low = _gain(self._settings.speed_cutoff_hz, seconds)
        self._speed = self._speed + low * (change - self._speed)
        cutoff = self._settings.cutoff_hz + self._settings.by_speed * np.linalg.norm(self._speed)
        gain = _gain(cutoff, seconds)
        foretold = self._value + seconds * self._velocity
        off = value - foretold
        self._value = foretold + gain * off
        self._velocity = self._velocity + gain**2 / (2 - gain) * off / seconds
        return self._value


class OneEuroTurns:
    """Filters rotations [P], each by its own speed, along the shortest way."""

    def __init__(self, settings: OneEuroSettings = TURN):
        self._settings = settings
        self._value: Rotation | None = None
        self._speed = np.zeros(3)

    def __call__(self, value: Rotation, seconds: float) -> Rotation:
        """The filtered rotations, `seconds` after those before."""
        if self._value is None:
            self._value, self._speed = value, np.zeros([len(value), 3])
            return value
        step = (self._value.inv() * value).as_rotvec()
        self._speed += _gain(self._settings.speed_cutoff_hz, seconds) * (
            step / seconds - self._speed
        )
        speed = np.linalg.norm(self._speed, axis=1, keepdims=True)
        gain = _gain(self._settings.cutoff_hz + self._settings.by_speed * speed, seconds)
        self._value = self._value * Rotation.from_rotvec(gain * step)
        return self._value


class RunningMean:
    """The mean of what came so far; of long streams that of the last seconds, exponentially."""

    def __init__(self, seconds: float = _CALIBRATION_S):
        self._seconds, self._count = seconds, 0
        self._mean: np.ndarray | None = None

    def __call__(self, value: np.ndarray, seconds: float) -> np.ndarray:
        self._count += 1
        if self._mean is None:
            self._mean = np.array(value, np.float64)
        gain = max(1.0 / self._count, min(1.0, seconds / self._seconds))
        self._mean = self._mean + gain * (value - self._mean)
        return self._mean


class PosedTemplate:
    """A template's vertices and key points as transforms pose them, in numpy.

    Args:
        template: `HandTemplate` of the model.
    """

    def __init__(self, template):
        rest = np.concatenate([template.vertices, template.keypoints])
        weights = np.concatenate([template.skinning_weights, template.keypoint_weights])
        self._basis, self._vertices = (
            kinematics.skinning_basis(rest, weights),
            len(template.vertices),
        )
        self.bones = np.asarray(template.bone_from_template, np.float64)
        self.from_bones = np.linalg.inv(self.bones)
        self.parents = np.asarray(template.parents)
        self.middle = self.from_bones[:, :3, 3].mean(axis=0)  # of the joints, at rest

    def __call__(self, transforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[V, 3] vertices and [J, 3] key points, mm, of a right hand's transforms [P, 4, 4]."""
        origin = transforms[0, :3, 3]
        rows = np.array(transforms[:, :3])
        rows[:, :, 3] -= origin  # float32 keeps another two digits so
        rows = rows.transpose(1, 0, 2).reshape(3, -1).astype(np.float32)
        # No BLAS: its threads, among TensorFlow's, cost more than so small a product.
        posed = np.einsum("ij,jk->ki", rows, self._basis) + origin.astype(np.float32)
        return posed[: self._vertices], posed[self._vertices :]


class SteadyHand:
    """Filters one hand's meshes, frame by frame.

    Root: place and turn by One Euro filters; joints: turns likewise; scales and places of the
    joints, which make the bones' lengths, are the running means of what was seen so far.

    Args:
        posed: `PosedTemplate` of the model.
    """

    def __init__(self, posed: PosedTemplate):
        self._posed = posed
        self._bones = RunningMean()
        self.restart()
        self._time_s: float | None = None

    def restart(self) -> None:
        """Forgets where the hand was, as after a gap; its bones stay."""
        self._place, self._turns = OneEuroPoint(), OneEuroTurns()
        self._time_s = None

    def __call__(self, mesh, time_s: float):
        """The `HandMesh` with filtered vertices, key points, transforms and joint angles."""
        seconds = 1 / _RATE
        if self._time_s is not None:
            seconds = time_s - self._time_s
            if not 0 < seconds <= _BREAK_S:
                self.restart()
                seconds = 1 / _RATE
        self._time_s = time_s
        posed, left = self._posed, mesh.hand == "left"
        transforms = np.asarray(mesh.transforms, np.float64)
        if left:
            transforms = mirror_transforms(transforms)
        local = self._local(transforms)
        scale = np.linalg.norm(local[:, :3, 0], axis=1)
        turns = Rotation.from_matrix(local[:, :3, :3] / scale[:, None, None])
        place = transforms[0, :3, :3] @ posed.middle + transforms[0, :3, 3]
        bones = np.concatenate([np.log(scale)[:, None], local[:, :3, 3]], axis=1)  # [P, 4]
        held = self._bones(bones, seconds)
        local[:, :3, 3] = held[:, 1:]
        turns = self._turns(turns, seconds)
        local[:, :3, :3] = turns.as_matrix() * np.exp(held[:, 0])[:, None, None]
        transforms = self._global(local)
        filtered = self._place(place, seconds)
        transforms[:, :3, 3] += filtered - (
            transforms[0, :3, :3] @ posed.middle + transforms[0, :3, 3]
        )
        vertices, keypoints = posed(transforms)
        if left:
            vertices, keypoints = mirror_points(vertices), mirror_points(keypoints)
            transforms = mirror_transforms(transforms)
        return dataclasses.replace(
            mesh,
            vertices=vertices,
            keypoints=keypoints,
            transforms=transforms.astype(np.float32),
            joint_angles=turns.as_euler("XYZ").astype(np.float32),
        )

    def _local(self, transforms) -> np.ndarray:
        """L of Eq. (12), [P, 4, 4]."""
        above = transforms[self._posed.parents]
        above[0] = np.eye(4)
        # Of similarities, the inverse is the transpose over the squared scale.
        squared = (above[:, :3, :1] ** 2).sum(axis=1, keepdims=True)
        inverse = np.zeros_like(above)
        inverse[:, :3, :3] = above[:, :3, :3].transpose(0, 2, 1) / squared
        inverse[:, :3, 3:] = -inverse[:, :3, :3] @ above[:, :3, 3:]
        inverse[:, 3, 3] = 1.0
        return self._posed.bones @ inverse @ transforms @ self._posed.from_bones

    def _global(self, local) -> np.ndarray:
        """T of Eq. (12), [P, 4, 4]."""
        transforms = self._posed.from_bones @ local @ self._posed.bones
        for part, parent in enumerate(self._posed.parents):
            if part:  # a parent stands before its children
                transforms[part] = transforms[parent] @ transforms[part]
        return transforms


class SteadyMeshes:
    """A predictor of a recording's frames, called in their order, whose hand is held steady.

    Args:
        predict: called with a frame, gives a `HandMesh`; with its `template`.
        rate: frames a second, over 2: longer gaps begin anew.
    """

    def __init__(self, predict, rate: float):
        self._predict, self.template = predict, predict.template
        self._steady, self._step = SteadyHand(PosedTemplate(self.template)), 1 / rate
        self._frames = 0

    def __call__(self, *arguments, **named):
        """The filtered mesh; errors are the predictor's, and time goes on over them."""
        self._frames += 1
        return self._steady(self._predict(*arguments, **named), self._frames * self._step)
