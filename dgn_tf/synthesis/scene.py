"""What stands around the hand: occluders, held objects, a wall, a person. Rendered analytically."""

import math
from typing import NamedTuple

import numpy as np

from dgn_tf.compiled import kernel
from dgn_tf.synthesis import randomness as rng

MAX_SOLIDS = 10
# A solid's row: kind, centre [3], camera_from_solid [3, 3] row by row, half sizes [3].
SOLID_FIELDS = 16
_ELLIPSOID, _BOX, _CAPSULE, _PLANE = 0.0, 1.0, 2.0, 3.0
_STREAM_SCENE, _STREAM_PERSON, _STREAM_TABLE = 4, 7, 12


class SceneSettings(NamedTuple):
    """What stands around the hand; mm."""

    occluder_share: float = 0.3  # of frames
    held_share: float = 0.35  # of occluders: an object in the hand instead of one before it
    occluder_half_size_mm: tuple[float, float] = (8.0, 40.0)
    occluder_gap_mm: tuple[float, float] = (10.0, 90.0)
    # Nothing, wall, person, both.
    background_shares: tuple[float, ...] = (0.3, 0.25, 0.3, 0.15)
    background_gap_mm: tuple[float, float] = (10.0, 700.0)  # behind the hand's farthest point
    # Version 2: in so many frames a table instead of that background, seen so far from its normal;
    # the hand's nearest point is so far above it, mostly near the lower bound (below 0: sunk in).
    table_share: float = 0.0
    table_tilt_degrees: tuple[float, float] = (5.0, 80.0)
    table_gap_mm: tuple[float, float] = (-2.0, 80.0)


@kernel
def _solid(row, kind, x, y, z, rotation, a, b, c):
    row[0], row[1], row[2], row[3] = kind, x, y, z
    for i in range(3):
        for j in range(3):
            row[4 + 3 * i + j] = rotation[i, j]
    row[13], row[14], row[15] = a, b, c


@kernel
def _middle(hand, middle):
    """Fills `middle` [3] with the mean vertex (of every third); returns the largest z."""
    middle[0], middle[1], middle[2] = 0.0, 0.0, 0.0
    farthest, count = 0.0, 0
    for k in range(0, hand.shape[0], 3):
        for i in range(3):
            middle[i] += hand[k, i]
        farthest = max(farthest, hand[k, 2])
        count += 1
    for i in range(3):
        middle[i] /= count
    return farthest


@kernel
def _draw_occluder(state, settings, hand, solids):
    """Fills rows of `solids` with something before or in the hand; returns how many."""
    rotation = np.empty((3, 3))
    rng.random_rotation(state, rotation)
    low, high = settings.occluder_half_size_mm
    if rng.uniform(state, 0.0, 1.0) < settings.held_share:
        middle = np.empty(3)
        _middle(hand, middle)
        for i in range(3):
            middle[i] += rng.clipped_normal(state, 12.0, 25.0)
        kind = float(int(rng.uniform(state, 0.0, 3.0)))
        radius = rng.uniform(state, 10.0, 32.0)
        a, b, c = radius, radius * rng.uniform(state, 0.5, 1.0), rng.uniform(state, 20.0, 110.0)
        _solid(solids[0], kind, middle[0], middle[1], middle[2], rotation, a, b, c)
        return 1
    anchor = hand[int(rng.uniform(state, 0.0, float(hand.shape[0])))]
    distance = math.sqrt(anchor[0] ** 2 + anchor[1] ** 2 + anchor[2] ** 2)
    kind = float(int(rng.uniform(state, 0.0, 3.0)))
    a = rng.uniform(state, low, high)
    b, c = rng.uniform(state, low, high), rng.uniform(state, low, high)
    count = 1
    if kind == _CAPSULE:  # like fingers of another hand, side by side
        a = rng.uniform(state, 6.0, 11.0)
        c = rng.uniform(state, 25.0, 60.0)
        count = 1 + int(rng.uniform(state, 0.0, 4.0))
    gap = rng.uniform(state, settings.occluder_gap_mm[0], settings.occluder_gap_mm[1])
    shrink = max(0.3, 1.0 - (gap + min(a, min(b, c))) / distance)
    x = anchor[0] * shrink + rng.clipped_normal(state, 15.0, 40.0)
    y = anchor[1] * shrink + rng.clipped_normal(state, 15.0, 40.0)
    z = anchor[2] * shrink
    for k in range(count):
        step = 2.1 * a * k
        _solid(
            solids[k],
            kind,
            x + step * rotation[0, 0],
            y + step * rotation[1, 0],
            z + step * rotation[2, 0],
            rotation,
            a,
            b,
            c + rng.uniform(state, -5.0, 5.0),
        )
    return count


