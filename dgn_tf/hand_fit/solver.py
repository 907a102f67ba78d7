"""Damped Gauss-Newton over the poses of many frames, and over a shape that they share.

The shape's equations are those that are left when each frame's pose is eliminated. With
Marquardt's damping a frame's step that does not lower its energy is undone.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dgn_tf.hand_fit.skeleton import ROOT, Poses, moved

BONE_MM = 30.0
_LARGEST = 0.35  # rad (bones of BONE_MM) that a step may change
_FARTHEST_SHAPE = 6.0  # deviations: beyond, there is no hand; frames of noise would go there
_SHAPE_PRIOR = 0.003  # of the coefficients' squares, mm, against the mean over the frames


class Equations(NamedTuple):
    """N frames with D parameters of a pose and K of the shape.

    square: [N, D + K, D + K] J^T W J; right: [N, D + K] J^T W r, minus the energy's gradient.
    energy: [N].
    """

    square: np.ndarray
    right: np.ndarray
    energy: np.ndarray


def equations_of(frames: int, parameters: int) -> Equations:
    """Room for the equations of frames."""
    return Equations(
        np.empty([frames, parameters, parameters]), np.empty([frames, parameters]), np.empty(frames)
    )


class Damping(NamedTuple):
    """Of a pose's parameters: `absolute` [D] is added to the square's diagonal (Levenberg), and
    `relative` times the diagonal, from step to step less or more (Marquardt); 0: not at all."""

    absolute: np.ndarray
    relative: float = 0.0


class Solution(NamedTuple):
    """shape: [K]; poses: of the frames; energy: [N, 2] where each began and the least it came to,
    which is that of the poses."""

    shape: np.ndarray
    poses: Poses
    energy: np.ndarray


def minimise(
    equations: Callable[[np.ndarray, Poses], Equations],
    poses: Poses,
    shape: np.ndarray,
    steps: int,
    damping: Damping,
    trust: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Solution:
    """Lowers the frames' energies.

    Args:
        equations: of a shape and poses.
        poses, shape: where to begin.
        steps: to take.
        damping: of the poses' parameters.
        trust: each frame's say [N] in the shape, from the energies [N]; None: the shape is held.
    """
    now = equations(shape, poses)
    begun, least, kept = now.energy, now.energy, poses
    factor = np.full(len(begun), damping.relative)
    for _ in range(steps):
        share = None if trust is None else trust(now.energy)
        change, more = _solved(now, shape, damping.absolute, factor, share)
        shape = shape + more
        trial = moved(poses, _limited(change))
        new = equations(shape, trial)
        # A pose with less energy for a former shape is no better one.
        better = new.energy < least if trust is None else np.isfinite(new.energy)
        kept, least = trial.where(better, kept), np.where(better, new.energy, least)
        factor = np.clip(np.where(better, factor / 4, factor * 6), 1e-5 * damping.relative, 1e9)
        if trust is None and not damping.relative:
            poses, now = trial, new
        else:
            poses = kept
            for values, former in zip(new, now, strict=True):
                values[~better] = former[~better]
            now = new
    return Solution(shape, kept, np.stack([begun, least], axis=1))


def _solved(now, shape, absolute, factor, trust):
    """The poses' changes [N, D] and the shape's [K], 0 without `trust` [N]."""
    pose = now.right.shape[1] - len(shape)
    own, mixed = now.square[:, :pose, :pose], now.square[:, :pose, pose:]
    diagonal = np.einsum("nii->ni", own) * factor[:, np.newaxis] + absolute
    both = np.concatenate([mixed, now.right[:, :pose, np.newaxis]], axis=-1)
    solved = np.linalg.solve(own + diagonal[..., np.newaxis] * np.eye(pose), both)
    by_shape, alone = solved[..., :-1], solved[..., -1]
    if trust is None:
        return alone, np.zeros_like(shape)
    share = trust / trust.sum()
    left = now.square[:, pose:, pose:] - np.swapaxes(mixed, 1, 2) @ by_shape
    left = np.einsum("n,nij->ij", share, left) + _SHAPE_PRIOR * np.eye(len(shape))
    wanted = now.right[:, pose:] - np.einsum("npk,np->nk", mixed, alone)
    more = np.linalg.solve(left, share @ wanted - _SHAPE_PRIOR * shape)
    more = np.clip(shape + more, -_FARTHEST_SHAPE, _FARTHEST_SHAPE) - shape
    return alone - by_shape @ more, more


def _limited(change):
    """A change of poses [N, D] that no parameter takes farther than a small turn or move."""
    unit = np.ones(change.shape[1])
    unit[3:ROOT] = BONE_MM
    return unit * np.clip(change / unit, -_LARGEST, _LARGEST)
