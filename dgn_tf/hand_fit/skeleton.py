"""Hands of any shape with joints that hold (Eq. 12 with t = 0), their points and how they move.

Two forms, held to each other by a test: compiled with derivatives for the fits, and
`posed_joints` in TensorFlow for what runs inside a training step.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dgn_tf.compiled import kernel
from dgn_tf.geometry import kinematics
from dgn_tf.synthesis.hand_measures import sparse
from dgn_tf.synthesis.posing import euler_rotation

ROOT = 6  # a pose's first parameters: the root's turn and move


class Skeleton(NamedTuple):
    """A template's points (vertices or key points), K linear shapes, S parts with a scale of their
    own; contiguous, float64, mm."""

    points: np.ndarray  # [V, 3] at rest, of the mean shape
    joints: np.ndarray  # [P, 3]
    shape_points: np.ndarray  # [V, 3, K]
    shape_joints: np.ndarray  # [P, 3, K]
    skin_part: np.ndarray  # [V, W] int32
    skin_weight: np.ndarray  # [V, W]
    parents: np.ndarray  # [P] int32
    bone_rotation: np.ndarray  # [P, 3, 3] template_from_bone
    limits: np.ndarray  # [P, 3, 2] radians
    scaled: np.ndarray  # [P] int32: which of a pose's scales is the part's own; -1: its parent's

    @property
    def sizes(self) -> tuple[int, int]:
        """How many parameters a pose has, and how many a shape."""
        return 3 + 3 * len(self.joints) + int(self.scaled.max()) + 1, self.shape_joints.shape[-1]


class Poses(NamedTuple):
    """N posed hands; float64.

    rotation: [N, 3, 3] of the root, camera_from_template.
    place: [N, 3] mm of the root's joint, camera frame.
    angles: [N, P, 3] radians about the bone frames' axes; the root's are 0.
    log_scales: [N, S] logarithms of the scales of `Skeleton.scaled`, relative to the parents'.
    """

    rotation: np.ndarray
    place: np.ndarray
    angles: np.ndarray
    log_scales: np.ndarray

    def where(self, chosen, others: "Poses") -> "Poses":
        """Of each frame this pose where `chosen` [N], or the other."""
        return Poses(
            *(
                np.where(chosen.reshape([-1] + [1] * (a.ndim - 1)), a, b)
                for a, b in zip(self, others, strict=True)
            )
        )


class Posed(NamedTuple):
    """Room for one hand, at rest and in the camera's frame; float64, mm."""

    rest: np.ndarray  # [V, 3] of the shape
    rest_joints: np.ndarray  # [P, 3]
    linear: np.ndarray  # [P, 3, 3] camera_from_template: scale times rotation
    joints: np.ndarray  # [P, 3]
    points: np.ndarray  # [V, 3]
    axes: np.ndarray  # [P, 3, 3] rows: what the joint's angles turn about; the root's: x, y, z
    shifts: np.ndarray  # [P, 3, K] how a shape moves the part, but for its own offsets


def skeleton(
    template, points, weights, shapes=None, shape_points=None, scaled: tuple[str, ...] = ()
) -> Skeleton:
    """Lays out a template.

    Args:
        template: HandTemplate.
        points: [V, 3] mm at rest, what is posed; weights: [V, P] of the parts.
        shapes: [K, P, 3] mm, offsets of the joints, and shape_points: [K, V, 3]; None: no shapes.
        scaled: parts that have a scale of their own.
    """
    template_from_bone = kinematics.rigid_inverse(
        np.asarray(template.bone_from_template, np.float64)
    )
    joints, points = template_from_bone[:, :3, 3], np.array(points, np.float64)
    if shapes is None:
        shapes, shape_points = np.zeros([0, *joints.shape]), np.zeros([0, *points.shape])
    numbers = np.full(len(joints), -1, np.int32)
    chosen = [p for p, name in enumerate(template.part_names) if name in scaled]
    numbers[chosen] = np.arange(len(chosen))
    part, weight = sparse(np.asarray(weights))
    return Skeleton(
        points,
        np.ascontiguousarray(joints),
        np.ascontiguousarray(np.moveaxis(shape_points, 0, -1)),
        np.ascontiguousarray(np.moveaxis(shapes, 0, -1)),
        part,
        weight,
        np.asarray(template.parents, np.int32),
        np.ascontiguousarray(template_from_bone[:, :3, :3]),
        np.array(template.joint_limits, np.float64),
        numbers,
    )