@kernel
def _draw_background(state, settings, hand, solids):
    """Fills rows of `solids` with what stands behind the hand; returns how many."""
    choice = rng.choice(state, settings.background_shares)
    count = 0
    middle = np.empty(3)
    farthest = _middle(hand, middle)
    rotation = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            rotation[i, j] = 1.0 if i == j else 0.0
    if choice == 2 or choice == 3:
        gap = rng.uniform(state, settings.background_gap_mm[0], settings.background_gap_mm[1])
        girth = rng.uniform(state, 100.0, 160.0)
        x = middle[0] + rng.uniform(state, -250.0, 250.0)
        y = middle[1] + rng.uniform(state, -150.0, 350.0)
        z = farthest + gap + girth
        turn = rng.uniform(state, -0.5, 0.5)
        rotation[0, 0], rotation[0, 2] = math.cos(turn), math.sin(turn)
        rotation[2, 0], rotation[2, 2] = -math.sin(turn), math.cos(turn)
        shoulder = rng.uniform(state, 170.0, 240.0)
        _solid(solids[0], _ELLIPSOID, x, y, z, rotation, shoulder, 330.0, girth)
        depth = z + rng.uniform(state, -60.0, 40.0)
        _solid(solids[1], _ELLIPSOID, x, y - 430.0, depth, rotation, 75.0, 120.0, 95.0)
        count = 2
    if choice == 1 or choice == 3:
        rng.random_rotation(state, rotation)
        tilt = math.radians(60.0) * rng.uniform(state, 0.0, 1.0) ** 2
        side = rng.uniform(state, -math.pi, math.pi)
        x, y = math.sin(tilt) * math.cos(side), math.sin(tilt) * math.sin(side)
        z = -math.cos(tilt)
        rotation[0, 2], rotation[1, 2], rotation[2, 2] = x, y, z
        gap = rng.uniform(state, settings.background_gap_mm[0], settings.background_gap_mm[1])
        if choice == 3:
            gap += 400.0
        lowest = np.inf
        for k in range(0, hand.shape[0], 3):
            lowest = min(lowest, hand[k, 0] * x + hand[k, 1] * y + hand[k, 2] * z)
        lowest -= gap
        _solid(solids[count], _PLANE, lowest * x, lowest * y, lowest * z, rotation, 0.0, 0.0, 0.0)
        count += 1
    return count


@kernel
def _draw_table(state, settings, hand, elbow, solids):
    """Makes the first row of `solids` a table on which the hand lies, or above which it is.

    `hand` [N, 3] mm; `elbow` [3] is the unit direction of the forearm, which goes into no table.
    """
    rotation = np.empty((3, 3))
    rng.random_rotation(state, rotation)
    x, y, z = 0.0, 0.0, -1.0
    for _ in range(8):
        tilt = math.radians(
            rng.uniform(state, settings.table_tilt_degrees[0], settings.table_tilt_degrees[1])
        )
        side = rng.uniform(state, -math.pi, math.pi)
        x, y = math.sin(tilt) * math.cos(side), math.sin(tilt) * math.sin(side)
        z = -math.cos(tilt)
        if elbow[0] * x + elbow[1] * y + elbow[2] * z > -0.1:
            break
    rotation[0, 2], rotation[1, 2], rotation[2, 2] = x, y, z
    low, high = settings.table_gap_mm
    height = np.inf
    for k in range(hand.shape[0]):
        height = min(height, hand[k, 0] * x + hand[k, 1] * y + hand[k, 2] * z)
    height -= low + (high - low) * rng.uniform(state, 0.0, 1.0) ** 2
    _solid(solids[0], _PLANE, height * x, height * y, height * z, rotation, 0.0, 0.0, 0.0)
    return 1


