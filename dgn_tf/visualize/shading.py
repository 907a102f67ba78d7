"""Shaded pictures of a mesh as a camera sees it."""

import functools

import numpy as np

from dgn_tf.geometry import raster

SKIN = (224, 172, 140)  # RGB of a fully lit surface
_AMBIENT = 0.25


def vertex_normals(vertices, faces) -> np.ndarray:
    """Unit normals [V, 3], outward: the mean of the adjacent faces' normals, weighted by area."""
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
    corners = vertices[faces]  # [F, 3, 3]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    summed = np.stack(
        [
            np.bincount(faces.ravel(), np.repeat(normals[:, axis], 3), minlength=len(vertices))
            for axis in range(3)
        ],
        axis=-1,
    )
    return summed / np.maximum(np.linalg.norm(summed, axis=-1, keepdims=True), 1e-12)


def shade(
    vertices, faces, intrinsics, width, height, colour=SKIN, samples=2, light=(-0.3, -0.5, -1)
):
    """Renders a mesh with Lambert shading and smooth normals.

    Args:
        vertices: [V, 3] mm, camera frame.
        faces: [F, 3], corners anticlockwise as seen from outside; back faces are not drawn.
        intrinsics: fx, fy, cx, cy of the picture, pixels.
        width: columns of the picture.
        height: rows of the picture.
        colour: RGB 0..255 of a fully lit surface, or [V, 3] of each vertex.
        samples: supersampling on each axis, against jagged edges.
        light: direction from the surface to the light, camera frame.

    Returns:
        rgb [height, width, 3] float32 0..255, premultiplied by alpha; alpha [height, width] float32
        0..1, how much of the pixel the mesh covers; depth [height, width] float32 mm, inf where
        there is no mesh.
    """
    faces = np.asarray(faces)
    fx, fy, cx, cy = (float(value) for value in intrinsics)
    shift = (samples - 1) / 2  # pixel centres are at integers, at every resolution
    fine = (fx * samples, fy * samples, cx * samples + shift, cy * samples + shift)
    depth, face, weights = raster.render_mesh(
        vertices, faces, fine, width * samples, height * samples
    )
    hit = face >= 0
    corners = faces[face[hit]]  # [N, 3]
    weights = weights[hit]
    weights = np.concatenate([1 - weights.sum(-1, keepdims=True), weights], axis=-1)[..., None]
    normals = (vertex_normals(vertices, faces)[corners] * weights).sum(axis=1)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    light = np.asarray(light, np.float64) / np.linalg.norm(light)
    lambert = np.clip(normals @ light, 0, 1)
    brightness = _AMBIENT + (1 - _AMBIENT) * lambert
    colour = np.asarray(colour, np.float64)
    if colour.ndim == 2:
        colour = (colour[corners] * weights).sum(axis=1)
    rgb = np.zeros([*hit.shape, 3], np.float32)
    rgb[hit] = brightness[:, None] * colour

    def samples_of(values):
        """The pictures of which each pixel's samples are one; numpy is slow along short axes."""
        return [values[i::samples, j::samples] for i in range(samples) for j in range(samples)]

    return (
        sum(samples_of(rgb)) / np.float32(samples**2),
        sum(samples_of(hit.astype(np.float32))) / np.float32(samples**2),
        functools.reduce(np.minimum, samples_of(depth)).astype(np.float32),
    )


def over(rgb, alpha, background, opacity: float = 1.0) -> np.ndarray:
    """Lays a premultiplied picture over `background` [H, W, 3]; returns uint8."""
    alpha = alpha[..., None] * opacity
    return np.clip(rgb * opacity + background * (1 - alpha) + 0.5, 0, 255).astype(np.uint8)
