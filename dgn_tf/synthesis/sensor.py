"""Sensor model: makes a clean depth image look like that of a structured-light or stereo camera.

One function for crops and for whole frames: distances in the image are given in native pixels and
scaled by the number of native pixels per pixel of the image at hand.
"""

import math
from typing import NamedTuple

import numpy as np

from dgn_tf.compiled import kernel
from dgn_tf.synthesis import randomness as rng

_STREAM_SENSOR, _STREAM_KIND, _STREAM_WIDEN = 6, 10, 11
# In the order of SynthesisConfig.sensor_shares; the first is what version 1 knows.
SENSORS = ("sensor", "structured_light", "stereo", "time_of_flight")
_STEP_MM = 15.0  # a surface so much nearer than its neighbour is another one, which may be widened


class SensorSettings(NamedTuple):
    """Ranges from which each frame draws its sensor; pairs are (low, high)."""

    clean_share: float = 0.1  # of frames: no noise at all
    shadow_share: float = 0.6  # of frames: structured-light shadow
    baseline_mm: tuple[float, float] = (15.0, 75.0)  # projector to camera, either side
    edge_jitter_px: tuple[float, float] = (0.2, 1.4)  # deviation, native pixels
    edge_width_px: tuple[float, float] = (0.3, 2.0)  # native pixels beside a step that may fail
    edge_missing: tuple[float, float] = (0.0, 0.8)  # probability there: no depth
    edge_flying: tuple[float, float] = (0.0, 0.4)  # probability there: a depth in between
    step_at_1m_mm: tuple[float, float] = (0.1, 4.0)  # disparity quantum, grows with z^2
    correlated_at_1m_mm: tuple[float, float] = (0.2, 3.0)  # deviation, grows with z^2
    correlation_px: tuple[float, float] = (3.0, 12.0)  # native pixels
    axial_mm: tuple[float, float] = (0.1, 1.0)  # deviation per pixel at z = 0
    axial_at_1m_mm: tuple[float, float] = (0.2, 4.0)  # further deviation, grows with z^2
    smooth_share: float = 0.3  # of frames: neighbours on the same surface are averaged
    grazing_cosine: tuple[float, float] = (0.05, 0.3)  # surfaces seen flatter may fail
    grazing_missing: tuple[float, float] = (0.0, 0.9)  # probability there
    blobs: tuple[float, float] = (0.0, 4.0)  # holes per crop-sized image
    blob_radius: tuple[float, float] = (0.008, 0.06)  # of the image's width
    patch_threshold: tuple[float, float] = (2.0, 3.5)  # of a smooth normal field; above: a hole
    speckle: tuple[float, float] = (0.0, 0.02)  # probability that a pixel is missing
    range_mm: tuple[float, float] = (1100.0, 5000.0)  # nothing is seen beyond
    # Version 2. Near surfaces come out wider than they are, by so much on each side, in some
    # frames; some lack nothing but what is out of range; stereo's windows, so many native pixels
    # and so many mm at the hand's distance to each side, average the surfaces less far apart than
    # their reach.
    widen_share: float = 0.0
    widen_mm: tuple[float, float] = (0.0, 3.0)
    complete_share: float = 0.0
    window_px: tuple[float, float] = (0.0, 0.0)
    window_mm: tuple[float, float] = (0.0, 0.0)
    window_reach_mm: tuple[float, float] = (30.0, 30.0)