@kernel
def _to_elbow(hand, vertices, direction):
    """Fills `direction` [3] with the unit vector from the wrist to the forearm's far end."""
    count, far = hand.vertices.shape[0], 0
    for k in range(hand.stub.shape[0]):
        if hand.stub_along[k] > hand.stub_along[far]:
            far = k
    length = 0.0
    for i in range(3):
        direction[i] = vertices[count + far, i] - vertices[hand.wrist[0], i]
        length += direction[i] ** 2
    for i in range(3):
        direction[i] /= math.sqrt(length) + 1e-9


@kernel
def draw_scenes(settings, hand, seed, rows, indices, attempts, vertices, solids, counts):
    """Draws the solids around each hand.

    Args:
        settings: SceneSettings.
        hand: HandArrays.
        seed: integer of all streams.
        rows: [R] int64 samples to draw now, places in the arrays below.
        indices: [N] int64 sample numbers.
        attempts: [N] int64, which redraw of the sample this is.
        vertices: [N, V + Vs, 3] mm, camera frame.
        solids: [N, MAX_SOLIDS, SOLID_FIELDS] out.
        counts: [N, 2] int64 out: solids before or in the hand (first), all solids in use.
    """
    elbow = np.empty(3)
    for n in rows:
        state = rng.stream(seed, indices[n], attempts[n], _STREAM_SCENE)
        points = vertices[n, : hand.vertices.shape[0]]
        count = 0
        if rng.uniform(state, 0.0, 1.0) < settings.occluder_share:
            count = _draw_occluder(state, settings, points, solids[n])
        counts[n, 0] = count
        table = rng.stream(seed, indices[n], attempts[n], _STREAM_TABLE)
        if rng.uniform(table, 0.0, 1.0) < settings.table_share:
            _to_elbow(hand, vertices[n], elbow)
            counts[n, 1] = count + _draw_table(table, settings, points, elbow, solids[n, count:])
        else:
            counts[n, 1] = count + _draw_background(state, settings, points, solids[n, count:])


def draw_occluder(settings, seed: int, index: int, hand: np.ndarray, solids: np.ndarray) -> int:
    """Fills `solids` with what hides a hand [V, 3] mm in some frames; returns how many."""
    state = rng.stream(seed, index, 0, _STREAM_SCENE)
    if rng.uniform(state, 0.0, 1.0) < settings.occluder_share:
        return _draw_occluder(state, settings, hand, solids)
    return 0


def draw_background(settings, seed: int, index: int, hand: np.ndarray, solids: np.ndarray) -> int:
    """Fills `solids` with what stands behind a hand [V, 3] mm in crops; returns how many."""
    return _draw_background(rng.stream(seed, index, 1, _STREAM_SCENE), settings, hand, solids)


def draw_table(settings, seed: int, index: int, hands: np.ndarray, elbow, solids) -> int:
    """Fills `solids` with a table below hands [N, 3] mm in some frames; returns how many.

    `elbow` [3] is a unit direction that goes into no table: that of a forearm.
    """
    state = rng.stream(seed, index, 1, _STREAM_TABLE)
    if rng.uniform(state, 0.0, 1.0) < settings.table_share:
        return _draw_table(state, settings, hands, np.asarray(elbow, np.float64), solids)
    return 0


def capsule(row: np.ndarray, middle, axis, radius: float, half: float) -> None:
    """Makes a row of solids a capsule along a unit axis [3]; mm."""
    x, y, z = middle
    _solid(row, _CAPSULE, x, y, z, _along(axis), radius, 0.0, half)


