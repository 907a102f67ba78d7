"""Pinhole cameras: pixels to camera space and back.

Camera frame: x right, y down, z forward, mm. Pixel centres are at integers: (0, 0) is the centre
of the top left pixel.
"""

import tensorflow as tf


def project(xyz: tf.Tensor, intrinsics: tf.Tensor) -> tf.Tensor:
    """Projects points to the image; the inverse of `unproject`.

    Args:
        xyz: [..., P, 3] points in mm, camera frame, z not 0.
        intrinsics: [..., 4] (fx, fy, cx, cy) in pixels.

    Returns:
        [..., P, 3] pixel column, pixel row, depth in mm.

    Raises:
        ValueError: a last axis is not 3 or 4, respectively.
    """
    # Here alone: it takes two seconds to import, and prediction does without.
    from tensorflow_graphics.rendering.camera import perspective

    _check("project", "xyz", xyz, intrinsics)
    focal, centre = tf.split(intrinsics[..., tf.newaxis, :], 2, axis=-1)
    pixel = perspective.project(xyz, focal, centre)
    return tf.concat([pixel, xyz[..., 2:]], axis=-1)


def unproject(uvd: tf.Tensor, intrinsics: tf.Tensor) -> tf.Tensor:
    """Lifts pixels of a depth map to camera space; the inverse of `project`.

    Args:
        uvd: [..., P, 3] pixel column, pixel row, depth in mm.
        intrinsics: [..., 4] (fx, fy, cx, cy) in pixels of the same image.

    Returns:
        [..., P, 3] points in mm, camera frame.

    Raises:
        ValueError: a last axis is not 3 or 4, respectively.
    """
    _check("unproject", "uvd", uvd, intrinsics)
    focal, centre = tf.split(intrinsics[..., tf.newaxis, :], 2, axis=-1)
    uv, depth = tf.split(uvd, [2, 1], axis=-1)
    return tf.concat([(uv - centre) * depth / focal, depth], axis=-1)


def pixel_grid(height: int, width: int) -> tf.Tensor:
    """Returns [height, width, 2] float32: column and row of each pixel's centre."""
    columns, rows = tf.meshgrid(tf.range(width), tf.range(height))
    return tf.cast(tf.stack([columns, rows], axis=-1), tf.float32)


def unproject_depth_map(depth: tf.Tensor, intrinsics: tf.Tensor) -> tf.Tensor:
    """Lifts a whole depth map.

    Args:
        depth: [B, H, W] mm.
        intrinsics: [B, 4] (fx, fy, cx, cy) of this image.

    Returns:
        [B, H, W, 3] mm, camera frame; the origin where the depth is 0.
    """
    rays_x, rays_y = rays(depth, intrinsics)
    return tf.stack([rays_x * depth, rays_y * depth, depth], axis=-1)


def rays(depth: tf.Tensor, intrinsics: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """x / z of the columns, [B, 1, W], and y / z of the rows, [B, H, 1], of a depth map."""
    height, width = tf.shape(depth)[1], tf.shape(depth)[2]
    fx, fy, cx, cy = tf.split(intrinsics[:, tf.newaxis], 4, axis=-1)  # [B, 1, 1] each
    rays_x = (tf.cast(tf.range(width), depth.dtype) - cx) / fx  # [B, 1, W]
    rays_y = (tf.cast(tf.range(height), depth.dtype) - cy) / fy  # [B, 1, H]
    return rays_x, tf.linalg.matrix_transpose(rays_y)


def _check(function, name, points, intrinsics):
    if points.shape[-1] != 3 or intrinsics.shape[-1] != 4:
        raise ValueError(
            f"{function} wants {name} [..., P, 3] and intrinsics [..., 4], "
            f"got {points.shape} and {intrinsics.shape}."
        )
