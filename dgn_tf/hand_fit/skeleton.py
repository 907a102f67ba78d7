"""A hand of any shape with joints that hold, its vertices and how they move: compiled."""

from typing import NamedTuple

import numpy as np

from dgn_tf.compiled import kernel
from dgn_tf.data.hand_layout import sparse
from dgn_tf.data.posing import euler_rotation
from dgn_tf.geometry.kinematics import rigid_inverse
from dgn_tf.hand_fit.shapes import Shapes

ROOT = 6  # a pose's first parameters: the root's turn and move


class FitHand(NamedTuple):
    """What the kernels need of a template and its K linear shapes; contiguous, float64, mm."""

    vertices: np.ndarray  # [V, 3] at rest, of the mean shape
    joints: np.ndarray  # [P, 3]
    shape_vertices: np.ndarray  # [V, 3, K]
    shape_joints: np.ndarray  # [P, 3, K]
    faces: np.ndarray  # [F, 3] int32
    skin_part: np.ndarray  # [V, S] int32
    skin_weight: np.ndarray  # [V, S]
    carried: np.ndarray  # [V, P] share of a vertex that turns with a part's joint
    parents: np.ndarray  # [P] int32
    bone_rotation: np.ndarray  # [P, 3, 3] template_from_bone
    limits: np.ndarray  # [P, 3, 2] radians


class PosedHand(NamedTuple):
    """A hand in the camera's frame; float64, mm."""

    rotation: np.ndarray  # [P, 3, 3] camera_from_template
    joints: np.ndarray  # [P, 3]
    vertices: np.ndarray  # [V, 3]
    axes: np.ndarray  # [P, 3, 3] rows: what the joint's angles turn about; the root's: x, y, z
    shifts: np.ndarray  # [P, 3, K] how a shape moves the part, but for its own offsets


def fit_hand(template, shapes: Shapes) -> FitHand:
    """Lays out a template (HandTemplate) with its shapes."""
    template_from_bone = rigid_inverse(np.asarray(template.bone_from_template, np.float64))
    parents = np.asarray(template.parents, np.int32)
    below = np.eye(len(parents))
    for part in range(len(parents) - 1, 0, -1):
        below[parents[part]] += below[part]
    skin_part, skin_weight = sparse(np.asarray(template.skinning_weights))
    return FitHand(
        np.array(template.vertices, np.float64),
        np.ascontiguousarray(template_from_bone[:, :3, 3]),
        np.ascontiguousarray(np.moveaxis(shapes.vertices, 0, -1)),
        np.ascontiguousarray(np.moveaxis(shapes.joints, 0, -1)),
        np.ascontiguousarray(template.faces, np.int32),
        skin_part,
        skin_weight,
        np.ascontiguousarray(np.asarray(template.skinning_weights, np.float64) @ below.T),
        parents,
        np.ascontiguousarray(template_from_bone[:, :3, :3]),
        np.array(template.joint_limits, np.float64),
    )


def empty_pose(hand: FitHand) -> PosedHand:
    """Room for `pose_hand`."""
    parts, shapes = len(hand.joints), hand.shape_joints.shape[-1]
    return PosedHand(
        np.empty([parts, 3, 3]),
        np.empty([parts, 3]),
        np.empty_like(hand.vertices),
        np.empty([parts, 3, 3]),
        np.empty([parts, 3, shapes]),
    )


@kernel
def shaped(hand, shape):
    """([V, 3] vertices, [P, 3] joints) at rest of the hand with coefficients `shape` [K]."""
    vertices, joints = hand.vertices.copy(), hand.joints.copy()
    for v in range(len(vertices)):
        for i in range(3):
            for k in range(len(shape)):
                vertices[v, i] += shape[k] * hand.shape_vertices[v, i, k]
    for p in range(len(joints)):
        for i in range(3):
            for k in range(len(shape)):
                joints[p, i] += shape[k] * hand.shape_joints[p, i, k]
    return vertices, joints


@kernel
def pose_hand(hand, rest, rest_joints, rotation, place, angles, out):
    """Fills `out`, a PosedHand, by linear blend skinning (Eq. 12 with t = 0).

    Args:
        hand: FitHand.
        rest, rest_joints: of `shaped`.
        rotation: [3, 3] camera_from_template of the root.
        place: [3] mm of the root's joint, camera frame.
        angles: [P, 3] radians about the bones' axes.
    """
    _pose_parts(hand, rest_joints, rotation, place, angles, out)
    for v in range(len(rest)):
        for i in range(3):
            out.vertices[v, i] = 0.0
        for s in range(hand.skin_part.shape[1]):
            weight = hand.skin_weight[v, s]
            if weight == 0.0:
                break
            p = hand.skin_part[v, s]
            for i in range(3):
                moved = out.joints[p, i]
                for j in range(3):
                    moved += out.rotation[p, i, j] * (rest[v, j] - rest_joints[p, j])
                out.vertices[v, i] += weight * moved


