"""The energies that fits minimise, as the normal equations of Gauss-Newton, compiled.

Of one frame's hand: Eq. 5 for single views, by the compiled forms of the terms in `losses`; and
labelled key points.
"""

from typing import NamedTuple

import numpy as np

from dgn_tf.compiled import kernel
from dgn_tf.hand_fit.skeleton import ROOT, fill_rows, pose_hand, shape_hand
from dgn_tf.losses.data_terms import facing_and_normals, nearest_allowed, smooth_l1_and_slope
from dgn_tf.losses.multi_view import looked_through

_EVERY = 8  # every eighth vertex speaks for those around it


class FitWeights(NamedTuple):
    """Weights of the terms; the letters of Eq. 5 where it has them. Distances are in mm.

    icp: of Eq. 7, the pixels against the nearest vertex that faces the camera.
    sliding: 0..1, how much of a distance along the surface counts there: a pixel lies between
        vertices.
    lifting: of Eq. 8, the pixels against the vertices of their correspondences.
    outside: of vertices where the camera sees that there is no hand. Eq. 7 alone lets hands grow:
        a finger too long costs it nothing.
    sampled: of the distance from the network's P_s.
    limits: of the angles beyond the joints' limits, per rad^2.
    delta, sampled_delta: mm, where a distance's square goes over into the line.
    """

    icp: float = 1.0
    sliding: float = 0.3
    lifting: float = 0.1
    outside: float = 0.3
    sampled: float = 0.03
    limits: float = 10.0
    delta: float = 5.0
    sampled_delta: float = 10.0


class SeenFrame(NamedTuple):
    """One of `seen_frames.SeenFrames`, or all of them, as far as the energy wants it."""

    sampled: np.ndarray
    points: np.ndarray
    counted: np.ndarray
    vertex: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray


class KeypointWeights(NamedTuple):
    """Weights in mm of residual, so that they compare with key points.

    limit: [3] mm for each radian beyond a joint's limits, of the turns about x, y, z.
    far_limit: mm, besides, for each radian beyond `far` (rad) past the limits.
    rest: mm for each radian from rest: decides what no key point tells.
    robust: residuals beyond, mm, count by their length, not by their square: a hand whose palm
        is one part can't follow some points, and the rest should not suffer for them.
    scale: mm for each unit of a finger's log scale, from where it begins.
    """

    limit: tuple[float, float, float]
    far_limit: float
    far: float
    rest: float
    robust: float
    scale: float


class Rows(NamedTuple):
    """Linear equations as they come: room for R of them."""

    jacobian: np.ndarray  # [R, parameters]
    residual: np.ndarray  # [R]


