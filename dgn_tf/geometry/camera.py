"""Pinhole cameras: pixels to camera space and back.

Camera frame: x right, y down, z forward, mm. Pixel centres are at integers: (0, 0) is the centre
of the top left pixel.
"""

import tensorflow as tf

from dgn_tf.geometry import camera


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


# The perspective crop around a hand: a virtual camera with the frame camera's orientation.
#
# The window is centred on the projection of the crop's centre and as large as a cube's front face
# at the centre's depth. Its intrinsics are exact, so a crop pixel unprojects to the very ray that
# its place in the frame has.


def crop_camera(intrinsics: tf.Tensor, centre: tf.Tensor, cube: tf.Tensor, size: int) -> tf.Tensor:
    """Finds the intrinsics of the crop around `centre`.

    Args:
        intrinsics: [B, 4] (fx, fy, cx, cy) of the frame, pixels.
        centre: [B, 3] mm, camera frame, z > 0.
        cube: [B] side of the cube in mm, > 0.
        size: side of the crop in pixels.

    Returns:
        [B, 4] (fx, fy, cx, cy) in pixels of the crop: the window of cube * f / z frame pixels
        is scaled to `size` crop pixels, the centre falls on crop pixel (size - 1) / 2.
    """
    scale, offset = crop_from_frame(intrinsics, centre, cube, size)
    focal, principal = tf.split(intrinsics, 2, axis=-1)
    return tf.concat([focal * scale, principal * scale + offset], axis=-1)