@kernel
def _pose_parts(hand, rest_joints, rotation, place, angles, out):
    """The fields of `out` but for the vertices."""
    turn, world = np.empty((3, 3)), np.empty((3, 3))
    for i in range(3):
        out.joints[0, i] = place[i]
        for j in range(3):
            out.rotation[0, i, j] = rotation[i, j]
            out.axes[0, i, j] = 1.0 if i == j else 0.0
    for p in range(len(rest_joints)):
        q = hand.parents[p]
        if p > 0:
            _multiply(out.rotation[q], hand.bone_rotation[p], world)
            _euler_axes(angles[p], world, out.axes[p])
            euler_rotation(angles[p, 0], angles[p, 1], angles[p, 2], turn)
            _multiply(world, turn, world)
            _multiply(world, hand.bone_rotation[p].T, out.rotation[p])
            for i in range(3):
                out.joints[p, i] = out.joints[q, i]
                for j in range(3):
                    bone = rest_joints[p, j] - rest_joints[q, j]
                    out.joints[p, i] += out.rotation[q, i, j] * bone
        _shift(hand, p, q, out)


@kernel
def _multiply(first, second, out):
    """out = first @ second, [3, 3] each; `out` may be one of them."""
    product = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                product[i, j] += first[i, k] * second[k, j]
    for i in range(3):
        for j in range(3):
            out[i, j] = product[i, j]


@kernel
def _euler_axes(angles, world, out):
    """Fills `out` [3, 3]: its rows are what the angles of Rx @ Ry @ Rz turn about."""
    turn = np.empty((3, 3))
    for axis in range(3):
        x = angles[0] if axis > 0 else 0.0
        y = angles[1] if axis > 1 else 0.0
        euler_rotation(x, y, 0.0, turn)
        for i in range(3):
            out[axis, i] = 0.0
            for j in range(3):
                out[axis, i] += world[i, j] * turn[j, axis]


@kernel
def _shift(hand, p, q, out):
    """Fills `out.shifts[p]`: the joint moves with the shapes of the parent q, and the part's own
    offsets are about its joint."""
    for k in range(out.shifts.shape[2]):
        for i in range(3):
            moved = out.shifts[q, i, k] if p > 0 else 0.0
            for j in range(3):
                if p > 0:
                    moved += out.rotation[q, i, j] * hand.shape_joints[p, j, k]
                moved -= out.rotation[p, i, j] * hand.shape_joints[p, j, k]
            out.shifts[p, i, k] = moved


@kernel
def fill_rows(hand, posed, v, out):
    """Fills `out` [3, 6 + 3 (P - 1) + K]: how vertex v moves with the pose and the shape.

    In the order of the columns: the root's turn (radians, camera axes, about its joint) and move
    (mm), the angles of parts 1 .. P - 1, the shape coefficients.
    """
    parts = len(hand.joints)
    vertices = posed.vertices
    out[:, :] = 0.0
    for i in range(3):
        out[i, 3 + i] = 1.0
    for p in range(parts):
        share = hand.carried[v, p]
        if share == 0.0:
            continue
        x = share * (vertices[v, 0] - posed.joints[p, 0])
        y = share * (vertices[v, 1] - posed.joints[p, 1])
        z = share * (vertices[v, 2] - posed.joints[p, 2])
        first = 0 if p == 0 else 3 + 3 * p
        for axis in range(3):
            a, b, c = posed.axes[p, axis, 0], posed.axes[p, axis, 1], posed.axes[p, axis, 2]
            out[0, first + axis] = b * z - c * y
            out[1, first + axis] = c * x - a * z
            out[2, first + axis] = a * y - b * x
    _shape_columns(hand, posed, v, out[:, 3 + 3 * parts :])


@kernel
def _shape_columns(hand, posed, v, out):
    """Fills `out` [3, K]: how vertex v moves with the shapes, its joints' moves and its own."""
    rotation = np.zeros((3, 3))
    for s in range(hand.skin_part.shape[1]):
        weight = hand.skin_weight[v, s]
        if weight == 0.0:
            break
        p = hand.skin_part[v, s]
        for i in range(3):
            for j in range(3):
                rotation[i, j] += weight * posed.rotation[p, i, j]
            for k in range(out.shape[1]):
                out[i, k] += weight * posed.shifts[p, i, k]
    for i in range(3):
        for j in range(3):
            for k in range(out.shape[1]):
                out[i, k] += rotation[i, j] * hand.shape_vertices[v, j, k]


@kernel
def posed_hands(hand, shape, rotation, place, angles, posed):
    """N hands of one shape [K], see `pose_hand`; `posed` is overwritten.

    Returns:
        [N, P, 4, 4] camera_from_template of the shaped hand's own rest, rigid; [N, V, 3] vertices,
        mm, camera frame.
    """
    rest, joints = shaped(hand, shape)
    transforms = np.zeros((len(place), len(joints), 4, 4))
    vertices = np.empty((len(place), len(rest), 3))
    for n in range(len(place)):
        pose_hand(hand, rest, joints, rotation[n], place[n], angles[n], posed)
        vertices[n] = posed.vertices
        for p in range(len(joints)):
            transforms[n, p, 3, 3] = 1.0
            for i in range(3):
                moved = posed.joints[p, i]
                for j in range(3):
                    transforms[n, p, i, j] = posed.rotation[p, i, j]
                    moved -= posed.rotation[p, i, j] * joints[p, j]
                transforms[n, p, i, 3] = moved
    return transforms, vertices
