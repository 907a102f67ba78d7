"""The energy of one frame's hand and its normal equations: Eq. 5 for single views, compiled."""

from typing import NamedTuple

import numpy as np

from dgn_tf.compiled import kernel
from dgn_tf.hand_fit.skeleton import ROOT, fill_rows, pose_hand, shaped

_BEHIND_MM = 15.0  # measured so far behind a vertex, the camera looks through where it should be
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


class Rows(NamedTuple):
    """Linear equations as they come: room for R of them."""

    jacobian: np.ndarray  # [R, parameters]
    residual: np.ndarray  # [R]


def room_for_rows(vertices: int, pixels: int, parameters: int) -> Rows:
    """Room for a frame's rows."""
    count = 3 * (2 * (vertices // _EVERY + 1) + 2 * pixels)
    return Rows(np.empty([count, parameters], np.float32), np.empty(count, np.float32))


@kernel
def all_equations(
    hand, weights, shape, rotation, place, angles, frames, posed, rows, square, right, energy
):
    """`frame_equations` of N frames of one shape [K]: fills square, right and energy [N, ...].

    Args:
        hand: FitHand; weights: FitWeights.
        shape: [K].
        rotation, place, angles: [N, ...] of `shape_fit.Poses`.
        frames: SeenFrame of all.
        posed: PosedHand, overwritten; rows: of `room_for_rows`.
        square, right, energy: see `frame_equations`.
    """
    rest, joints = shaped(hand, shape)
    for n in range(len(energy)):
        pose_hand(hand, rest, joints, rotation[n], place[n], angles[n], posed)
        frame = SeenFrame(
            frames.sampled[n],
            frames.points[n],
            frames.counted[n],
            frames.vertex[n],
            frames.depth[n],
            frames.intrinsics[n],
        )
        energy[n] = frame_equations(
            hand, weights, posed, angles[n], frame, rows, square[n], right[n]
        )


@kernel
def frame_equations(hand, weights, posed, angles, frame, rows, square, right):
    """Energy of a frame, and what Gauss-Newton wants of it.

    Args:
        hand: FitHand; weights: FitWeights.
        posed: PosedHand; angles: [P, 3] of its joints.
        frame: SeenFrame.
        rows: of `room_for_rows`.
        square: [parameters, parameters], filled with J^T W J.
        right: [parameters], filled with J^T W r.

    Returns:
        The energy, mm.
    """
    facing, normals = _facing(hand, posed.vertices)
    energy, used = _network_rows(hand, weights, posed, frame, rows)
    more, used = _pixel_rows(hand, weights, posed, frame, facing, normals, rows, used)
    energy += more
    more, used = _outside_rows(hand, weights, posed, frame, facing, rows, used)
    energy += more
    jacobian = rows.jacobian[:used]
    square[:, :] = jacobian.T @ jacobian
    right[:] = jacobian.T @ rows.residual[:used]
    for p in range(1, len(angles)):
        for axis in range(3):
            low, high = hand.limits[p, axis, 0], hand.limits[p, axis, 1]
            beyond = max(low - angles[p, axis], 0.0) + min(high - angles[p, axis], 0.0)
            if beyond != 0.0:
                column = ROOT + 3 * (p - 1) + axis
                square[column, column] += 2 * weights.limits
                right[column] += 2 * weights.limits * beyond
                energy += weights.limits * beyond**2
    return energy


@kernel
def _facing(hand, vertices):
    """Which vertices turn their outside to the camera [V]; unit normals [V, 3]."""
    normals = np.zeros(vertices.shape)
    for f in range(len(hand.faces)):
        a, b, c = hand.faces[f, 0], hand.faces[f, 1], hand.faces[f, 2]
        x1, x2 = vertices[b, 0] - vertices[a, 0], vertices[c, 0] - vertices[a, 0]
        y1, y2 = vertices[b, 1] - vertices[a, 1], vertices[c, 1] - vertices[a, 1]
        z1, z2 = vertices[b, 2] - vertices[a, 2], vertices[c, 2] - vertices[a, 2]
        x, y, z = y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2
        for corner in range(3):
            v = hand.faces[f, corner]
            normals[v, 0] += x
            normals[v, 1] += y
            normals[v, 2] += z
    facing = np.empty(len(vertices), np.bool_)
    for v in range(len(vertices)):
        length, along = 1e-12, 0.0
        for i in range(3):
            length += normals[v, i] ** 2
            along += normals[v, i] * vertices[v, i]
        for i in range(3):
            normals[v, i] /= np.sqrt(length)
        facing[v] = along < 0.0
    return facing, normals


@kernel
def _add(hand, posed, v, target, weight, delta, rows, used):
    """Adds the rows of vertex v against a point; returns energy and rows used.

    Iteratively reweighted: the equations of a robust distance are those of a square.
    """
    square = 0.0
    for i in range(3):
        square += (target[i] - posed.vertices[v, i]) ** 2
    distance = np.sqrt(square)
    root = np.sqrt(weight / max(distance, delta))
    out = rows.jacobian[used : used + 3]
    fill_rows(hand, posed, v, out)
    out *= root
    for i in range(3):
        rows.residual[used + i] = root * (target[i] - posed.vertices[v, i])
    far = distance > delta
    return weight * (distance - delta / 2 if far else square / (2 * delta)), used + 3


@kernel
def _network_rows(hand, weights, posed, frame, rows):
    """Rows of every eighth vertex against P_s."""
    energy, used = 0.0, 0
    count = (len(posed.vertices) - 1) // _EVERY + 1
    for v in range(0, len(posed.vertices), _EVERY):
        more, used = _add(
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
            more, used = _add(
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
            v = _nearest(frame.points[k], posed.vertices, facing)
            start = used
            more, used = _add(
                hand, posed, v, frame.points[k], weights.icp / count, weights.delta, rows, used
            )
            energy += more
            _let_slide(rows, start, normals[v], weights.sliding)
    return energy, used


@kernel
def _nearest(point, places, allowed):
    """The allowed row of `places` [N, 3] nearest to a point; the first where none is allowed."""
    best, found = np.inf, 0
    for n in range(len(places)):
        if not allowed[n]:
            continue
        square = (
            (places[n, 0] - point[0]) ** 2
            + (places[n, 1] - point[1]) ** 2
            + (places[n, 2] - point[2]) ** 2
        )
        if square < best:
            best, found = square, n
    return found


@kernel
def _let_slide(rows, start, normal, share):
    """Leaves `share` of what is across the normal in three rows."""
    along = 0.0
    for i in range(3):
        along += normal[i] * rows.residual[start + i]
    for i in range(3):
        value = rows.residual[start + i]
        rows.residual[start + i] = share * value + (1 - share) * along * normal[i]
    first, second, third = rows.jacobian[start], rows.jacobian[start + 1], rows.jacobian[start + 2]
    x, y, z = normal[0], normal[1], normal[2]
    for column in range(len(first)):
        across = (1 - share) * (x * first[column] + y * second[column] + z * third[column])
        first[column] = share * first[column] + across * x
        second[column] = share * second[column] + across * y
        third[column] = share * third[column] + across * z


@kernel
def _outside_rows(hand, weights, posed, frame, facing, rows, used):
    """Rows of every eighth vertex that the camera should see and does not: to the nearest pixel."""
    energy, any_counted = 0.0, False
    for k in range(len(frame.points)):
        any_counted |= frame.counted[k]
    if weights.outside == 0.0 or not any_counted:
        return energy, used
    count = (len(posed.vertices) - 1) // _EVERY + 1
    for v in range(0, len(posed.vertices), _EVERY):
        if facing[v] and _seen_through(frame, posed.vertices[v]):
            # Half of all vertices or so face the camera.
            more, used = _add(
                hand,
                posed,
                v,
                frame.points[_nearest(posed.vertices[v], frame.points, frame.counted)],
                2 * weights.outside / count,
                weights.delta,
                rows,
                used,
            )
            energy += more
    return energy, used


@kernel
def _seen_through(frame, vertex):
    """Whether the camera measured nothing, or what is far behind, where a vertex is."""
    size = len(frame.depth)
    depth = max(vertex[2], 1.0)
    column = np.round(vertex[0] / depth * frame.intrinsics[0] + frame.intrinsics[2])
    row = np.round(vertex[1] / depth * frame.intrinsics[1] + frame.intrinsics[3])
    if not (0.0 <= column < size and 0.0 <= row < size):
        return False
    there = frame.depth[int(row), int(column)]
    return there <= 0.0 or there > depth + _BEHIND_MM
