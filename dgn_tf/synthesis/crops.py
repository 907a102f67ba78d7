"""Renders hands into crops around them, and lets a sensor see them; compiled."""

import numpy as np

from dgn_tf.compiled import kernel
from dgn_tf.geometry.raster import rasterize
from dgn_tf.synthesis import randomness as rng
from dgn_tf.synthesis.scene import render_solids
from dgn_tf.synthesis.sensor import observe

NEAR_MM = 40.0
_COARSE_SIZE = 32
_STREAM_CENTRE = 5


@kernel
def _crop_rays(camera, intrinsics, columns, rows, column_seen, row_seen):
    """Snaps the rays of crop pixels to the native pixels that nearest neighbour picks.

    Returns the largest distance of a ray from its crop pixel's centre, in crop pixels.
    """
    largest = 0.0
    for axis in range(2):
        rays = columns if axis == 0 else rows
        seen = column_seen if axis == 0 else row_seen
        scale = intrinsics[axis] / camera[axis]  # crop pixels per native pixel
        offset = intrinsics[2 + axis] - scale * camera[2 + axis]
        for i in range(rays.shape[0]):
            native = np.floor((i - offset) / scale + 0.5)
            rays[i] = scale * native + offset
            seen[i] = 0.0 <= native <= camera[4 + axis] - 1.0
        largest = max(largest, 0.5 * scale)
    return largest + 1e-6


@kernel
def _render_crop(
    vertices,
    faces,
    hand_faces,
    face_count,
    camera,
    centre,
    cube,
    solids,
    count,
    scratch,
    depth,
    face,
    barycentric,
    intrinsics_out,
):
    """Renders one crop without noise; returns visible hand pixels and the sum of their xyz."""
    size = depth.shape[0]
    focal = size * centre[2] / cube
    middle = 0.5 * (size - 1)
    intrinsics = (
        focal,
        focal,
        middle - focal * centre[0] / centre[2],
        middle - focal * centre[1] / centre[2],
    )
    columns, rows = np.empty(size), np.empty(size)
    column_seen, row_seen = np.empty(size, np.bool_), np.empty(size, np.bool_)
    snap = _crop_rays(camera, intrinsics, columns, rows, column_seen, row_seen)
    for j in range(size):
        for i in range(size):
            depth[j, i] = np.inf
            face[j, i] = -1
    rasterize(
        vertices,
        faces[:face_count],
        intrinsics,
        columns,
        rows,
        snap,
        NEAR_MM,
        scratch,
        depth,
        face,
        barycentric,
    )
    render_solids(solids, count, intrinsics, columns, rows, depth, face)
    x, y, z = 0.0, 0.0, 0.0
    seen = 0
    for j in range(size):
        for i in range(size):
            if not (column_seen[i] and row_seen[j]):
                depth[j, i] = np.inf
                face[j, i] = -1
            if face[j, i] >= hand_faces:
                face[j, i] = -1
            if face[j, i] >= 0:
                x += (columns[i] - intrinsics[2]) / focal * depth[j, i]
                y += (rows[j] - intrinsics[3]) / focal * depth[j, i]
                z += depth[j, i]
                seen += 1
            else:
                barycentric[j, i, 0] = 0.0
                barycentric[j, i, 1] = 0.0
    for i in range(4):
        intrinsics_out[i] = intrinsics[i]
    return seen, x, y, z


@kernel
def render_crops(
    vertices,
    hand_vertices,
    faces,
    hand_faces,
    cameras,
    forearm,
    solids,
    counts,
    size,
    cube,
    jitter,
    large_jitter,
    large_share,
    seed,
    rows,
    indices,
    attempts,
    depth,
    face,
    barycentric,
    intrinsics,
    centres,
    pixels,
):
    """Finds each crop's centre from a coarse rendering, then renders the crop itself."""
    scratch = np.empty(vertices.shape[1:])
    coarse_depth = np.empty((_COARSE_SIZE, _COARSE_SIZE))
    coarse_face = np.empty((_COARSE_SIZE, _COARSE_SIZE), np.int32)
    coarse_barycentric = np.empty((_COARSE_SIZE, _COARSE_SIZE, 2))
    centre = np.empty(3)
    for n in rows:
        state = rng.stream(seed, indices[n], attempts[n], _STREAM_CENTRE)
        face_count = faces.shape[0] if forearm[n] else hand_faces
        for i in range(3):
            centre[i] = 0.0
            for k in range(hand_vertices):
                centre[i] += vertices[n, k, i]
            centre[i] /= hand_vertices
        seen, x, y, z = _render_crop(
            vertices[n],
            faces,
            hand_faces,
            face_count,
            cameras[n],
            centre,
            cube,
            solids[n],
            counts[n, 0],
            scratch,
            coarse_depth,
            coarse_face,
            coarse_barycentric,
            intrinsics[n],
        )
        if seen > 0:
            centre[0], centre[1], centre[2] = x / seen, y / seen, z / seen
        sigma = large_jitter if rng.uniform(state, 0.0, 1.0) < large_share else jitter
        for i in range(3):
            centre[i] += rng.clipped_normal(state, sigma, 2.0 * sigma)
        centre[2] = max(centre[2], 2.0 * NEAR_MM)
        for i in range(3):
            centres[n, i] = centre[i]
        pixels[n], x, y, z = _render_crop(
            vertices[n],
            faces,
            hand_faces,
            face_count,
            cameras[n],
            centre,
            cube,
            solids[n],
            counts[n, 1],
            scratch,
            depth[n],
            face[n],
            barycentric[n],
            intrinsics[n],
        )


@kernel
def observe_crops(
    sensors,
    shares,
    seed,
    indices,
    cameras,
    intrinsics,
    clean,
    clean_face,
    clean_barycentric,
    depth,
    face,
    barycentric,
):
    for n in range(indices.shape[0]):
        observe(
            sensors,
            shares,
            seed,
            indices[n],
            cameras[n, 0] / intrinsics[n, 0],
            intrinsics[n, 0],
            clean[n],
            clean_face[n],
            clean_barycentric[n],
            depth[n],
            face[n],
            barycentric[n],
        )