def crop_from_frame(
    intrinsics: tf.Tensor, centre: tf.Tensor, cube: tf.Tensor, size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns scale [B, 2] and offset [B, 2]: crop pixel = scale * frame pixel + offset."""
    focal, principal = tf.split(intrinsics, 2, axis=-1)
    window_centre = principal + focal * centre[:, :2] / centre[:, 2:]  # frame pixels
    window_size = focal * (cube / centre[:, 2])[:, tf.newaxis]  # frame pixels
    scale = float(size) / window_size
    return scale, (size - 1) / 2 - scale * window_centre


def crop_depth(
    depth: tf.Tensor, intrinsics: tf.Tensor, centre: tf.Tensor, cube: tf.Tensor, size: int = 64
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts the window around the hand out of full frames, by nearest neighbour.

    Interpolation would invent surfaces between the hand and what lies behind it. Depth outside
    the cube stays as it is; `normalise_crop` decides what becomes background.

    Args:
        depth: [B, H, W] mm, 0 = missing.
        intrinsics: [B, 4] (fx, fy, cx, cy) of the frame, pixels.
        centre: [B, 3] mm, camera frame, z > 0.
        cube: [B] side of the cube, mm.
        size: side of the crop, pixels.

    Returns:
        crop_depth: [B, size, size] mm; 0 where missing or outside the frame.
        crop_intrinsics: [B, 4] of the crop, pixels.

    Raises:
        ValueError: `depth` is not of rank 3.
    """
    if depth.shape.rank != 3:
        raise ValueError(f"crop_depth wants depth [B, H, W], got {depth.shape}.")
    scale, offset = crop_from_frame(intrinsics, centre, cube, size)
    pixels = tf.range(size, dtype=depth.dtype)[tf.newaxis, :, tf.newaxis]  # [1, S, 1]
    frame = (pixels - offset[:, tf.newaxis]) / scale[:, tf.newaxis]  # [B, S, 2] column, row
    limits = tf.stack([tf.shape(depth)[2], tf.shape(depth)[1]])  # width, height
    # Clip before the cast: a float beyond int32 has no defined integer.
    frame = tf.clip_by_value(tf.floor(frame + 0.5), -1.0, tf.cast(limits, depth.dtype))
    frame = tf.cast(frame, tf.int32)
    inside = (frame >= 0) & (frame < limits)  # [B, S, 2]
    index = tf.clip_by_value(frame, 0, limits - 1)
    # Rows and columns are picked one after the other: the window's axes are the frame's.
    rows = tf.gather(depth, index[..., 1], axis=1, batch_dims=1)  # [B, S, W]
    crop = tf.gather(rows, index[..., 0], axis=2, batch_dims=1)  # [B, S, S]
    inside = inside[:, :, tf.newaxis, 1] & inside[:, tf.newaxis, :, 0]
    crop = tf.where(inside, crop, tf.zeros_like(crop))
    return crop, crop_camera(intrinsics, centre, cube, size)


def normalise_crop(
    depth_mm: tf.Tensor, crop_intrinsics: tf.Tensor, centre: tf.Tensor, cube: tf.Tensor
) -> tf.Tensor:
    """Turns a crop into what the network reads: every pixel's point in cube units.

    Cube units are (xyz - centre) / (cube / 2): -1 to 1 inside the cube.

    Args:
        depth_mm: [B, S, S] mm; 0, negative or not finite = missing.
        crop_intrinsics: [B, 4] of the crop, pixels.
        centre: [B, 3] mm, camera frame.
        cube: [B] side of the cube, mm.

    Returns:
        [B, S, S, 4]: x, y, z in cube units and 1 for a valid pixel. A pixel that is missing or
        whose depth is more than cube / 2 from the centre's is background: (0, 0, 1, 0).
    """
    x, y, z, valid = tf.unstack(crop_planes(depth_mm, crop_intrinsics, centre, cube), axis=1)
    return tf.stack([x, y, z + (1 - valid), valid], axis=-1)


def crop_planes(
    depth_mm: tf.Tensor, crop_intrinsics: tf.Tensor, centre: tf.Tensor, cube: tf.Tensor
) -> tf.Tensor:
    """`normalise_crop` as [B, 4, S, S] and with (0, 0, 0, 0) for background.

    Whole planes are many times faster to compute with than pixels of a few numbers.
    """
    half = cube[:, tf.newaxis, tf.newaxis] / 2
    away = tf.abs(depth_mm - centre[:, tf.newaxis, tf.newaxis, 2])
    # What is not finite fails both comparisons.
    valid = (depth_mm > 0) & (away <= half)
    # A missing depth is replaced before it is used: 0 * inf would be NaN.
    safe = tf.where(valid, depth_mm, tf.zeros_like(depth_mm))
    rays_x, rays_y = camera.rays(safe, crop_intrinsics)
    x, y, z = tf.split(centre[:, tf.newaxis], 3, axis=-1)  # [B, 1, 1] each
    valid = tf.cast(valid, safe.dtype)
    planes = [(rays_x * safe - x) / half, (rays_y * safe - y) / half, (safe - z) / half]
    return tf.stack([*(plane * valid for plane in planes), valid], axis=1)


def millimetres_from_cube(points_unit: tf.Tensor, centre: tf.Tensor, cube: tf.Tensor) -> tf.Tensor:
    """Turns [B, N, 3] cube units into mm, camera frame; `centre` [B, 3] mm, `cube` [B] mm."""
    return points_unit * (cube[:, tf.newaxis, tf.newaxis] / 2) + centre[:, tf.newaxis]


def cube_from_millimetres(points_mm: tf.Tensor, centre: tf.Tensor, cube: tf.Tensor) -> tf.Tensor:
    """Turns [B, N, 3] mm, camera frame, into cube units; the inverse of the above."""
    return (points_mm - centre[:, tf.newaxis]) / (cube[:, tf.newaxis, tf.newaxis] / 2)


def pixel_normals(planes: tf.Tensor) -> tf.Tensor:
    """Unit normals of the surface that an organised point map samples.

    Cross products of central differences along rows and columns (beyond the border lies the
    border itself): palm and back, and the creases between fingers, differ by some mm in depth
    but plainly in their normals.

    Args:
        planes: [B, 4, S, S] x right, y down, z forward of every pixel's point, any unit, and 1
            where the pixel was measured, else 0.

    Returns:
        [B, 3, S, S] towards the camera (z < 0 where the surface faces it); 0 for a pixel that
        lacks, or whose neighbours left, right, above or below lack, a measurement.
    """
    right = tf.concat([planes[:, :, :, 1:], planes[:, :, :, -1:]], axis=3)
    left = tf.concat([planes[:, :, :, :1], planes[:, :, :, :-1]], axis=3)
    below = tf.concat([planes[:, :, 1:], planes[:, :, -1:]], axis=2)
    above = tf.concat([planes[:, :, :1], planes[:, :, :-1]], axis=2)
    valid = planes[:, 3] * left[:, 3] * right[:, 3] * above[:, 3] * below[:, 3]
    ax, ay, az = tf.unstack((below - above)[:, :3], axis=1)
    bx, by, bz = tf.unstack((right - left)[:, :3], axis=1)
    x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    # The offset keeps the gradient finite where a crop has no points; squared units of `points`.
    scale = valid * tf.math.rsqrt(x * x + y * y + z * z + 1e-18)
    return tf.stack([x * scale, y * scale, z * scale], axis=1)