def room(hand: Skeleton) -> Posed:
    """Room for `shape_hand` and `pose_hand`."""
    points, parts, shapes = len(hand.points), len(hand.joints), hand.shape_joints.shape[-1]
    sizes = [(points, 3), (parts, 3), (parts, 3, 3), (parts, 3), (points, 3), (parts, 3, 3)]
    return Posed(*(np.empty(size) for size in [*sizes, (parts, 3, shapes)]))


@kernel
def shape_hand(hand, shape, out):
    """Fills `rest` and `rest_joints` of `out` with the hand of coefficients `shape` [K]."""
    for i in range(3):
        for v in range(len(out.rest)):
            out.rest[v, i] = hand.points[v, i]
            for k in range(len(shape)):
                out.rest[v, i] += shape[k] * hand.shape_points[v, i, k]
        for p in range(len(out.joints)):
            out.rest_joints[p, i] = hand.joints[p, i]
            for k in range(len(shape)):
                out.rest_joints[p, i] += shape[k] * hand.shape_joints[p, i, k]


@kernel
def pose_hand(hand, rotation, place, angles, log_scales, out):
    """Fills `out`, after `shape_hand`, by linear blend skinning; arguments of one of `Poses`."""
    turn, world = np.empty((3, 3)), np.empty((3, 3))
    for p in range(len(out.joints)):
        q, own = hand.parents[p], hand.scaled[p]
        scale = np.exp(log_scales[own]) if own >= 0 else 1.0
        if p == 0:
            out.joints[p] = place
            out.linear[p] = scale * rotation
            out.axes[p] = np.eye(3)
        else:
            _multiply(out.linear[q], hand.bone_rotation[p], world)
            _euler_axes(angles[p], world, out.axes[p])
            euler_rotation(angles[p, 0], angles[p, 1], angles[p, 2], turn)
            _multiply(world, scale * turn, world)
            _multiply(world, hand.bone_rotation[p].T, out.linear[p])
            _place(out, q, out.rest_joints[p], out.joints[p])
        _shift(hand, p, q, out)
    point = np.empty(3)
    for v in range(len(out.rest)):
        out.points[v] = 0.0
        for s in range(hand.skin_part.shape[1]):
            if hand.skin_weight[v, s] == 0.0:
                break
            _place(out, hand.skin_part[v, s], out.rest[v], point)
            for i in range(3):
                out.points[v, i] += hand.skin_weight[v, s] * point[i]


@kernel
def _place(posed, p, rest, out):
    """Fills `out` [3] with where part p carries a point [3] at rest."""
    for i in range(3):
        out[i] = posed.joints[p, i]
        for j in range(3):
            out[i] += posed.linear[p, i, j] * (rest[j] - posed.rest_joints[p, j])


@kernel
def _multiply(first, second, out):
    """out = first @ second, [3, 3] each; `out` may be one of them."""
    product = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                product[i, j] += first[i, k] * second[k, j]
    out[:, :] = product


@kernel
def _euler_axes(angles, world, out):
    """Fills `out` [3, 3]: its rows are what the angles of Rx @ Ry @ Rz turn about, unit vectors."""
    turn = np.empty((3, 3))
    for axis in range(3):
        x = angles[0] if axis > 0 else 0.0
        y = angles[1] if axis > 1 else 0.0
        euler_rotation(x, y, 0.0, turn)
        square = 0.0
        for i in range(3):
            out[axis, i] = 0.0
            for j in range(3):
                out[axis, i] += world[i, j] * turn[j, axis]
            square += out[axis, i] ** 2
        out[axis] /= np.sqrt(square)


@kernel
def _shift(hand, p, q, out):
    """Fills `out.shifts[p]`: the joint moves with the shapes of the parent q, and the part's own
    offsets are about its joint."""
    for k in range(out.shifts.shape[2]):
        for i in range(3):
            moved = out.shifts[q, i, k] if p > 0 else 0.0
            for j in range(3):
                if p > 0:
                    moved += out.linear[q, i, j] * hand.shape_joints[p, j, k]
                moved -= out.linear[p, i, j] * hand.shape_joints[p, j, k]
            out.shifts[p, i, k] = moved


