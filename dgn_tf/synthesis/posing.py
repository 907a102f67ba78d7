"""Random hands: shape coefficients, joint angles, forward kinematics and skinning, compiled."""

import math
from typing import NamedTuple

import numpy as np

from dgn_tf.compiled import kernel
from dgn_tf.synthesis import randomness as rng
from dgn_tf.synthesis.hand_measures import draw_measures, take_measures

# Parts of the pose sampler's mixture, in the order of PoseSettings.gesture_shares.
GESTURES = ("relaxed", "flat", "fist", "grasp", "count", "pinch", "claw", "independent")
_RELAXED, _FLAT, _FIST, _GRASP, _COUNT, _PINCH, _CLAW, _INDEPENDENT = range(8)
STREAM_SHAPE, STREAM_POSE, _STREAM_GIVEN, STREAM_MEASURES = 1, 2, 8, 13


class PoseSettings(NamedTuple):
    """How hands are posed and shaped."""

    uniform_share: float = 0.3  # of frames: joint angles uniform within limits; rest by synergies
    # In the order of GESTURES.
    gesture_shares: tuple[float, ...] = (0.15, 0.25, 0.09, 0.13, 0.12, 0.1, 0.07, 0.09)
    angle_noise: float = 0.06  # deviation added to a synergy's angles, of each limit's range
    collision_draws: int = 3  # poses drawn, the one whose fingers overlap least is kept; 1: plain
    shape_sigma: float = 1.0  # deviation of the shape coefficients
    shape_clip: float = 2.0  # and where they are cut off
    scale_sigma: float = 0.0  # further deviation of the whole hand's scale (0.05: 5 %)
    prior_share: float = 0.5  # of frames, where there is a pose prior: joint angles from it
    prior_noise: float = 0.03  # deviation added to those, of each limit's range
    # Version 2: hands take length and breadths from published measures (`hand_measures`), whose
    # deviations are widened by so much; 0: those of the template's shapes.
    measures_spread: float = 0.0
    tucked_share: float = 0.0  # of fists: the thumb lies over the fingers


@kernel
def euler_rotation(x, y, z, out):
    """Fills `out` [3, 3] with Rx @ Ry @ Rz (radians)."""
    cx, sx, cy, sy = math.cos(x), math.sin(x), math.cos(y), math.sin(y)
    cz, sz = math.cos(z), math.sin(z)
    out[0, 0], out[0, 1], out[0, 2] = cy * cz, -cy * sz, sy
    out[1, 0] = cx * sz + sx * sy * cz
    out[1, 1] = cx * cz - sx * sy * sz
    out[1, 2] = -sx * cy
    out[2, 0] = sx * sz - cx * sy * cz
    out[2, 1] = sx * cz + cx * sy * sz
    out[2, 2] = cx * cy


@kernel
def _bent(fraction, low, high):
    """Angle at a fraction of the limit: negative ones extend, 1 is fully flexed."""
    return fraction * high if fraction >= 0.0 else -fraction * low


