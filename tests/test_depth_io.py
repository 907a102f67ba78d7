import io
import zlib

import numpy as np
import pytest
from PIL import Image

from dgn_tf import depth_io, png_file
from dgn_tf.errors import InputError


def write(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def ramp():
    return np.arange(30 * 40).reshape(30, 40).astype(np.uint16)


def test_u16_is_steps_times_unit(tmp_path, ramp):
    depth = depth_io.read_depth(write(tmp_path / "a.png", ramp), "u16", 0.125)
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, ramp / 8)


def test_nyu_is_green_times_256_plus_blue(tmp_path, ramp):
    pixels = np.stack([0 * ramp, ramp // 256, ramp % 256], -1).astype(np.uint8)
    depth = depth_io.read_depth(write(tmp_path / "a.png", pixels), "nyu")
    np.testing.assert_array_equal(depth, ramp)


def test_nyu_takes_0_and_2001_and_more_as_missing(tmp_path):
    values = np.array([[0, 1, 2000, 2001, 2500, 65535]])
    pixels = np.stack([0 * values, values // 256, values % 256], -1).astype(np.uint8)
    depth = depth_io.read_depth(write(tmp_path / "a.png", pixels), "nyu")
    np.testing.assert_array_equal(depth, [[0, 1, 2000, 0, 0, 0]])


def test_the_graph_reads_the_same_depth(tmp_path, ramp):
    import tensorflow as tf

    from dgn_tf.serving.png import decode_depth

    rgb = np.stack([0 * ramp, ramp // 100, ramp % 256], -1).astype(np.uint8)
    grey_file, rgb_file = write(tmp_path / "a.png", ramp * 50), write(tmp_path / "b.png", rgb)
    encoded = tf.constant([grey_file.read_bytes(), rgb_file.read_bytes()])
    grey, nyu = decode_depth(encoded, tf.constant([0.25, 0.0]))
    np.testing.assert_array_equal(grey, depth_io.read_depth(grey_file, "u16", 0.25))
    np.testing.assert_array_equal(nyu, depth_io.read_depth(rgb_file, "nyu"))


@pytest.mark.parametrize(
    ("encoding", "unit", "message"),
    [
        ("u16", None, "--depth_unit is missing"),
        ("u16", 0.0, "not in"),
        ("u16", -1.0, "not in"),
        ("u16", float("nan"), "not in"),
        ("nyu", 0.125, "leave the unit out"),
        ("f32", 1.0, "not one of u16, nyu"),
    ],
)
def test_bad_units_and_encodings_are_refused(encoding, unit, message):
    with pytest.raises(InputError, match=message):
        depth_io.check_encoding(encoding, unit)


@pytest.mark.parametrize(
    ("make", "encoding", "message"),
    [
        (lambda ramp: ramp.astype(np.uint8), "u16", "8-bit grey, --encoding=u16 wants"),
        (
            lambda ramp: np.dstack([ramp.astype(np.uint8)] * 3),
            "u16",
            "8-bit RGB, --encoding=u16 wants",
        ),
        (lambda ramp: ramp, "nyu", "16-bit grey, --encoding=nyu"),
        (lambda ramp: ramp * 0, "u16", "no pixel with depth"),
        (lambda ramp: np.full([4, 4, 3], [0, 255, 255], np.uint8), "nyu", "no pixel with depth"),
        (lambda ramp: np.full([4, 4, 3], [1, 2, 3], np.uint8), "nyu", "coloured picture.*red"),
    ],
)
def test_images_of_the_wrong_kind_are_refused_by_name(make, encoding, message, tmp_path, ramp):
    file = write(tmp_path / "frame.png", make(ramp))
    with pytest.raises(InputError, match=message) as error:
        depth_io.read_depth(file, encoding, 1.0)
    assert "frame.png" in str(error.value) and "\n" not in str(error.value)


def test_damaged_files_are_refused_by_name(tmp_path, ramp):
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, "PNG")
    whole = buffer.getvalue()
    flipped = bytearray(whole)
    flipped[-40] ^= 0xFF
    contents = {
        "empty": b"",
        "text": b"hello",
        "cut": whole[: len(whole) // 2],
        "header": whole[:30],
        "flipped": bytes(flipped),
        "jpeg": b"\xff\xd8\xff\xe0" * 9,
    }
    for name, content in contents.items():
        file = tmp_path / f"{name}.png"
        file.write_bytes(content)
        with pytest.raises(InputError, match=f"{name}.png"):
            depth_io.read_depth(file, "u16", 1.0)
    with pytest.raises(InputError, match=r"nothing\.png"):
        depth_io.read_depth(tmp_path / "nothing.png", "u16", 1.0)


def test_a_huge_image_is_refused_by_its_header(tmp_path, ramp):
    file = write(tmp_path / "a.png", ramp)
    data = bytearray(file.read_bytes())
    for size in (5000, 100_000):
        data[16:24] = size.to_bytes(4, "big") * 2
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        file.write_bytes(bytes(data))
        with pytest.raises(InputError, match="shrink it"):
            depth_io.read_depth(file, "u16", 1.0)


def encoded(pixels, bits, colour) -> bytes:
    """A PNG of rows [H, W * bytes] as they stand; Pillow writes no 16-bit colours."""

    def chunk(name, content):
        check = zlib.crc32(name + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + name + content + check

    channels = {0: 1, 2: 3, 4: 2}[colour]
    height, across = pixels.shape
    size = (across * 8 // bits // channels).to_bytes(4, "big") + height.to_bytes(4, "big")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = chunk(b"IHDR", size + bytes([bits, colour, 0, 0, 0]))
    return png_file.SIGNATURE + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("colour", "encoding", "message"),
    [
        (2, "nyu", "16-bit RGB, --encoding=nyu wants 8-bit RGB"),
        (2, "u16", "16-bit RGB, --encoding=u16 wants 16-bit grey"),
        (4, "u16", "16-bit grey with alpha, --encoding=u16 wants 16-bit grey"),
    ],
)
def test_16_bits_of_colour_are_no_depth(colour, encoding, message, tmp_path):
    file = tmp_path / "frame.png"
    file.write_bytes(encoded(np.full([6, 24 // colour * 2], 3, np.uint8), 16, colour))
    with pytest.raises(InputError, match=message):
        depth_io.read_depth(file, encoding, 1.0 if encoding == "u16" else None)


def test_the_graph_refuses_a_coloured_picture_too():
    import tensorflow as tf

    from dgn_tf.serving.png import decode_depth

    picture = encoded(np.tile(np.uint8([1, 2, 3]), [6, 6]), 8, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="red channel is not 0"):
        decode_depth(tf.constant([picture]), tf.constant([0.0]))
