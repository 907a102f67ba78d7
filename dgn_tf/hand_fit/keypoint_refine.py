"""All parameters of a frame at once: damped Gauss-Newton on the key points' residuals."""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dgn_tf.geometry.kinematics import affine, rotation_from_angles
from dgn_tf.hand_fit.rig import KeypointRig, Pose

_ROOT = 7  # turn, move, log scale


@dataclasses.dataclass(frozen=True)
class RefineConfig:
    """Weights in mm of residual, so that they compare with key points.

    Attributes:
        iterations: steps of each of two rounds; the first has `first_round` times the weights of
            angles, so that no bone flips to where the second could not bring it back from.
        limit_weight: mm for each radian beyond a joint's limits.
        twist_weight: the same for the turn about the bone's own axis, of which key points on the
            bone tell little.
        far_weight: mm, besides, for each radian beyond `far` (rad) past the limits.
        rest_weight: mm for each radian from rest: decides what no key point tells.
        robust_mm: residuals beyond count by their length, not by their square: a hand whose palm
            is one part can't follow some points, and the rest should not suffer for them.
        scale_weight: mm for each unit of a finger's log scale, from where it begins.
    """

    iterations: int = 15
    first_round: float = 6.0
    limit_weight: float = 1.0
    twist_weight: float = 2.0
    far_weight: float = 20.0
    far: float = 0.35
    rest_weight: float = 0.05
    robust_mm: float = 1.0
    scale_weight: float = 0.5


def refine(
    rig: KeypointRig,
    start: Pose,
    keypoints: np.ndarray,
    valid: np.ndarray,
    config: RefineConfig = RefineConfig(),
    fixed_scales: bool = False,
    chunk: int = 512,
) -> Pose:
    """Minimises key-point residuals and the config's terms, frame by frame, in batches.

    Levenberg's and Marquardt's damping, by frame: a step that does not lower a frame's sum is not
    taken there.

    Args:
        rig: skeleton and key points.
        start: poses to begin at, see `closed_form.fit_chains`.
        keypoints: [N, J, 3] mm, camera frame; anything where not valid.
        valid: [N, J] bool.
        config: weights and number of steps.
        fixed_scales: keep the fingers' scales as they are.
        chunk: frames at once.

    Returns:
        The poses; always finite.
    """
    if not len(keypoints):
        return start
    solve = _solver(rig, config, fixed_scales)
    parts = []
    for first in range(0, len(keypoints), chunk):
        rows = slice(first, first + chunk)
        points = np.where(valid[rows, :, None], keypoints[rows], 0.0).astype(np.float64)
        pose = Pose(*(value[rows] for value in start))
        given = [pose.log_scales, points, valid[rows].astype(np.float64)]
        for times in (config.first_round, 1.0):
            pose = Pose(*solve(tf.constant(times, tf.float64), *pose, *given))
        parts.append(pose)
    return Pose(*(tf.concat(values, axis=0) for values in zip(*parts, strict=True)))


@functools.lru_cache(maxsize=8)
def _solver(rig, config, fixed_scales):
    """One round for any number of frames, compiled; tracing takes longer than a few frames."""
    shapes = [
        [],
        [None, 4, 4],
        [None, len(rig.parents), 3],
        [None, len(rig.scaled)],
        [None, len(rig.scaled)],
        [None, len(rig.keypoints), 3],
        [None, len(rig.keypoints)],
    ]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float64) for shape in shapes])
    def solve(times, root, angles, log_scales, *problem):
        weights = _angle_weights(config, times)
        pose = Pose(root, angles, log_scales)
        return _solve(_Problem(rig, config, weights, fixed_scales, *problem), pose)

    return solve


def _angle_weights(config, times):
    """Those of the limits [3] (x, y, z) and of rest, mm / rad."""
    limit = [config.limit_weight, config.limit_weight, config.twist_weight]
    return times * tf.constant(limit, tf.float64), times * config.rest_weight


class _Problem(NamedTuple):
    """What does not change from step to step."""

    rig: KeypointRig
    config: RefineConfig
    angle_weights: tuple[tf.Tensor, tf.Tensor]
    fixed_scales: bool
    log_scales: tf.Tensor  # [N, S] where they begin
    points: tf.Tensor  # [N, J, 3]
    valid: tf.Tensor  # [N, J] 0 or 1


