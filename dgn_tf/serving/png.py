"""PNG depth images inside the graph: header checked first, then decoded, then turned into mm."""

import tensorflow as tf

from dgn_tf.serving import checks

NYU_MISSING_MM = 2001.0  # NYU marks missing depth and everything beyond 2 m with this value
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 26  # signature, IHDR's length and name, width, height, bit depth, colour type
_GREY, _RGB = 0, 2


def decode_depth(encoded, depth_unit):
    """Decodes PNG depth images.

    A positive `depth_unit` wants 16-bit grey images: depth = value * unit. A unit of 0 wants NYU's
    8-bit RGB images: depth = G * 256 + B mm, red 0, and 0 and 2001 or more are missing.

    Args:
        encoded: [B] strings, all images of one size.
        depth_unit: [B] mm for one step of the image, or 0.

    Returns:
        [B, H, W] float32 mm, 0 = missing.

    Raises (in the graph):
        InvalidArgumentError: not a PNG, too large by its header, of differing sizes, of another
            bit depth or colour type than the unit asks for, a coloured picture, or damaged.
    """
    encoded = tf.ensure_shape(encoded, [None])
    depth_unit = tf.ensure_shape(depth_unit, [None])
    batch = tf.shape(encoded, out_type=tf.int64)[0]
    units = tf.shape(depth_unit, out_type=tf.int64)[0]
    first = [
        *checks.batch_size("png", batch),
        checks.require(
            tf.equal(units, batch), "depth_unit: first dimension differs from png's; got", units
        ),
        checks.require(
            tf.reduce_all(tf.math.is_finite(depth_unit) & (depth_unit >= 0.0)),
            "depth_unit: must be positive (mm for one step), or 0 for NYU's encoding; got",
            depth_unit,
        ),
    ]
    with tf.control_dependencies(first):
        padded = tf.strings.join([encoded, b"\0" * _HEADER_BYTES])
    header = tf.strings.substr(padded, 0, _HEADER_BYTES)
    data = tf.io.decode_raw(header, tf.uint8)  # [B, 26]
    data = tf.cast(tf.ensure_shape(data, [None, _HEADER_BYTES]), tf.int64)
    width, height = _big_endian(data[:, 16:20]), _big_endian(data[:, 20:24])
    bits, colour = data[:, 24], data[:, 25]
    is_png = tf.strings.substr(header, 0, 8) == tf.constant(_SIGNATURE)
    is_png &= tf.strings.substr(header, 12, 4) == tf.constant(b"IHDR")
    nyu = tf.equal(depth_unit, 0.0)
    fits = tf.where(
        nyu,
        tf.equal(bits, 8) & tf.equal(colour, _RGB),
        tf.equal(bits, 16) & tf.equal(colour, _GREY),
    )
    size_ok = (width > 0) & (height > 0) & (width <= checks.MAX_SIDE) & (height <= checks.MAX_SIDE)
    size_ok &= width * height <= checks.MAX_PIXELS
    same = tf.reduce_all(tf.equal(width, width[:1])) & tf.reduce_all(tf.equal(height, height[:1]))
    second = [
        checks.require(tf.reduce_all(is_png), "png: not a PNG image (by its first bytes)"),
        checks.require(
            tf.reduce_all(size_ok),
            f"png: width and height must be 1 to {checks.MAX_SIDE} and their product at most "
            f"{checks.MAX_PIXELS}; got widths and heights",
            width,
            height,
        ),
        checks.require(same, "png: images of one request must have one size; got", width, height),
        checks.require(
            tf.reduce_sum(width * height) <= checks.MAX_REQUEST_PIXELS,
            f"png: more than {checks.MAX_REQUEST_PIXELS} pixels in a request",
        ),
        checks.require(
            tf.reduce_all(fits),
            "png: depth_unit > 0 wants 16-bit grey images, depth_unit = 0 NYU's 8-bit RGB; "
            "got bits and colour types",
            bits,
            colour,
        ),
    ]
    with tf.control_dependencies(second):
        encoded = tf.identity(encoded)
    return tf.map_fn(
        _decode_one,
        (encoded, depth_unit),
        fn_output_signature=tf.TensorSpec([None, None], tf.float32),
        parallel_iterations=4,
    )


def _decode_one(image):
    encoded, unit = image
    # One op reads both kinds: grey is repeated into three channels, and 8-bit values come as
    # v * 257, whose low byte is v.
    pixels = tf.cast(tf.io.decode_png(encoded, channels=3, dtype=tf.uint16), tf.int32)
    picture = tf.equal(unit, 0.0) & (tf.reduce_max(pixels[..., 0]) > 0)
    is_depth = checks.require(
        ~picture, "png: a coloured picture, its red channel is not 0 as NYU's; send depth"
    )
    with tf.control_dependencies([is_depth]):
        pixels = tf.identity(pixels)
    low = tf.cast(tf.bitwise.bitwise_and(pixels[..., 1:], 255), tf.float32)  # G, B
    nyu = low[..., 0] * 256.0 + low[..., 1]
    nyu = tf.where(nyu >= NYU_MISSING_MM, 0.0, nyu)
    return tf.where(tf.equal(unit, 0.0), nyu, tf.cast(pixels[..., 0], tf.float32) * unit)


def _big_endian(octets):
    """[B, 4] int64 bytes to [B] int64."""
    return tf.linalg.matvec(octets, tf.constant([2**24, 2**16, 2**8, 1], tf.int64))