# What published measurements of such cameras and the frames at hand show, set by hand: structured
# light at short range is smooth and nearly complete; stereo widens, blurs and fuses by its window,
# fingers with each other and a hand with the table it lies on (seen on D4xx: with windows below
# 10 mm, hands posed as those frames' labels say came out 7 times as well as the real frames did);
# time of flight is noisy, with flying pixels around near surfaces and no projector's shadow.
STRUCTURED_LIGHT = SensorSettings(
    clean_share=0.0,
    shadow_share=0.5,
    baseline_mm=(20.0, 75.0),
    edge_jitter_px=(0.2, 1.0),
    edge_width_px=(0.3, 1.5),
    edge_missing=(0.0, 0.5),
    edge_flying=(0.0, 0.2),
    step_at_1m_mm=(0.05, 1.0),
    correlated_at_1m_mm=(0.1, 2.0),
    correlation_px=(3.0, 20.0),
    axial_mm=(0.02, 0.3),
    axial_at_1m_mm=(0.05, 1.0),
    smooth_share=0.7,
    grazing_cosine=(0.05, 0.2),
    grazing_missing=(0.0, 0.5),
    blobs=(0.0, 1.0),
    patch_threshold=(2.5, 4.0),
    speckle=(0.0, 0.003),
    widen_share=0.4,
    widen_mm=(0.0, 1.5),
    complete_share=0.6,
)
STEREO = STRUCTURED_LIGHT._replace(
    shadow_share=0.8,
    baseline_mm=(18.0, 95.0),
    edge_jitter_px=(0.3, 1.5),
    edge_missing=(0.0, 0.4),
    edge_flying=(0.0, 0.3),
    step_at_1m_mm=(0.5, 6.0),
    correlated_at_1m_mm=(0.5, 6.0),
    correlation_px=(6.0, 25.0),
    smooth_share=1.0,
    blobs=(0.0, 2.0),
    widen_share=1.0,
    widen_mm=(0.5, 12.0),
    complete_share=0.3,
    window_mm=(3.0, 26.0),
    window_reach_mm=(20.0, 70.0),
)
TIME_OF_FLIGHT = STRUCTURED_LIGHT._replace(
    shadow_share=0.0,
    edge_jitter_px=(0.1, 0.8),
    edge_width_px=(0.8, 2.5),
    edge_missing=(0.0, 0.25),
    edge_flying=(0.3, 0.95),
    step_at_1m_mm=(0.05, 1.0),
    correlated_at_1m_mm=(0.5, 3.0),
    correlation_px=(5.0, 25.0),
    axial_mm=(0.5, 2.5),
    axial_at_1m_mm=(0.2, 1.5),
    smooth_share=0.3,
    speckle=(0.0, 0.01),
    widen_share=0.3,
    complete_share=0.2,
)


@kernel
def _field(state, cell, height, width, out):
    """Fills `out` [H, W] with a smooth field of about unit variance, correlated over `cell` px."""
    cell = max(1.0, cell)
    rows, columns = int(height / cell) + 3, int(width / cell) + 3
    knots = np.empty((rows, columns))
    for j in range(rows):
        for i in range(columns):
            knots[j, i] = rng.quick_normal(state)
    shift_u, shift_v = rng.uniform(state, 0.0, 1.0), rng.uniform(state, 0.0, 1.0)
    for j in range(height):
        v = j / cell + shift_v
        row = int(v)
        v -= row
        for i in range(width):
            u = i / cell + shift_u
            column = int(u)
            u -= column
            value = (1.0 - v) * ((1.0 - u) * knots[row, column] + u * knots[row, column + 1])
            value += v * ((1.0 - u) * knots[row + 1, column] + u * knots[row + 1, column + 1])
            # Bilinear weights lower the variance to 4/9 on average.
            out[j, i] = 1.5 * value


@kernel
def _shadow(state, settings, clean, fx, missing):
    """Marks surfaces that the projector, beside the camera, does not light."""
    height, width = clean.shape
    baseline = rng.uniform(state, settings.baseline_mm[0], settings.baseline_mm[1])
    to_right = rng.uniform(state, 0.0, 1.0) < 0.5
    for j in range(height):
        # Projector's column of each pixel: lit surfaces keep their order along the row.
        reached = -np.inf
        for k in range(width):
            i = k if to_right else width - 1 - k
            z = clean[j, i]
            if z == np.inf:
                z = 1e5
            column = k + fx * baseline / z
            if column < reached - 0.5:
                missing[j, i] = True
            else:
                reached = max(reached, column)