@kernel
def _draw_angles(state, hand, settings, angles):
    """Fills `angles` [P, 3]: all uniform within limits, or by a gesture's synergy."""
    parts = angles.shape[0]
    if rng.uniform(state, 0.0, 1.0) < settings.uniform_share:
        for p in range(parts):
            for axis in range(3):
                low, high = hand.limits[p, axis, 0], hand.limits[p, axis, 1]
                angles[p, axis] = rng.uniform(state, low, high)
        return
    gesture = rng.choice(state, settings.gesture_shares)
    common = rng.uniform(state, 0.0, 1.0)
    pinching = 1 + int(rng.uniform(state, 0.0, 1.7))  # mostly the index finger
    spread = rng.uniform(state, -1.0, 1.0)
    gradient = rng.uniform(state, -0.1, 0.2)  # the little finger curls more than the index
    opposition = rng.uniform(state, 0.0, 1.0)
    thumb_curl = rng.uniform(state, 0.0, 1.0)
    near_share = rng.uniform(state, 0.0, 1.0)
    fingers = 0
    for p in range(parts):
        fingers = max(fingers, hand.finger[p] + 1)
    curls = np.zeros((fingers, 2))  # near joint, far joints
    for f in range(1, fingers):
        wobble = rng.uniform(state, -1.0, 1.0)
        if gesture == _RELAXED:
            curl = 0.5 * common + 0.1 * wobble + gradient * (f - 1) / 3.0
        elif gesture == _FLAT:
            curl = -0.1 + 0.22 * common + 0.05 * wobble
        elif gesture == _FIST:
            curl = 0.75 + 0.22 * common + 0.06 * wobble
        elif gesture == _GRASP:
            curl = 0.15 + 0.6 * common + 0.08 * wobble + gradient * (f - 1) / 3.0
        elif gesture == _COUNT:
            curl = 0.08 * wobble + (0.85 if rng.uniform(state, 0.0, 1.0) < 0.5 else 0.05)
        elif gesture == _PINCH:
            curl = 0.52 + 0.1 * wobble if f == pinching else 0.9 * common + 0.08 * wobble
        else:
            curl = 0.5 + 0.5 * wobble
        curls[f, 0] = curl
        curls[f, 1] = curl
        if gesture == _CLAW:
            curls[f, 0] = -0.3 + 0.5 * near_share + 0.1 * wobble
            curls[f, 1] = 0.3 + 0.6 * common + 0.1 * wobble
            if spread > 0.5:  # the other way round: bent at the knuckles, straight beyond
                curls[f, 0], curls[f, 1] = curls[f, 1] + 0.2, 0.1 * wobble
        elif gesture == _PINCH and f == pinching:
            curls[f, 0] = 0.4 + 0.25 * near_share
            curls[f, 1] = 0.75 - 0.5 * near_share
        elif gesture != _FLAT and gesture != _FIST:
            tilt = 0.5 * (near_share - 0.5) * curl
            curls[f, 0] = curl + tilt
            curls[f, 1] = curl - tilt
    if gesture == _FIST or gesture == _GRASP or gesture == _PINCH:
        opposition = 0.5 + 0.5 * opposition
        if gesture == _FIST and settings.tucked_share > 0.0:
            if rng.uniform(state, 0.0, 1.0) < settings.tucked_share:
                opposition = 0.5 + 0.5 * opposition
                thumb_curl = 0.4 + 0.5 * thumb_curl
    elif gesture == _FLAT:
        opposition = 0.45 * opposition
        thumb_curl = 0.3 * thumb_curl
    if gesture == _PINCH:
        thumb_curl = 0.2 + 0.3 * thumb_curl
    for p in range(parts):
        f = hand.finger[p]
        for axis in range(3):
            low, high = hand.limits[p, axis, 0], hand.limits[p, axis, 1]
            noise = rng.clipped_normal(state, settings.angle_noise, 0.2) * (high - low)
            if f < 0:
                angle = rng.uniform(state, low, high)
            elif f == 0 and hand.segment[p] == 0:
                share = opposition if axis < 2 else 0.5 * (opposition + near_share)
                if axis == 0:
                    share = 0.15 + 0.75 * share
                elif axis == 1:
                    share = 0.5 + 0.5 * spread
                angle = low + share * (high - low)
            elif axis == 0:
                if f == 0:
                    angle = _bent(thumb_curl - 0.15 * (1.0 - common), low, high)
                else:
                    angle = _bent(curls[f, min(hand.segment[p], 1)], low, high)
            elif hand.segment[p] == 0:
                # Fingers fan out together; knuckles that are bent leave no room for it.
                fan = spread * (f - fingers / 2.0) / max(1.0, fingers / 2.0 - 1.0)
                middle, half = 0.5 * (low + high), 0.5 * (high - low)
                angle = middle + half * fan * (1.0 - 0.8 * min(max(curls[f, 0], 0.0), 1.0))
            else:
                angle = 0.5 * (low + high)
            angles[p, axis] = min(max(angle + noise, low), high)


@kernel
def _vary_angles(state, hand, settings, given, angles):
    """Fills `angles` [P, 3]: those given with noise, no farther out of the limits than given."""
    for p in range(angles.shape[0]):
        for axis in range(3):
            low, high = hand.limits[p, axis, 0], hand.limits[p, axis, 1]
            noise = rng.clipped_normal(state, settings.angle_noise, 0.2) * (high - low)
            low, high = min(low, given[p, axis]), max(high, given[p, axis])
            angles[p, axis] = min(max(given[p, axis] + noise, low), high)


