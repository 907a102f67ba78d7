"""Puts a posed hand before a random camera: forearm, wrist rotation, distance, intrinsics."""

import math
from typing import NamedTuple

import numpy as np

from dgn_tf.compiled import kernel
from dgn_tf.synthesis import randomness as rng

_STREAM_PLACE, _STREAM_VIEW = 3, 9


class PlaceSettings(NamedTuple):
    """Where hands are seen from. Angles in degrees."""

    uniform_rotation_share: float = 0.5  # uniform over all rotations; the rest by elbow directions
    # Of the rest: elbow down, sideways, up (fingers down), away from the camera; then any roll.
    elbow_shares: tuple[float, ...] = (0.4, 0.25, 0.25, 0.1)
    elbow_noise_degrees: float = 30.0
    wrist_flexion_degrees: float = 60.0  # forearm against hand, uniform within +-
    wrist_deviation_degrees: float = 25.0
    wrist_straight_share: float = 0.2  # of frames: a tenth of these angles
    forearm_share: float = 0.97  # of frames
    sleeve_share: float = 0.25  # of forearms: a sleeve, up to 1.5 times as thick
    distance_mm: tuple[float, float] = (300.0, 1000.0)
    image_widths: tuple[int, ...] = (640, 320)  # height is 3/4 of it
    focal_per_width: tuple[float, float] = (0.6, 1.05)
    whole_in_frame_share: float = 0.85  # of frames: no part of the crop's middle leaves the image
    # Version 2: the hand bends so far to either side of the wrist's joint, the mesh's end behind
    # the joint with the forearm; 0: the forearm bends where the hand's mesh ends.
    wrist_bend_mm: float = 0.0


@kernel
def _axis_rotation(axis, angle, out):
    """Fills `out` [3, 3] with the rotation about a unit `axis` (Rodrigues)."""
    c, s = math.cos(angle), math.sin(angle)
    x, y, z = axis[0], axis[1], axis[2]
    rest = 1.0 - c
    out[0, 0] = c + x * x * rest
    out[0, 1] = x * y * rest - z * s
    out[0, 2] = x * z * rest + y * s
    out[1, 0] = y * x * rest + z * s
    out[1, 1] = c + y * y * rest
    out[1, 2] = y * z * rest - x * s
    out[2, 0] = z * x * rest - y * s
    out[2, 1] = z * y * rest + x * s
    out[2, 2] = c + z * z * rest


@kernel
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@kernel
def _product(first, second, out):
    """out = first @ second, [3, 3] each."""
    for i in range(3):
        for j in range(3):
            out[i, j] = 0.0
            for k in range(3):
                out[i, j] += first[i, k] * second[k, j]


@kernel
def _shortest_turn(start, end, fallback, out):
    """Fills `out` [3, 3] with the turn of unit `start` onto `end`; about `fallback` if opposite."""
    axis = np.empty(3)
    axis[0] = start[1] * end[2] - start[2] * end[1]
    axis[1] = start[2] * end[0] - start[0] * end[2]
    axis[2] = start[0] * end[1] - start[1] * end[0]
    sine = math.sqrt(_dot(axis, axis))
    for i in range(3):
        axis[i] = fallback[i] if sine < 1e-6 else axis[i] / sine
    _axis_rotation(axis, math.atan2(sine, _dot(start, end)), out)


@kernel
def _ring(vertices, ring, centre):
    """Fills `centre` [3] with the mean of a ring of vertices; returns their mean distance to it."""
    for i in range(3):
        centre[i] = 0.0
        for k in range(ring.shape[0]):
            centre[i] += vertices[ring[k], i] / ring.shape[0]
    radius = 0.0
    for k in range(ring.shape[0]):
        x = vertices[ring[k], 0] - centre[0]
        y = vertices[ring[k], 1] - centre[1]
        z = vertices[ring[k], 2] - centre[2]
        radius += math.sqrt(x * x + y * y + z * z) / ring.shape[0]
    return radius