@kernel
def _displace(state, settings, ratio, clean, face, barycentric, depth, out_face, out_barycentric):
    """Edge jitter: each pixel looks at a place nearby. Copies depth and labels from there."""
    height, width = clean.shape
    sigma = rng.uniform(state, settings.edge_jitter_px[0], settings.edge_jitter_px[1]) / ratio
    for j in range(height):
        for i in range(width):
            right, down = rng.quick_pair(state)
            row = int(math.floor(j + sigma * down + 0.5))
            column = int(math.floor(i + sigma * right + 0.5))
            row = min(max(row, 0), height - 1)
            column = min(max(column, 0), width - 1)
            depth[j, i] = clean[row, column]
            out_face[j, i] = face[row, column]
            out_barycentric[j, i, 0] = barycentric[row, column, 0]
            out_barycentric[j, i, 1] = barycentric[row, column, 1]


@kernel
def _widen_line(more, radius_mm, fx, depth, face, barycentric, z, f, b):
    """One row or column: pixels beside a nearer surface show that surface.

    `z`, `f` and `b` are scratch for the line as it was.
    """
    length = depth.shape[0]
    nearest = np.inf
    for i in range(length):
        z[i], f[i] = depth[i], face[i]
        b[i, 0], b[i, 1] = barycentric[i, 0], barycentric[i, 1]
        nearest = min(nearest, z[i])
    reach = int(radius_mm * fx / nearest + 1.0)
    for i in range(length):
        nearer, source = z[i] - _STEP_MM, -1
        for k in range(max(0, i - reach), min(length, i + reach + 1)):
            if z[k] < nearer and abs(i - k) <= radius_mm * fx / z[k] + more:
                nearer, source = z[k], k
        if source >= 0:
            depth[i], face[i] = z[source], f[source]
            barycentric[i, 0], barycentric[i, 1] = b[source, 0], b[source, 1]


@kernel
def _widen(state, radius_mm, fx, depth, face, barycentric):
    """Widens near surfaces on every side, in place, as the windows of stereo matching do."""
    height, width = depth.shape
    length = max(height, width)
    z, f, b = np.empty(length), np.empty(length, np.int32), np.empty((length, 2))
    more = rng.uniform(state, 0.0, 1.0)  # of a pixel: whole pixels, the radius in the mean
    for j in range(height):
        _widen_line(more, radius_mm, fx, depth[j], face[j], barycentric[j], z, f, b)
    for i in range(width):
        _widen_line(more, radius_mm, fx, depth[:, i], face[:, i], barycentric[:, i], z, f, b)


@kernel
def _hand_distance(depth, face):
    """Mean depth of the hand's pixels, mm; inf where there are none."""
    total, count = 0.0, 0
    for j in range(depth.shape[0]):
        for i in range(depth.shape[1]):
            if face[j, i] >= 0:
                total += depth[j, i]
                count += 1
    return total / count if count > 0 else np.inf


@kernel
def _average(radius, reach_mm, depth, scratch):
    """Averages depth over windows of `radius` pixels to each side, of surfaces near each other."""
    height, width = depth.shape
    for j in range(height):
        for i in range(width):
            scratch[j, i] = depth[j, i]
    for j in range(height):
        for i in range(width):
            z = scratch[j, i]
            if z == np.inf:
                continue
            total, count = 0.0, 0.0
            for row in range(max(0, j - radius), min(height, j + radius + 1)):
                for column in range(max(0, i - radius), min(width, i + radius + 1)):
                    other = scratch[row, column]
                    if abs(other - z) < reach_mm:
                        total += other
                        count += 1.0
            depth[j, i] = total / count