@kernel
def draw_shape(state, settings, given, n, coefficients):
    """Fills `coefficients` [K] of sample n; returns the scale of the whole hand."""
    clip = settings.shape_clip
    if n < given.shape.shape[0]:
        sigma = given.settings.shape_sigma
        for k in range(coefficients.shape[0]):
            value = given.shape[n, k] + rng.clipped_normal(state, sigma, clip)
            coefficients[k] = min(max(value, -clip), clip)
        return 1.0
    for k in range(coefficients.shape[0]):
        coefficients[k] = rng.clipped_normal(state, settings.shape_sigma, clip)
    return 1.0 + rng.clipped_normal(state, settings.scale_sigma, 2.0 * settings.scale_sigma)


@kernel
def _follow_prior(state, hand, settings, pose, angles):
    """Overwrites `angles` [P, 3] by those of a `pose` [P, 3] and noise; NaN: left as they are."""
    for p in range(angles.shape[0]):
        for axis in range(3):
            low, high = hand.limits[p, axis, 0], hand.limits[p, axis, 1]
            noise = rng.clipped_normal(state, settings.prior_noise, 0.1) * (high - low)
            if not math.isnan(pose[p, axis]):
                angles[p, axis] = min(max(pose[p, axis] + noise, low), high)


@kernel
def _chain_transforms(hand, joints, angles, transforms):
    """Fills `transforms` [P, 3, 4]: posed_from_rest of each part, in the template's frame."""
    local = np.empty((3, 3))
    turn = np.empty((3, 3))
    for p in range(angles.shape[0]):
        euler_rotation(angles[p, 0], angles[p, 1], angles[p, 2], local)
        bone = hand.bone_rotation[p]
        for i in range(3):
            for j in range(3):
                total = 0.0
                for k in range(3):
                    for m in range(3):
                        total += bone[i, k] * local[k, m] * bone[j, m]
                turn[i, j] = total
        parent = hand.parents[p]
        for i in range(3):
            if parent == p:
                for j in range(3):
                    transforms[p, i, j] = turn[i, j]
                offset = joints[p, i]
            else:
                offset = transforms[parent, i, 3]
                for j in range(3):
                    total = 0.0
                    for k in range(3):
                        total += transforms[parent, i, k] * turn[k, j]
                    transforms[p, i, j] = total
                    offset += transforms[parent, i, j] * joints[p, j]
            for j in range(3):
                offset -= transforms[p, i, j] * joints[p, j]
            transforms[p, i, 3] = offset


@kernel
def _overlap(hand, transforms, posed):
    """mm by which the balls of different fingers, or of a finger and the palm, overlap at most."""
    count = hand.balls.shape[0]
    for n in range(count):
        t = transforms[hand.ball_part[n]]
        for i in range(3):
            posed[n, i] = t[i, 3]
            for j in range(3):
                posed[n, i] += t[i, j] * hand.balls[n, j]
    worst = 0.0
    for n in range(count):
        p = hand.ball_part[n]
        for m in range(n):
            q = hand.ball_part[m]
            if hand.finger[p] == hand.finger[q]:
                continue
            # Neighbouring roots of fingers, and roots and palm, touch at rest.
            if hand.segment[p] == 0 and hand.segment[q] == 0:
                continue
            gap = 0.0
            for i in range(3):
                gap += (posed[n, i] - posed[m, i]) ** 2
            worst = max(worst, hand.balls[n, 3] + hand.balls[m, 3] - math.sqrt(gap))
    return worst


@kernel
def _skin(transforms, rest, part, weight, out):
    """Linear blend skinning of points [N, 3] with sparse weights [N, S] into `out` [N, 3]."""
    for n in range(rest.shape[0]):
        x, y, z = rest[n, 0], rest[n, 1], rest[n, 2]
        for i in range(3):
            total = 0.0
            for s in range(part.shape[1]):
                w = weight[n, s]
                if w == 0.0:
                    break
                t = transforms[part[n, s]]
                total += w * (t[i, 0] * x + t[i, 1] * y + t[i, 2] * z + t[i, 3])
            out[n, i] = total