def frame_rows(vertices: int, pixels: int, parameters: int) -> Rows:
    """Room for the rows of a frame's pixels and vertices."""
    count = 3 * (2 * (vertices // _EVERY + 1) + 2 * pixels)
    return Rows(np.empty([count, parameters], np.float32), np.empty(count, np.float32))


@kernel
def frame_equations(
    hand, faces, weights, shape, rotation, place, angles, scales, frames, posed, rows, out
):
    """Equations of N frames of one shape: the network's P_s, the pixels, the joints' limits.

    Args:
        hand: Skeleton of the vertices; faces: [F, 3].
        weights: FitWeights.
        shape: [K]; rotation, place, angles, scales: the fields of `Poses`.
        frames: SeenFrame of all.
        posed: Posed, overwritten; rows: of `frame_rows`.
        out: `solver.Equations` to fill; the energy in mm.
    """
    shape_hand(hand, shape, posed)
    limit = (weights.limits, weights.limits, weights.limits)
    for n in range(len(out.energy)):
        pose_hand(hand, rotation[n], place[n], angles[n], scales[n], posed)
        frame = SeenFrame(
            frames.sampled[n],
            frames.points[n],
            frames.counted[n],
            frames.vertex[n],
            frames.depth[n],
            frames.intrinsics[n],
        )
        facing, normals = facing_and_normals(posed.points, faces)
        total, used = _network_rows(hand, weights, posed, frame, rows)
        more, used = _pixel_rows(hand, weights, posed, frame, facing, normals, rows, used)
        total += more
        more, used = _outside_rows(hand, weights, posed, frame, facing, rows, used)
        _add_up(rows, used, out.square[n], out.right[n])
        out.energy[n] = total + more + _limits(hand, angles[n], limit, 0.0, out, n)


@kernel
def keypoint_equations(
    hand, weights, fixed, wanted, rotation, place, angles, scales, points, counted, posed, rows, out
):
    """Equations of key points of N frames, for half the sum of squares (mm^2).

    Args:
        hand: Skeleton of J key points, the root's scale the first.
        weights: KeypointWeights; fixed: the fingers' scales do not follow the points.
        wanted: [N, S] scales that the fingers' are drawn to.
        rotation, place, angles, scales: the fields of `Poses`.
        points: [N, J, 3] mm; counted: [N, J] bool.
        posed: Posed, overwritten; rows: Rows of 3 J.
        out: `solver.Equations` to fill.
    """
    shape_hand(hand, np.zeros(0), posed)
    own = ROOT + 3 * (len(hand.joints) - 1) + 1  # columns of the fingers' scales
    limit = (weights.limit[0] ** 2 / 2, weights.limit[1] ** 2 / 2, weights.limit[2] ** 2 / 2)
    far = weights.far_limit**2 / 2
    for n in range(len(out.energy)):
        pose_hand(hand, rotation[n], place[n], angles[n], scales[n], posed)
        total, used = 0.0, 0
        for j in range(len(hand.points)):
            if counted[n, j]:
                more, used = add_point(
                    hand, posed, j, points[n, j], weights.robust, weights.robust, rows, used
                )
                total += more
        if fixed:
            rows.jacobian[:used, own:] = 0.0
        _add_up(rows, used, out.square[n], out.right[n])
        total += _limits(hand, angles[n], limit, 0.0, out, n)
        total += _limits(hand, angles[n], (far, far, far), weights.far, out, n)
        bent, grown = angles[n, 1:].ravel(), scales[n, 1:] - wanted[n, 1:]
        total += _pull(ROOT, bent, weights.rest**2 / 2, out, n)
        out.energy[n] = total + _pull(own, grown, weights.scale**2 / 2, out, n)


@kernel
def _add_up(rows, used, square, right):
    """Fills square = J^T J and right = J^T r of the rows used."""
    jacobian = rows.jacobian[:used]
    square[:, :] = jacobian.T @ jacobian
    right[:] = jacobian.T @ rows.residual[:used]


@kernel
def _limits(hand, angles, weight, slack, out, n):
    """Adds `weight` [3] times the squares of what angles exceed limits by beyond `slack`, rad."""
    energy = 0.0
    for p in range(1, len(angles)):
        for axis in range(3):
            low, high = hand.limits[p, axis, 0] - slack, hand.limits[p, axis, 1] + slack
            beyond = angles[p, axis] - min(max(angles[p, axis], low), high)
            if beyond != 0.0:
                energy += _pull(3 + 3 * p + axis, np.array([beyond]), weight[axis], out, n)
    return energy


@kernel
def _pull(first, off, weight, out, n):
    """Adds `weight` times the squares of `off` [M], parameters from the `first` on, to frame n."""
    energy = 0.0
    for i in range(len(off)):
        out.square[n, first + i, first + i] += 2 * weight
        out.right[n, first + i] -= 2 * weight * off[i]
        energy += weight * off[i] ** 2
    return energy


@kernel
def add_point(hand, posed, v, target, weight, delta, rows, used):
    """Adds the rows of point v against a `target`; returns energy and rows used.

    Iteratively reweighted: the equations of a robust distance are those of a square.
    """
    square = 0.0
    for i in range(3):
        square += (target[i] - posed.points[v, i]) ** 2
    distance, slope = smooth_l1_and_slope(square, delta)
    root = np.sqrt(weight * slope)
    out = rows.jacobian[used : used + 3]
    fill_rows(hand, posed, v, out)
    out *= root
    for i in range(3):
        rows.residual[used + i] = root * (target[i] - posed.points[v, i])
    return weight * distance, used + 3


@kernel
def _network_rows(hand, weights, posed, frame, rows):
    """Rows of every eighth vertex against P_s."""
    energy, used = 0.0, 0
    count = (len(posed.points) - 1) // _EVERY + 1
    for v in range(0, len(posed.points), _EVERY):
        more, used = add_point(
            hand,
            posed,
            v,
            frame.sampled[v],
            weights.sampled / count,
            weights.sampled_delta,
            rows,
            used,
        )
        energy += more
    return energy, used


@kernel
def _pixel_rows(hand, weights, posed, frame, facing, normals, rows, used):
    """Rows of the pixels: against their correspondence, and against the nearest vertex."""
    count = 0
    for k in range(len(frame.points)):
        count += frame.counted[k]
    energy = 0.0
    for k in range(len(frame.points)):
        if not frame.counted[k]:
            continue
        if weights.lifting > 0.0:
            more, used = add_point(
                hand,
                posed,
                frame.vertex[k],
                frame.points[k],
                weights.lifting / count,
                weights.delta,
                rows,
                used,
            )
            energy += more
        if weights.icp > 0.0:
            v = nearest_allowed(frame.points[k], posed.points, facing)
            start = used
            more, used = add_point(
                hand, posed, v, frame.points[k], weights.icp / count, weights.delta, rows, used
            )
            energy += more
            _let_slide(rows, start, normals[v], weights.sliding)
    return energy, used


@kernel
def _let_slide(rows, start, normal, share):
    """Leaves `share` of what is across the normal in three rows."""
    block, off = rows.jacobian[start : start + 3], rows.residual[start : start + 3]
    x, y, z = (1 - share) * normal[0], (1 - share) * normal[1], (1 - share) * normal[2]
    along = x * off[0] + y * off[1] + z * off[2]
    for i in range(3):
        off[i] = share * off[i] + along * normal[i]
    for column in range(block.shape[1]):
        along = x * block[0, column] + y * block[1, column] + z * block[2, column]
        for i in range(3):
            block[i, column] = share * block[i, column] + along * normal[i]


@kernel
def _outside_rows(hand, weights, posed, frame, facing, rows, used):
    """Rows of every eighth vertex that the camera should see and does not: to the nearest pixel."""
    energy, any_counted = 0.0, False
    for k in range(len(frame.points)):
        any_counted |= frame.counted[k]
    if weights.outside == 0.0 or not any_counted:
        return energy, used
    count = (len(posed.points) - 1) // _EVERY + 1
    for v in range(0, len(posed.points), _EVERY):
        if facing[v] and looked_through(frame.depth, frame.intrinsics, posed.points[v]):
            # Half of all vertices or so face the camera.
            more, used = add_point(
                hand,
                posed,
                v,
                frame.points[nearest_allowed(posed.points[v], frame.points, frame.counted)],
                2 * weights.outside / count,
                weights.delta,
                rows,
                used,
            )
            energy += more
    return energy, used