def any_solid(row: np.ndarray, middle, half_sizes, generator: np.random.Generator) -> None:
    """Makes a row of solids an ellipsoid, a box or a capsule, turned at random; mm."""
    rotation, _ = np.linalg.qr(generator.normal(size=[3, 3]))
    rotation = np.ascontiguousarray(rotation)
    kind = float(generator.integers(3))
    _solid(row, kind, *(float(value) for value in middle), rotation, *half_sizes)


def person_behind(elbow, seed: int, index: int, solids: np.ndarray) -> int:
    """Fills `solids` with a person whose right arm ends at `elbow` [3] mm; returns how many.

    The person faces the camera, so the right arm hangs at the left of the body in the image.
    """
    state = rng.stream(seed, index, 0, _STREAM_PERSON)
    elbow = np.asarray(elbow, np.float64)
    shoulder = elbow + [
        rng.uniform(state, 30.0, 110.0),
        rng.uniform(state, -220.0, -120.0),
        rng.uniform(state, 120.0, 220.0),
    ]
    upright = np.eye(3)
    chest = shoulder + [rng.uniform(state, 150.0, 180.0), 200.0, 40.0]
    count = 0
    for kind, centre, rotation, sizes in (
        (_ELLIPSOID, chest, upright, (165.0, 300.0, 110.0)),
        (_CAPSULE, chest + [0.0, 330.0, 0.0], _along([1.0, 0.0, 0.0]), (120.0, 0.0, 60.0)),
        (_CAPSULE, chest + [0.0, -190.0, 10.0], _along([1.0, 0.0, 0.0]), (55.0, 0.0, 130.0)),
        (_CAPSULE, chest + [0.0, -270.0, 15.0], _along([0.0, 1.0, 0.0]), (52.0, 0.0, 70.0)),
        (_ELLIPSOID, chest + [0.0, -415.0, 0.0], upright, (72.0, 112.0, 92.0)),
        (_ELLIPSOID, chest + [0.0, -400.0, -92.0], upright, (12.0, 26.0, 18.0)),
    ):
        x, y, z = centre
        _solid(solids[count], kind, x, y, z, rotation, sizes[0], sizes[1], sizes[2])
        count += 1
    for start, end, radius in (
        (elbow, shoulder, 46.0),
        (chest + [170.0, -150.0, 20.0], chest + [225.0, 130.0, 10.0], 44.0),
        (chest + [-85.0, 380.0, 0.0], chest + [-95.0, 900.0, 20.0], 70.0),
        (chest + [85.0, 380.0, 0.0], chest + [95.0, 900.0, 20.0], 70.0),
    ):
        reach = np.asarray(end) - start
        length = np.linalg.norm(reach)
        x, y, z = (np.asarray(start) + end) / 2
        capsule(solids[count], (x, y, z), reach / length, radius, float(length) / 2)
        count += 1
    return count