def _solve(problem, pose):
    damping = tf.fill([tf.shape(problem.points)[0]], tf.constant(1e-2, tf.float64))
    cost = _cost(problem, pose)
    for _ in tf.range(problem.config.iterations):
        gradient, hessian = _normal_equations(problem, pose)
        diagonal = tf.linalg.diag_part(hessian)
        # A parameter that nothing tells about has a zero row: the constant keeps it solvable.
        damped = tf.linalg.set_diag(hessian, diagonal * (1 + damping[:, None]) + 1e-9)
        step = -tf.linalg.cholesky_solve(tf.linalg.cholesky(damped), gradient[..., None])[..., 0]
        trial = _moved(problem.rig, pose, step)
        trial_cost = _cost(problem, trial)
        better = trial_cost < cost  # False where the trial is NaN
        pose = Pose(*(_choose(better, new, old) for new, old in zip(trial, pose, strict=True)))
        cost = _choose(better, trial_cost, cost)
        damping = tf.clip_by_value(tf.where(better, damping / 4, damping * 6), 1e-7, 1e9)
    return pose


def _choose(condition, new, old):
    """`tf.where` by frame: condition [N], values [N, ...]."""
    return tf.where(tf.reshape(condition, [-1] + [1] * (len(new.shape) - 1)), new, old)


def _cost(problem, pose):
    """[N] the sum that is minimised, mm^2."""
    rig, (limit, rest) = problem.rig, problem.angle_weights
    off = rig.posed_keypoints(rig.transforms(pose)) - problem.points
    square = problem.config.robust_mm**2
    # Pseudo-Huber: r^2 for small residuals r, 2 robust_mm r for large ones.
    lengths = 2 * square * (tf.sqrt(1 + tf.reduce_sum(off**2, axis=-1) / square) - 1)
    cost = tf.reduce_sum(problem.valid * lengths, axis=1)
    cost += tf.reduce_sum((limit * _excess(rig, pose.angles)) ** 2, axis=[1, 2])
    beyond = _excess(rig, pose.angles, problem.config.far)
    cost += tf.reduce_sum((problem.config.far_weight * beyond) ** 2, axis=[1, 2])
    cost += tf.reduce_sum((rest * pose.angles) ** 2, axis=[1, 2])
    return cost + tf.reduce_sum((problem.config.scale_weight * _grown(problem, pose)) ** 2, axis=1)


def _excess(rig, angles, slack=0.0):
    """[N, P, 3] rad by which the angles exceed their limits by more than `slack`, signed."""
    low, high = rig.joint_limits[..., 0] - slack, rig.joint_limits[..., 1] + slack
    return angles - tf.clip_by_value(angles, low, high)


def _grown(problem, pose):
    """[N, S] how far the fingers' scales have come from where they began."""
    return pose.log_scales - problem.log_scales


