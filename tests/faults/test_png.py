"""Damaged depth PNGs: refused in one line, or the very same pixels."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dgn_tf import depth_io, png_file
from dgn_tf.errors import InputError
from tests.exported_model import blob_frame
from tests.faults.mutations import HOW_MANY, mutated


def png(encoding):
    noise = np.random.default_rng(5).integers(0, 30, [240, 320])
    frame = (blob_frame() + noise).astype(np.uint16)
    if encoding == "nyu":
        frame = np.stack([0 * frame, frame >> 8, frame & 255], axis=-1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("count", HOW_MANY)
@pytest.mark.parametrize("encoding", ["u16", "nyu"])
def test_a_damaged_png_never_gives_other_pixels(encoding, count, tmp_path):
    from dgn_tf.serving.png import decode_depth

    unit = 1.0 if encoding == "u16" else None
    good, rng = png(encoding), random.Random(11)
    file = tmp_path / "frame.png"
    file.write_bytes(good)
    wanted = depth_io.read_depth(file, encoding, unit)
    refused = 0
    for _ in range(4 * count):
        content = mutated(good, rng)
        file.write_bytes(content)
        try:
            np.testing.assert_array_equal(depth_io.read_depth(file, encoding, unit), wanted)
        except InputError as error:
            refused += 1
            assert "frame.png" in str(error) and "\n" not in str(error)
        try:  # as a server reads it
            depth = decode_depth(tf.constant([content]), tf.constant([unit or 0.0]))[0]
            np.testing.assert_array_equal(depth, wanted)
        except tf.errors.InvalidArgumentError:
            pass
    assert refused > 3 * count


def test_flips_that_pillow_lets_through_are_found(tmp_path):
    """What the check sums are for: some of these flips Pillow reads without a word."""
    good, rng = png("u16"), random.Random(3)
    passed = 0
    with Image.open(io.BytesIO(good)) as image:
        wanted = np.asarray(image)
    for _ in range(300):
        data = bytearray(good)
        data[rng.randrange(60, len(data) - 20)] ^= 1 << rng.randrange(8)
        try:
            with Image.open(io.BytesIO(bytes(data))) as image:
                passed += not np.array_equal(np.asarray(image), wanted)
        except (OSError, SyntaxError, ValueError):
            pass
        with pytest.raises(ValueError, match="check sum"):
            png_file.read_header(bytes(data))
    assert passed  # else this test would say nothing


def test_a_text_chunk_that_inflates_is_no_memory(tmp_path):
    good = png("u16")
    name, body = b"zTXt", b"k\0\0" + zlib.compress(bytes(2**27), 9)
    chunk = struct.pack(">I", len(body)) + name + body
    chunk += struct.pack(">I", zlib.crc32(name + body))
    file = tmp_path / "frame.png"
    file.write_bytes(good[:33] + chunk + good[33:])
    try:
        depth_io.read_depth(file, "u16", 1.0)
    except InputError as error:
        assert "frame.png" in str(error)