@kernel
def _attach_forearm(state, hand, settings, vertices):
    """Writes the forearm into the rows after the hand's and bends it, ring by ring."""
    count = hand.vertices.shape[0]
    centre, rest_centre = np.empty(3), np.empty(3)
    ratio = _ring(vertices, hand.wrist, centre) / _ring(hand.vertices, hand.wrist, rest_centre)
    straight = 0.1 if rng.uniform(state, 0.0, 1.0) < settings.wrist_straight_share else 1.0
    largest = straight * math.radians(settings.wrist_flexion_degrees)
    flexion = rng.uniform(state, -largest, largest)
    largest = straight * math.radians(settings.wrist_deviation_degrees)
    deviation = rng.uniform(state, -largest, largest)
    thickness = rng.uniform(state, 0.85, 1.2)
    length = rng.uniform(state, 0.9, 1.15)
    sleeve = 1e9
    if rng.uniform(state, 0.0, 1.0) < settings.sleeve_share:
        sleeve = rng.uniform(state, 5.0, 150.0)
    sleeve_thickness = rng.uniform(state, 1.1, 1.5)
    flex, turn = np.empty((3, 3)), np.empty((3, 3))
    elbow = hand.wrist_axes[2]
    offset, turned = np.empty(3), np.empty(3)
    for n in range(hand.stub.shape[0]):
        along = hand.stub_along[n]
        share = min(1.0, along / 45.0)
        share = share * share * (3.0 - 2.0 * share)  # smooth onset: no fold at the wrist
        if settings.wrist_bend_mm > 0.0:
            share = 0.0
        _axis_rotation(hand.wrist_axes[0], share * flexion, flex)
        _axis_rotation(hand.wrist_axes[1], share * deviation, turn)
        swell = ratio * (1.0 + (thickness - 1.0) * min(1.0, along / 60.0))
        swell *= 1.0 + (sleeve_thickness - 1.0) * min(1.0, max(0.0, (along - sleeve) / 6.0))
        for i in range(3):
            offset[i] = hand.stub[n, i] - rest_centre[i]
        projection = _dot(offset, elbow)
        for i in range(3):
            offset[i] = swell * (offset[i] - projection * elbow[i]) + length * projection * elbow[i]
        for i in range(3):
            turned[i] = _dot(turn[i], offset)
        for i in range(3):
            vertices[count + n, i] = centre[i] + _dot(flex[i], turned)
    if settings.wrist_bend_mm > 0.0:
        pivot = np.empty(3)  # the joint, moved as the hand's shape moves the end of its mesh
        for i in range(3):
            pivot[i] = centre[i] + ratio * (hand.joints[0, i] - rest_centre[i])
        _bend_at_joint(hand, pivot, settings.wrist_bend_mm, flexion, deviation, vertices)


@kernel
def _bend_at_joint(hand, pivot, reach, flexion, deviation, vertices):
    """Turns hand and forearm [V + Vs, 3] about the wrist's joint; beyond `reach` mm, wholly."""
    flex, turn = np.empty((3, 3)), np.empty((3, 3))
    elbow = hand.wrist_axes[2]
    offset, turned = np.empty(3), np.empty(3)
    for n in range(vertices.shape[0]):
        for i in range(3):
            offset[i] = vertices[n, i] - pivot[i]
        along = _dot(offset, elbow)
        if along <= -reach:
            continue
        share = min(1.0, (along + reach) / (2.0 * reach))
        share = share * share * (3.0 - 2.0 * share)  # smooth onset: no fold at the wrist
        _axis_rotation(hand.wrist_axes[0], share * flexion, flex)
        _axis_rotation(hand.wrist_axes[1], share * deviation, turn)
        for i in range(3):
            turned[i] = _dot(turn[i], offset)
        for i in range(3):
            vertices[n, i] = pivot[i] + _dot(flex[i], turned)


@kernel
def _likely_rotation(state, hand, settings, rotation):
    """A rotation that turns the elbow to a likely side of the image, rolled by any angle."""
    direction = np.zeros(3)
    side = rng.choice(state, settings.elbow_shares)
    if side == 0:
        direction[1] = 1.0
    elif side == 1:
        direction[0] = 1.0 if rng.uniform(state, 0.0, 1.0) < 0.5 else -1.0
    elif side == 2:
        direction[1] = -1.0
    else:
        direction[2] = 1.0
    spread = math.radians(settings.elbow_noise_degrees)
    for i in range(3):
        direction[i] += spread * rng.normal(state)
    length = math.sqrt(_dot(direction, direction)) + 1e-9
    for i in range(3):
        direction[i] /= length
    # The elbow onto the direction, then a roll about the direction.
    onto, roll = np.empty((3, 3)), np.empty((3, 3))
    _shortest_turn(hand.wrist_axes[2], direction, hand.wrist_axes[0], onto)
    _axis_rotation(direction, rng.uniform(state, -math.pi, math.pi), roll)
    _product(roll, onto, rotation)


@kernel
def _given_rotation(state, settings, view_from_template, target, rotation):
    """A rotation that shows at `target` nearly the view that is given, rolled by any angle."""
    axis, ray, forward = np.empty(3), np.empty(3), np.zeros(3)
    forward[2] = 1.0
    for i in range(3):
        axis[i] = rng.normal(state)
    length, distance = math.sqrt(_dot(axis, axis)) + 1e-9, math.sqrt(_dot(target, target))
    for i in range(3):
        axis[i] /= length
        ray[i] = target[i] / distance
    first, second, third = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    sigma = math.radians(settings.view_noise_degrees)
    _axis_rotation(axis, rng.clipped_normal(state, sigma, 2.0 * sigma), first)
    _axis_rotation(forward, rng.uniform(state, -math.pi, math.pi), second)
    _product(second, first, third)
    _product(third, view_from_template, first)
    _shortest_turn(forward, ray, axis, second)  # camera_from_view
    _product(second, first, rotation)