@kernel
def _edges(state, settings, ratio, fx, clean, depth, face, missing):
    """Missing and flying pixels beside depth steps, missing ones on grazing surfaces."""
    height, width = clean.shape
    width_px = rng.uniform(state, settings.edge_width_px[0], settings.edge_width_px[1])
    zone = min(1.0, width_px / ratio)
    lost = zone * rng.uniform(state, settings.edge_missing[0], settings.edge_missing[1])
    flying = zone * rng.uniform(state, settings.edge_flying[0], settings.edge_flying[1])
    cosine = rng.uniform(state, settings.grazing_cosine[0], settings.grazing_cosine[1])
    steep = math.sqrt(1.0 / (cosine * cosine) - 1.0)
    grazing = rng.uniform(state, settings.grazing_missing[0], settings.grazing_missing[1])
    for j in range(height):
        for i in range(width):
            z = clean[j, i]
            if z == np.inf:
                continue
            low, high = z, z
            for k in range(4):
                row = min(max(j + (k == 0) - (k == 1), 0), height - 1)
                column = min(max(i + (k == 2) - (k == 3), 0), width - 1)
                low, high = min(low, clean[row, column]), max(high, clean[row, column])
            step = high - low
            pixel = z / fx  # mm across a pixel
            if step > 12.0 + 3.0 * pixel:
                draw = rng.uniform(state, 0.0, 1.0)
                if draw < lost:
                    missing[j, i] = True
                elif draw < lost + flying and high < z + 400.0:
                    depth[j, i] = low + rng.uniform(state, 0.0, 1.0) * step
                    face[j, i] = -1
            # The central differences span two pixels.
            elif step > 2.0 * steep * pixel and rng.uniform(state, 0.0, 1.0) < grazing:
                missing[j, i] = True


@kernel
def _smooth(depth, scratch):
    """Averages 3x3 neighbours within 12 mm, as the filters built into cameras do."""
    height, width = depth.shape
    for j in range(height):
        for i in range(width):
            scratch[j, i] = depth[j, i]
    for j in range(1, height - 1):
        for i in range(1, width - 1):
            z = scratch[j, i]
            if z == np.inf:
                continue
            total, count = 0.0, 0.0
            for row in range(j - 1, j + 2):
                for column in range(i - 1, i + 2):
                    other = scratch[row, column]
                    if abs(other - z) < 12.0:
                        total += other
                        count += 1.0
            depth[j, i] = total / count


@kernel
def _holes(state, settings, depth, scratch, missing):
    """Marks elliptic holes, smooth random patches and single pixels as missing."""
    height, width = missing.shape
    for _ in range(int(rng.uniform(state, settings.blobs[0], settings.blobs[1] + 1.0))):
        u, v = rng.uniform(state, 0.0, width), rng.uniform(state, 0.0, height)
        a = width * rng.log_uniform(state, settings.blob_radius[0], settings.blob_radius[1])
        b = a * rng.uniform(state, 0.5, 1.0)
        turn = rng.uniform(state, 0.0, math.pi)
        c, s = math.cos(turn), math.sin(turn)
        for j in range(max(0, int(v - a)), min(height, int(v + a) + 2)):
            for i in range(max(0, int(u - a)), min(width, int(u + a) + 2)):
                x, y = c * (i - u) + s * (j - v), c * (j - v) - s * (i - u)
                if (x / a) ** 2 + (y / b) ** 2 < 1.0:
                    missing[j, i] = True
    threshold = rng.uniform(state, settings.patch_threshold[0], settings.patch_threshold[1])
    speckle = rng.uniform(state, settings.speckle[0], settings.speckle[1])
    _field(state, width / 16.0, height, width, scratch)
    for j in range(height):
        for i in range(width):
            if depth[j, i] == np.inf:
                continue
            if scratch[j, i] > threshold or rng.uniform(state, 0.0, 1.0) < speckle:
                missing[j, i] = True