def _along(axis):
    """A rotation [3, 3] that turns z onto a unit axis."""
    axis = np.asarray(axis, np.float64)
    side = np.cross(axis, [0.0, 0.0, 1.0] if abs(axis[2]) < 0.9 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    return np.stack([side, np.cross(axis, side), axis], axis=1)


@kernel
def _hit(kind, a, b, c, ox, oy, oz, rx, ry, rz):
    """Depth z at which the ray o + z r, in the solid's frame, enters it, mm; inf if it does not."""
    if kind == _PLANE:
        z = -oz / rz
        return z if z > 0.0 else np.inf
    if kind == _BOX:
        ta, tb = (-a - ox) / rx, (a - ox) / rx
        near, far = min(ta, tb), max(ta, tb)
        ta, tb = (-b - oy) / ry, (b - oy) / ry
        near, far = max(near, min(ta, tb)), min(far, max(ta, tb))
        ta, tb = (-c - oz) / rz, (c - oz) / rz
        near, far = max(near, min(ta, tb)), min(far, max(ta, tb))
        return near if 0.0 < near <= far else np.inf
    if kind == _ELLIPSOID:
        ox, oy, oz, rx, ry, rz = ox / a, oy / b, oz / c, rx / a, ry / b, rz / c
        return _ball(ox, oy, oz, rx, ry, rz, 1.0)
    # Capsule along its z axis: the tube between +-c, else the ball at the nearer end.
    square = rx * rx + ry * ry
    half = ox * rx + oy * ry
    root = half * half - square * (ox * ox + oy * oy - a * a)
    if root < 0.0:
        return np.inf
    z = (-half - math.sqrt(root)) / square
    height = oz + z * rz
    if -c <= height <= c:
        return z if z > 0.0 else np.inf
    end = c if height > c else -c
    return _ball(ox, oy, oz - end, rx, ry, rz, a)


@kernel
def _ball(ox, oy, oz, rx, ry, rz, radius):
    square = rx * rx + ry * ry + rz * rz
    half = ox * rx + oy * ry + oz * rz
    root = half * half - square * (ox * ox + oy * oy + oz * oz - radius * radius)
    if root < 0.0:
        return np.inf
    z = (-half - math.sqrt(root)) / square
    return z if z > 0.0 else np.inf


@kernel
def render_solids(solids, count, intrinsics, columns, rows, depth, face):
    """Adds solids to a rendered image; where one is nearest, `face` becomes -1.

    Args:
        solids: [MAX_SOLIDS, SOLID_FIELDS], mm, camera frame.
        count: how many of them are in use.
        intrinsics: 4 floats fx, fy, cx, cy of the image.
        columns: [W] image column of each pixel's ray.
        rows: [H] image row of each pixel's ray.
        depth: [H, W] mm, inf where empty; updated.
        face: [H, W] int32, updated.
    """
    height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    for s in range(count):
        solid = solids[s]
        first_row, last_row, first_column, last_column = 0, height - 1, 0, width - 1
        if solid[0] != _PLANE:
            # Pixels that the bounding ball, seen no nearer than its front, can cover.
            reach = math.sqrt(solid[13] ** 2 + solid[14] ** 2 + solid[15] ** 2)
            if solid[0] == _CAPSULE:
                reach = solid[13] + solid[15]
            front, back = solid[3] - reach, solid[3] + reach
            if front > 20.0:
                first_column = _pixel(solid[1] - reach, front, back, fx, cx, width) - 1
                last_column = _pixel(-solid[1] - reach, front, back, -fx, cx, width) + 2
                first_row = _pixel(solid[2] - reach, front, back, fy, cy, height) - 1
                last_row = _pixel(-solid[2] - reach, front, back, -fy, cy, height) + 2
                first_column, first_row = max(0, first_column), max(0, first_row)
                last_column, last_row = min(width - 1, last_column), min(height - 1, last_row)
        # Origin and direction of the rays in the solid's frame.
        ox = -(solid[4] * solid[1] + solid[7] * solid[2] + solid[10] * solid[3])
        oy = -(solid[5] * solid[1] + solid[8] * solid[2] + solid[11] * solid[3])
        oz = -(solid[6] * solid[1] + solid[9] * solid[2] + solid[12] * solid[3])
        for j in range(first_row, last_row + 1):
            dy = (rows[j] - cy) / fy
            row_x = solid[7] * dy + solid[10]
            row_y = solid[8] * dy + solid[11]
            row_z = solid[9] * dy + solid[12]
            for i in range(first_column, last_column + 1):
                dx = (columns[i] - cx) / fx
                z = _hit(
                    solid[0],
                    solid[13],
                    solid[14],
                    solid[15],
                    ox,
                    oy,
                    oz,
                    solid[4] * dx + row_x,
                    solid[5] * dx + row_y,
                    solid[6] * dx + row_z,
                )
                if z < depth[j, i]:
                    depth[j, i] = z
                    face[j, i] = -1


@kernel
def _pixel(side, front, back, focal, centre, size):
    """Pixel of the lowest side / depth between two depths, kept within [-3, size + 3]."""
    value = focal * side / (front if side < 0.0 else back) + centre
    return int(min(max(value, -3.0), size + 3.0))