@kernel
def place_hands(
    hand,
    settings,
    given,
    cube,
    seed,
    rows,
    indices,
    attempts,
    vertices,
    straight,
    keypoints,
    cameras,
    forearm,
):
    """Moves hands from the template's into the camera's frame and draws the camera.

    Args:
        hand: HandArrays.
        settings: PlaceSettings.
        given: GivenHands, those of the first M samples, with the views they are given in.
        cube: mm, side of the crop's cube.
        seed: integer of all streams.
        rows: [R] int64 samples to draw now, places in the arrays below.
        indices: [N] int64 sample numbers.
        attempts: [N] int64, which redraw of the sample this is.
        vertices: [N, V + Vs, 3] mm, in: hand posed by `pose_hands`; out: what is rendered, camera
            frame: the forearm too and, in version 2, the hand's end behind the wrist bent with it.
        straight: [N, V, 3] mm, out: the hand as the template poses it, camera frame: not bent.
        keypoints: [N, J, 3] mm, likewise.
        cameras: [N, 6] out: fx, fy, cx, cy, width, height of the image, pixels.
        forearm: [N] bool, out: whether the forearm is to be rendered.
    """
    count = hand.vertices.shape[0]
    rotation = np.empty((3, 3))
    middle = np.empty(3)
    target = np.empty(3)
    for n in rows:
        state = rng.stream(seed, indices[n], attempts[n], _STREAM_PLACE)
        forearm[n] = rng.uniform(state, 0.0, 1.0) < settings.forearm_share
        for k in range(count):
            for i in range(3):
                straight[n, k, i] = vertices[n, k, i]
        _attach_forearm(state, hand, settings, vertices[n])
        if rng.uniform(state, 0.0, 1.0) < settings.uniform_rotation_share:
            rng.random_rotation(state, rotation)
        else:
            _likely_rotation(state, hand, settings, rotation)
        z = rng.uniform(state, settings.distance_mm[0], settings.distance_mm[1])
        widths = settings.image_widths
        width = float(widths[int(rng.uniform(state, 0.0, len(widths)))])
        height = 0.75 * width
        focal = width * rng.uniform(state, settings.focal_per_width[0], settings.focal_per_width[1])
        cameras[n, 0] = focal
        cameras[n, 1] = focal * rng.uniform(state, 0.99, 1.01)
        cameras[n, 2] = 0.5 * width - 0.5 + width * rng.clipped_normal(state, 0.02, 0.05)
        cameras[n, 3] = 0.5 * height - 0.5 + height * rng.clipped_normal(state, 0.02, 0.05)
        cameras[n, 4] = width
        cameras[n, 5] = height
        # Middle of the hand within the image; whole hands keep a hand's half length to its border.
        share = 0.36 if rng.uniform(state, 0.0, 1.0) < settings.whole_in_frame_share else 0.2
        margin = share * cube * focal / z
        low_u, low_v = min(margin, 0.5 * width), min(margin, 0.5 * height)
        u = rng.uniform(state, low_u, width - low_u)
        v = rng.uniform(state, low_v, height - low_v)
        target[0] = (u - cameras[n, 2]) * z / cameras[n, 0]
        target[1] = (v - cameras[n, 3]) * z / cameras[n, 1]
        target[2] = z
        if n < given.rotation.shape[0]:
            state = rng.stream(seed, indices[n], attempts[n], _STREAM_VIEW)
            if rng.uniform(state, 0.0, 1.0) < given.settings.view_share:
                _given_rotation(state, given.settings, given.rotation[n], target, rotation)
        for i in range(3):
            middle[i] = 0.0
            for k in range(count):
                middle[i] += straight[n, k, i]
            middle[i] /= count
        _move(rotation, middle, target, vertices[n])
        _move(rotation, middle, target, straight[n])
        _move(rotation, middle, target, keypoints[n])


@kernel
def _move(rotation, middle, target, points):
    """points = rotation @ (points - middle) + target, in place."""
    for k in range(points.shape[0]):
        x = points[k, 0] - middle[0]
        y = points[k, 1] - middle[1]
        z = points[k, 2] - middle[2]
        for i in range(3):
            points[k, i] = rotation[i, 0] * x + rotation[i, 1] * y + rotation[i, 2] * z + target[i]