def _normal_equations(problem, pose):
    """Half the cost's gradient [N, D] and Gauss-Newton's Hessian [N, D, D].

    D: turn, move and log scale of the root, the angles of the parts but the root, log scales.
    """
    rig, points = problem.rig, problem.points
    transforms = rig.transforms(pose)
    by_part = rig.posed_by_part(transforms)  # [N, P, J, 3]
    weights, below = tf.constant(rig.weights), tf.constant(rig.below)
    posed = tf.einsum("npji,jp->nji", by_part, weights)
    square = tf.reduce_sum((posed - points) ** 2, axis=-1)
    # The root of the slope of a point's term by its squared residual.
    told = tf.sqrt(problem.valid * tf.math.rsqrt(1 + square / problem.config.robust_mm**2))
    joints = tf.einsum("npik,pk->npi", transforms[..., :3, :3], tf.constant(rig.joints))
    joints += transforms[..., :3, 3]  # [N, P, 3]
    # What a part moves, seen from its joint: the sum over the parts below it of the weighted
    # key points, less the joint.
    carried = tf.einsum("pq,nqji,jq->npji", below, by_part, weights)
    lever = carried - tf.einsum("pq,jq->pj", below, weights)[..., None] * joints[:, :, None]
    pivot = _pivot(rig, pose.root)
    columns = [_turned(tf.eye(3, dtype=tf.float64)[None], (posed - pivot[:, None])[:, None])]
    count = tf.shape(points)[0]
    unit = tf.tile(tf.eye(3, dtype=tf.float64)[None, :, None], [count, 1, points.shape[1], 1])
    columns += [unit, (posed - pivot[:, None])[:, None]]
    axes = rig.axes(transforms, pose.angles)[:, 1:]  # [N, P-1, 3, 3]
    turned = tf.linalg.cross(*_alike(axes[:, :, :, None], lever[:, 1:, None]))
    columns.append(tf.reshape(turned, [count, -1, *points.shape[1:]]))
    columns.append(tf.gather(lever, rig.scaled, axis=1) * (0.0 if problem.fixed_scales else 1.0))
    jacobian = tf.concat(columns, axis=1) * told[:, None, :, None]  # [N, D, J, 3]
    jacobian = tf.reshape(
        jacobian, [count, _ROOT + 3 * (len(rig.parents) - 1) + len(rig.scaled), 3 * points.shape[1]]
    )
    residual = tf.reshape((posed - points) * told[..., None], [count, -1])
    gradient = tf.linalg.matvec(jacobian, residual)
    hessian = tf.linalg.matmul(jacobian, jacobian, transpose_b=True)
    extra, curvature = _priors(problem, pose)
    return gradient + extra, tf.linalg.set_diag(hessian, tf.linalg.diag_part(hessian) + curvature)


def _priors(problem, pose):
    """Gradient and diagonal curvature [N, D] of the terms of angles and scales."""
    limit, rest = problem.angle_weights
    angles = pose.angles[:, 1:]
    slope, bend = rest**2 * angles, rest**2
    for weight, slack in ((limit, 0.0), (problem.config.far_weight, problem.config.far)):
        excess = _excess(problem.rig, pose.angles, slack)[:, 1:]
        slope += weight**2 * excess
        bend += weight**2 * tf.cast(excess != 0, tf.float64)
    weight = problem.config.scale_weight**2
    count = tf.shape(angles)[0]
    root = tf.zeros([count, _ROOT], tf.float64)
    gradient = [root, tf.reshape(slope, [count, -1]), weight * _grown(problem, pose)]
    curvature = [root, tf.reshape(bend, [count, -1]), tf.zeros_like(pose.log_scales) + weight]
    return tf.concat(gradient, axis=1), tf.concat(curvature, axis=1)


def _turned(axes, lever):
    return tf.linalg.cross(*_alike(axes[:, :, None], lever))


def _alike(first, second):
    """Both broadcast to one shape: `cross` wants that."""
    shape = tf.broadcast_dynamic_shape(tf.shape(first), tf.shape(second))
    return tf.broadcast_to(first, shape), tf.broadcast_to(second, shape)


def _pivot(rig, root):
    """[N, 3] mm, the point about which the root turns: amid the key points."""
    centre = tf.constant(rig.keypoints.mean(axis=0))
    return tf.linalg.matvec(root[:, :3, :3], centre) + root[:, :3, 3]


def _moved(rig, pose, step):
    """The pose after a `step` [N, D]."""
    joints = 3 * (len(rig.parents) - 1)
    turn, move, scale = step[:, :3], step[:, 3:6], tf.clip_by_value(step[:, 6], -0.3, 0.3)
    pivot = _pivot(rig, pose.root)
    # Small turns about x, y, z are, to first order, the turn about their vector.
    linear = rotation_from_angles(turn) * tf.exp(scale)[:, None, None]
    offset = pose.root[:, :3, 3] - pivot
    translation = tf.linalg.matvec(linear, offset) + pivot + move
    root = affine(linear @ pose.root[:, :3, :3], translation[..., None])
    turned = tf.reshape(step[:, _ROOT : _ROOT + joints], tf.shape(pose.angles[:, 1:]))
    angles = tf.concat([pose.angles[:, :1], pose.angles[:, 1:] + turned], axis=1)
    return Pose(root, angles, pose.log_scales + step[:, _ROOT + joints :])