@kernel
def observe(
    sensors, shares, seed, index, ratio, fx, clean, face, barycentric, depth, out_face, out_bary
):
    """Turns a clean depth image into one that a sensor would give.

    Args:
        sensors: SensorSettings in the order of SENSORS.
        shares: how often each of them is drawn.
        seed: integer of all streams.
        index: number of the sample.
        ratio: native pixels per pixel of this image (1 for a native image).
        fx: focal length in pixels of this image.
        clean: [H, W] mm, inf where there is nothing.
        face: [H, W] int32, -1 where there is no hand.
        barycentric: [H, W, 2].
        depth: [H, W] mm, out; 0 where missing.
        out_face: [H, W] out: the face whose depth a pixel shows (jitter moves both), or -1.
        out_bary: [H, W, 2] out.
    """
    height, width = clean.shape
    settings = sensors[rng.choice(rng.stream(seed, index, 0, _STREAM_KIND), shares)]
    extra = rng.stream(seed, index, 0, _STREAM_WIDEN)  # of what version 1 does not have
    state = rng.stream(seed, index, 0, _STREAM_SENSOR)
    if rng.uniform(state, 0.0, 1.0) < settings.clean_share:
        for j in range(height):
            for i in range(width):
                z = clean[j, i]
                depth[j, i] = 0.0 if z == np.inf else z
                out_face[j, i] = face[j, i]
                out_bary[j, i, 0] = barycentric[j, i, 0]
                out_bary[j, i, 1] = barycentric[j, i, 1]
        return
    missing = np.empty((height, width), np.bool_)
    for j in range(height):
        for i in range(width):
            missing[j, i] = False
    scratch = np.empty((height, width))
    work = np.empty((height, width))
    if rng.uniform(extra, 0.0, 1.0) < settings.widen_share:
        radius = rng.uniform(extra, settings.widen_mm[0], settings.widen_mm[1])
        clean, face, barycentric = clean.copy(), face.copy(), barycentric.copy()
        _widen(extra, radius, fx, clean, face, barycentric)
    complete = rng.uniform(extra, 0.0, 1.0) < settings.complete_share
    window = rng.uniform(extra, settings.window_px[0], settings.window_px[1]) / ratio
    window += (
        rng.uniform(extra, settings.window_mm[0], settings.window_mm[1])
        * fx
        / _hand_distance(clean, face)
    )
    reach = rng.uniform(extra, settings.window_reach_mm[0], settings.window_reach_mm[1])
    if rng.uniform(state, 0.0, 1.0) < settings.shadow_share:
        _shadow(state, settings, clean, fx, missing)
    _displace(state, settings, ratio, clean, face, barycentric, work, out_face, out_bary)
    _edges(state, settings, ratio, fx, clean, work, out_face, missing)
    if int(window + 0.5) > 0:
        _average(int(window + 0.5), reach, work, scratch)
    _holes(state, settings, work, scratch, missing)
    cell = rng.uniform(state, settings.correlation_px[0], settings.correlation_px[1]) / ratio
    _field(state, cell, height, width, scratch)
    # Depth errors that grow with z^2 are constant in inverse depth, 1/m.
    step = 1e-3 * rng.log_uniform(state, settings.step_at_1m_mm[0], settings.step_at_1m_mm[1])
    correlated = 1e-3 * rng.log_uniform(
        state, settings.correlated_at_1m_mm[0], settings.correlated_at_1m_mm[1]
    )
    axial = rng.log_uniform(state, settings.axial_mm[0], settings.axial_mm[1])
    white = 1e-3 * rng.log_uniform(state, settings.axial_at_1m_mm[0], settings.axial_at_1m_mm[1])
    farthest = rng.log_uniform(state, settings.range_mm[0], settings.range_mm[1])
    for j in range(height):
        for i in range(width):
            z = work[j, i]
            if z == np.inf or z > farthest:
                work[j, i] = np.inf
                continue
            inverse = 1000.0 / z + correlated * scratch[j, i] + white * rng.quick_normal(state)
            inverse = math.floor(inverse / step + 0.5) * step
            work[j, i] = 1000.0 / max(inverse, 0.05) + axial * rng.quick_normal(state)
    if rng.uniform(state, 0.0, 1.0) < settings.smooth_share:
        _smooth(work, scratch)
    for j in range(height):
        for i in range(width):
            z = work[j, i]
            lost = missing[j, i] and not complete
            depth[j, i] = 0.0 if lost or z == np.inf else z