@kernel
def _copy(source, target):
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            target[i, j] = source[i, j]


@kernel
def _shape(mean, basis, coefficients, scale, out):
    """out [N, 3] = scale * (mean [N, 3] + sum_k coefficients[k] basis[k] [K, N * 3])."""
    flat, flat_mean = out.reshape(-1), mean.reshape(-1)  # flat loops become vector instructions
    for i in range(flat.shape[0]):
        flat[i] = scale * flat_mean[i]
    for k in range(basis.shape[0]):
        weight = scale * coefficients[k]
        row = basis[k]
        for i in range(flat.shape[0]):
            flat[i] += weight * row[i]


@kernel
def pose_hands(hand, settings, given, prior, seed, rows, indices, attempts, vertices, keypoints):
    """Draws shape and pose of one hand per row, in the template's frame.

    Args:
        hand: HandArrays.
        settings: PoseSettings.
        given: GivenHands, those of the first M samples; the others are drawn.
        prior: [M, P, 3] joint angles to draw poses from, NaN where not known; M may be 0.
        seed: integer of all streams.
        rows: [R] int64 samples to draw now, places in the arrays below.
        indices: [N] int64 sample numbers.
        attempts: [N] int64, which redraw of the sample this is.
        vertices: [N, V + Vs, 3] float64, out: the hand in rows [:, :V].
        keypoints: [N, J, 3] float64, out.
    """
    count = hand.vertices.shape[0]
    parts = hand.parents.shape[0]
    rest = np.empty((count, 3))
    joints = np.empty((parts, 3))
    angles = np.empty((parts, 3))
    best = np.empty((parts, 3))
    transforms = np.empty((parts, 3, 4))
    posed = np.empty((hand.balls.shape[0], 3))
    rest_keypoints = np.empty(hand.keypoints.shape)
    coefficients = np.empty(hand.shape_joints.shape[0])
    wanted = np.empty(3)
    for n in rows:
        state = rng.stream(seed, indices[n], attempts[n], STREAM_SHAPE)
        scale = draw_shape(state, settings, given, n, coefficients)
        _shape(hand.vertices, hand.shape_vertices, coefficients, scale, rest)
        _shape(hand.joints, hand.shape_joints, coefficients, scale, joints)
        _shape(hand.keypoints, hand.shape_keypoints, coefficients, scale, rest_keypoints)
        is_given = n < given.angles.shape[0]
        if settings.measures_spread > 0.0 and not is_given:
            state = rng.stream(seed, indices[n], attempts[n], STREAM_MEASURES)
            draw_measures(state, settings.measures_spread, wanted)
            take_measures(hand.measured, wanted, rest, joints, rest_keypoints)
        purpose = _STREAM_GIVEN if is_given else STREAM_POSE
        state = rng.stream(seed, indices[n], attempts[n], purpose)
        # Without a prior nothing is drawn: the stream is what it was before there were priors.
        row = -1
        if not is_given and len(prior) and rng.uniform(state, 0.0, 1.0) < settings.prior_share:
            row = int(rng.uniform(state, 0.0, len(prior)))
        least = np.inf
        for _ in range(settings.collision_draws):
            if is_given:
                _vary_angles(state, hand, given.settings, given.angles[n], angles)
            else:
                _draw_angles(state, hand, settings, angles)
                if row >= 0:
                    _follow_prior(state, hand, settings, prior[row], angles)
            if settings.collision_draws == 1:
                _copy(angles, best)
                break
            _chain_transforms(hand, joints, angles, transforms)
            overlap = _overlap(hand, transforms, posed)
            if overlap < least:
                least = overlap
                _copy(angles, best)
            if overlap < 3.0:
                break
        _chain_transforms(hand, joints, best, transforms)
        _skin(transforms, rest, hand.skin_part, hand.skin_weight, vertices[n])
        _skin(transforms, rest_keypoints, hand.keypoint_part, hand.keypoint_weight, keypoints[n])
