"""Checks of a request inside the exported graph: InvalidArgumentError that says what is wrong.

`tf.raw_ops.Assert` is used as it is: `tf.debugging.Assert` wraps each in a conditional, which
costs more than the check. Inside a `tf.function` the returned tensor depends on the check, so that
nothing is computed from an input that failed it. `tf.ensure_shape` repeats the signature's shapes:
those bind Python callers alone, a server feeds whatever the request holds.
"""

import tensorflow as tf

MAX_SIDE = 8192  # pixels
MAX_PIXELS = 2**23  # of one frame; the largest depth cameras have 5 million
MAX_REQUEST_PIXELS = 2**27  # of all frames of a request: 512 MiB of float32
# Frames or crops of a request: each takes a MiB on its way, however few pixels it has.
MAX_BATCH = 1024
# Of intrinsics, pixels, and of a centre, mm: beyond them float32 has no pixel and no mm left.
MAX_INTRINSICS, MAX_CENTRE_MM = 1e6, 1e5


def require(condition, message: str, *values) -> tf.Operation:
    """Fails with `message` and `values` where the scalar `condition` is false."""
    return tf.raw_ops.Assert(condition=condition, data=[message, *values], summarize=8)


def frames(depth, intrinsics, left):
    """Checks whole frames; returns `depth` [B, H, W], `intrinsics` [B, 4], `left` [B]."""
    depth = tf.ensure_shape(depth, [None, None, None])
    intrinsics, left = tf.ensure_shape(intrinsics, [None, 4]), tf.ensure_shape(left, [None])
    shape = tf.shape(depth, out_type=tf.int64)
    batch, height, width = shape[0], shape[1], shape[2]
    checks = [
        *batch_size("depth", batch),
        require(
            (height > 0) & (width > 0) & (height <= MAX_SIDE) & (width <= MAX_SIDE),
            f"depth: height and width must be 1 to {MAX_SIDE}; got [B, H, W] =",
            shape,
        ),
        require(
            (height * width <= MAX_PIXELS) & (batch * height * width <= MAX_REQUEST_PIXELS),
            f"depth: at most {MAX_PIXELS} pixels a frame and {MAX_REQUEST_PIXELS} a request; got "
            "[B, H, W] =",
            shape,
        ),
        _same_batch("intrinsics", intrinsics, batch),
        _same_batch("left", left, batch),
        # One pass: a sum is finite where all its terms are (float32 depth in mm cannot overflow
        # it unless it is absurd).
        require(
            tf.math.is_finite(tf.reduce_sum(depth)),
            "depth: NaN or infinite values; mark missing pixels with 0",
        ),
        require(tf.reduce_min(depth) >= 0.0, "depth: negative values; it is in mm, 0 = missing"),
        *_intrinsics(intrinsics, tf.cast(width, tf.float32), tf.cast(height, tf.float32)),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(depth), tf.identity(intrinsics), tf.identity(left)


def crops(depth, intrinsics, centre, cube, left):
    """Checks ready crops; returns the five inputs."""
    depth, centre = tf.ensure_shape(depth, depth.shape), tf.ensure_shape(centre, [None, 3])
    intrinsics, cube = tf.ensure_shape(intrinsics, [None, 4]), tf.ensure_shape(cube, [None])
    left = tf.ensure_shape(left, [None])
    batch = tf.shape(depth, out_type=tf.int64)[0]
    checks = [
        *batch_size("depth", batch),
        _same_batch("intrinsics", intrinsics, batch),
        _same_batch("cube", cube, batch),
        _same_batch("left", left, batch),
        require(
            tf.math.is_finite(tf.reduce_sum(depth)),
            "depth: NaN or infinite values; mark missing pixels with 0",
        ),
        require(
            tf.reduce_all(tf.math.is_finite(cube) & (cube >= 10.0) & (cube <= 10000.0)),
            "cube: the side must be 10 to 10000 mm; got",
            cube,
        ),
        *_focal(intrinsics),
        *_centre(centre, batch),
    ]
    with tf.control_dependencies(checks):
        return [tf.identity(value) for value in (depth, intrinsics, centre, cube, left)]


def centres(centre, depth):
    """Checks centres [B, 3] mm for the frames `depth` and returns them."""
    centre = tf.ensure_shape(centre, [None, 3])
    batch = tf.shape(depth, out_type=tf.int64)[0]
    with tf.control_dependencies(_centre(centre, batch)):
        return tf.identity(centre)


# A camera and a place that any frame may have.
SAFE_INTRINSICS, SAFE_CENTRE = (100.0, 100.0, 1.0, 1.0), (0.0, 0.0, 1000.0)


def usable(depth, intrinsics, centre=None, cube=None):
    """[B] bool: what `crops` (where `cube` is given), `frames` and `centres` let through.

    For graphs that can't refuse. Sizes and the batch's length are not looked at.
    """
    good = tf.reduce_all(tf.abs(depth) < depth.dtype.max, axis=[1, 2])  # false for NaN
    good &= tf.reduce_all(tf.abs(intrinsics) <= MAX_INTRINSICS, axis=1)
    good &= tf.reduce_all(intrinsics[:, :2] > 0.0, axis=1)
    if cube is None:
        size = tf.cast(tf.shape(depth)[2:0:-1], tf.float32)  # width, height
        principal = intrinsics[:, 2:]
        good &= tf.reduce_all((principal > 0.0) & (principal < size), axis=1)
        good &= tf.reduce_all(depth >= 0.0, axis=[1, 2])
    else:
        good &= (cube >= 10.0) & (cube <= 10000.0)
    if centre is not None:
        good &= tf.reduce_all(tf.abs(centre) <= MAX_CENTRE_MM, axis=1) & (centre[:, 2] >= 10.0)
    return good


def batch_size(name, batch):
    """Checks the number of frames or crops, a scalar, of the input `name`."""
    return [
        require(batch > 0, f"{name}: the batch is empty"),
        require(batch <= MAX_BATCH, f"{name}: more than {MAX_BATCH} in a request; got", batch),
    ]


def _same_batch(name, value, batch):
    count = tf.shape(value, out_type=tf.int64)[0]
    return require(
        tf.equal(count, batch), f"{name}: first dimension differs from depth's; got", count, batch
    )


def _focal(intrinsics):
    return [
        require(
            tf.reduce_all(tf.abs(intrinsics) <= MAX_INTRINSICS),  # false for NaN
            f"intrinsics: NaN, or beyond {MAX_INTRINSICS:g} pixels; got",
            intrinsics,
        ),
        require(
            tf.reduce_all(intrinsics[:, :2] > 0.0),
            "intrinsics: fx and fy must be positive (fx, fy, cx, cy in pixels); got",
            intrinsics,
        ),
    ]


def _intrinsics(intrinsics, width, height):
    """Also refuses a principal point outside the image: of another resolution, or out of order."""
    cx, cy = intrinsics[:, 2], intrinsics[:, 3]
    inside = (cx > 0.0) & (cx < width) & (cy > 0.0) & (cy < height)
    return [
        *_focal(intrinsics),
        require(
            tf.reduce_all(inside),
            "intrinsics: cx, cy must lie in the image (are they of another resolution?); got",
            intrinsics,
            "width, height",
            width,
            height,
        ),
    ]


def _centre(centre, batch):
    return [
        _same_batch("centre", centre, batch),
        require(
            tf.reduce_all(tf.abs(centre) <= MAX_CENTRE_MM),  # false for NaN
            f"centre: NaN, or beyond {MAX_CENTRE_MM:g} mm; got",
            centre,
        ),
        require(
            tf.reduce_all(centre[:, 2] >= 10.0),
            "centre: z must be at least 10 mm (x, y, z in mm, camera frame); got",
            centre,
        ),
    ]