@kernel
def fill_rows(hand, posed, v, out):
    """Fills `out` [3, parameters]: how point v moves with the pose and the shape.

    In the order of the columns: the root's turn (radians, camera axes, about its joint) and move
    (mm), the angles of parts 1 .. P - 1, the logarithms of the scales, the shape coefficients.
    """
    parts, shapes = len(hand.joints), hand.shape_joints.shape[2]
    first_scale, first_shape = 3 + 3 * parts, out.shape[1] - shapes
    out[:, :] = 0.0
    for i in range(3):
        out[i, 3 + i] = 1.0
    point = np.empty(3)
    for s in range(hand.skin_part.shape[1]):
        weight, p = hand.skin_weight[v, s], hand.skin_part[v, s]
        if weight == 0.0:
            break
        _place(posed, p, posed.rest[v], point)
        for i in range(3):
            for k in range(shapes):
                moved = posed.shifts[p, i, k]
                for j in range(3):
                    moved += posed.linear[p, i, j] * hand.shape_points[v, j, k]
                out[i, first_shape + k] += weight * moved
        while True:  # every part from here up to the root moves the point about its joint
            x = weight * (point[0] - posed.joints[p, 0])
            y = weight * (point[1] - posed.joints[p, 1])
            z = weight * (point[2] - posed.joints[p, 2])
            first = 0 if p == 0 else 3 + 3 * p
            for axis in range(3):
                a, b, c = posed.axes[p, axis, 0], posed.axes[p, axis, 1], posed.axes[p, axis, 2]
                out[0, first + axis] += b * z - c * y
                out[1, first + axis] += c * x - a * z
                out[2, first + axis] += a * y - b * x
            if hand.scaled[p] >= 0:
                column = first_scale + hand.scaled[p]
                out[0, column] += x
                out[1, column] += y
                out[2, column] += z
            if p == 0:
                break
            p = hand.parents[p]


@kernel
def posed_hands(hand, shape, rotation, place, angles, log_scales, posed):
    """N hands of one shape [K], the fields of `Poses`; `posed` is overwritten.

    Returns:
        [N, P, 4, 4] camera_from_template of the shaped hand's own rest; [N, V, 3] points, mm,
        camera frame.
    """
    shape_hand(hand, shape, posed)
    transforms = np.zeros((len(place), len(hand.joints), 4, 4))
    points = np.empty((len(place), len(hand.points), 3))
    for n in range(len(place)):
        pose_hand(hand, rotation[n], place[n], angles[n], log_scales[n], posed)
        points[n] = posed.points
        for p in range(len(hand.joints)):
            transforms[n, p, :3, :3] = posed.linear[p]
            transforms[n, p, 3, 3] = 1.0
            _place(posed, p, np.zeros(3), transforms[n, p, :3, 3])
    return transforms, points


def moved(poses: Poses, change: np.ndarray) -> Poses:
    """The poses after a change [N, D] of their parameters, in the order of `fill_rows`."""
    parts = poses.angles.shape[1]
    turn = kinematics.rotation_from_angles(tf.constant(change[:, :3])).numpy()
    angles = poses.angles.copy()
    angles[:, 1:] += change[:, ROOT : 3 + 3 * parts].reshape(len(angles), parts - 1, 3)
    return Poses(
        turn @ poses.rotation,
        poses.place + change[:, 3:ROOT],
        angles,
        poses.log_scales + change[:, 3 + 3 * parts :],
    )


def posed_joints(angles, shape, shapes, bones, parents):
    """The joints of hands with the root at rest, in TensorFlow.

    Args:
        angles: [B, P, 3] radians; shape: [B, K].
        shapes: [K, P, 3] mm, offsets of the joints.
        bones: [P, 4, 4] bone_from_template; parents: [P].

    Returns:
        [B, P, 3] mm, template frame, the root's own joint held at rest.
    """
    dtype, bones = angles.dtype, np.asarray(bones, np.float64)
    bone_vectors = shapes - shapes[:, parents]
    offsets = tf.tensordot(shape, tf.constant(bone_vectors, dtype), 1)  # [B, P, 3]
    in_bone = tf.linalg.matvec(tf.constant(bones[:, :3, :3], dtype), offsets)
    local = kinematics.affine(kinematics.rotation_from_angles(angles), in_bone[..., tf.newaxis])
    posed = kinematics.global_from_local(local, bones, parents)
    at_rest = tf.constant(kinematics.rigid_inverse(bones)[:, :3, 3], dtype)
    return tf.linalg.matvec(posed[..., :3, :3], at_rest) + posed[..., :3, 3]
