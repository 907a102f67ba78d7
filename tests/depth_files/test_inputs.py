"""Every form of a depth frame that a user may have: read, or refused by a line that names it."""

import io
import json
import struct
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from dgn_tf.depth_files.reader import read_frame
from dgn_tf.errors import InputError

HEIGHT, WIDTH = 30, 40


def surface() -> np.ndarray:
    """[H, W] whole mm from 400 up, with a hole of missing depth."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    depth = 400 + 3 * rows + columns
    depth[5:9, 7:11] = 0
    return depth


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=array.dtype.hasobject)
    return stream.getvalue()


def npz(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def image(array, kind, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def exr(tmp_path, **channels) -> bytes:
    openexr = pytest.importorskip("OpenEXR")
    file = tmp_path / "made.exr"
    header = {"type": openexr.scanlineimage, "compression": openexr.ZIP_COMPRESSION}
    openexr.File(header, channels).write(str(file))
    return file.read_bytes()


def message(mm, encoding: str, whole: bool, a=10100.0, b=-1009.0) -> bytes:
    """A compressedDepth message: its data, or with what ROS 1 writes before."""
    if encoding == "32FC1":
        metres = np.where(mm > 0, mm, 1) / 1000
        pixels, header = np.where(mm > 0, a / metres + b, 0), struct.pack("<i2f", 0, a, b)
    else:
        pixels, header = mm, struct.pack("<i2f", 0, 0.0, 0.0)
    data = header + image(np.rint(pixels).astype(np.uint16), "PNG")
    if not whole:
        return data
    text = f"{encoding}; compressedDepth png".encode()
    start = struct.pack("<3I", 7, 1, 2) + struct.pack("<I", 4) + b"cam0"
    return start + struct.pack("<I", len(text)) + text + struct.pack("<I", len(data)) + data


def ros_image(values, encoding: str, ros: int, padding=0, big=False) -> bytes:
    """A `sensor_msgs/Image` as ROS 1 or ROS 2 stores it."""
    rows = np.pad(values.view(np.uint8).reshape(HEIGHT, -1), [(0, 0), (0, padding)])
    end = b"\0" * (ros - 1)

    def text(word):
        return struct.pack("<I", len(word) + len(end)) + word.encode() + end

    message = bytes([0, 1, 0, 0]) if ros == 2 else struct.pack("<I", 7)  # encapsulation; seq
    message += struct.pack("<2I", 1, 2) + text("camera")
    message += bytes(-len(message) % 4 if ros == 2 else 0)
    message += struct.pack("<2I", HEIGHT, WIDTH) + text(encoding) + bytes([big])
    message += bytes(-len(message) % 4 if ros == 2 else 0)
    return message + struct.pack("<2I", rows.shape[1], rows.size) + rows.tobytes()


def msra(mm) -> bytes:
    top, bottom, left, right = 3, 20, 5, 30
    window = mm[top:bottom, left:right].astype("<f4")
    return struct.pack("<6i", WIDTH, HEIGHT, left, top, right, bottom) + window.tobytes()


MM = surface()
M = (MM / 1000).astype(np.float32)
WITH_NAN = np.where(MM > 0, M, np.nan)
# name: what the file holds, --depth_unit, what is said of it, mm that may be lost
READ = {
    "grey.png": (lambda t: image(MM.astype(np.uint16), "PNG"), 1.0, "16-bit PNG", 0),
    "steps.npy": (lambda t: npy(MM.astype(np.uint16)), 1.0, "numpy array of uint16", 0),
    "big_endian.npy": (lambda t: npy(MM.astype(">u2")), 1.0, "numpy array of uint16", 0),
    "columns.npy": (lambda t: npy(np.asfortranarray(MM)), 1.0, "numpy array of int64", 0),
    "one_of_one.npy": (lambda t: npy(MM[None].astype(np.uint16)), 1.0, "uint16", 0),
    "last_axis.npy": (lambda t: npy(MM[..., None].astype(np.uint16)), 1.0, "uint16", 0),
    "metres.npy": (lambda t: npy(M), None, "float32, taken as metres", 1e-3),
    "ros_32fc1.npy": (lambda t: npy(WITH_NAN), None, "taken as metres", 1e-3),
    "half.npy": (lambda t: npy(M.astype(np.float16)), None, "taken as metres", 0.5),
    "mm_floats.npy": (lambda t: npy(MM.astype(np.float64)), None, "taken as mm", 0),
    "metres_given.npy": (lambda t: npy(M * 20), 50.0, "numpy array of float32", 1e-3),
    "depth.npz": (
        lambda t: npz(depth=M, colour=np.zeros([3, 4, 3], np.uint8)),
        None,
        "the array `depth` of float32, taken as metres",
        1e-3,
    ),
    "only.npz": (lambda t: npz(arr_0=MM.astype(np.uint16)), 1.0, "the array `arr_0`", 0),
    "steps.tiff": (lambda t: image(MM.astype(np.uint16), "TIFF"), 1.0, "16-bit TIFF", 0),
    "motorola.tif": (lambda t: image(MM.astype(">u2"), "TIFF"), 1.0, "16-bit TIFF", 0),
    "metres.tiff": (lambda t: image(M, "TIFF"), None, "32-bit float TIFF, taken as metres", 1e-3),
    "packed.tiff": (
        lambda t: image(M, "TIFF", compression="tiff_adobe_deflate"),
        None,
        "taken as metres",
        1e-3,
    ),
    "integers.tiff": (lambda t: image(MM.astype(np.int32), "TIFF"), 1.0, "32-bit integer TIFF", 0),
    "z.exr": (lambda t: exr(t, Z=M), None, "OpenEXR image of float32, taken as metres", 1e-3),
    "y.exr": (lambda t: exr(t, Y=M.astype(np.float16)), None, "float16, taken as metres", 0.5),
    "blender.exr": (lambda t: exr(t, RGB=np.stack([M] * 3, -1)), None, "OpenEXR", 1e-3),
    "16UC1.bin": (lambda t: message(MM, "16UC1", False), None, "16UC1, in mm", 0),
    "16UC1.msg": (lambda t: message(MM, "16UC1", True), None, "16UC1, in mm", 0),
    "32FC1.compressedDepth": (lambda t: message(MM, "32FC1", False), None, "32FC1, in metres", 0.1),
    "32FC1.msg": (lambda t: message(MM, "32FC1", True), None, "32FC1, in metres", 0.1),
    "ros1_image.msg": (
        lambda t: ros_image(MM.astype("<u2"), "16UC1", 1, padding=6),
        None,
        "a ROS image message, 16UC1, in mm",
        0,
    ),
    "ros1_big.msg": (
        lambda t: ros_image(MM.astype(">u2"), "mono16", 1, big=True),
        None,
        "mono16, in mm",
        0,
    ),
    "ros2_image.msg": (
        lambda t: ros_image(WITH_NAN.astype("<f4"), "32FC1", 2),
        None,
        "a ROS image message, 32FC1, in metres",
        1e-3,
    ),
    "000000_depth.bin": (lambda t: msra(MM), None, "MSRA data set, in mm", 0),
}


@pytest.mark.parametrize("name", READ)
def test_what_cameras_write_is_read_as_mm(name, tmp_path):
    make, unit, kind, lost = READ[name]
    file = tmp_path / name
    file.write_bytes(make(tmp_path))
    frame = read_frame(file, depth_unit=unit)
    wanted = MM.astype(np.float32)
    if name == "000000_depth.bin":  # a window of the frame alone
        wanted = np.zeros_like(wanted)
        wanted[3:20, 5:30] = MM[3:20, 5:30]
    assert frame.depth.dtype == np.float32 and kind in frame.kind, frame.kind
    np.testing.assert_allclose(frame.depth, wanted, rtol=1e-6, atol=lost)
    assert not frame.depth[5:9, 7:11].any()  # what is missing stays so


RGB = np.full([HEIGHT, WIDTH, 3], 80, np.uint8)


def archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr("frame.png", b"nothing")
    return stream.getvalue()


def huge_npy() -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}
    )
    return stream.getvalue()


# name: what the file holds, --depth_unit, what the line says
REFUSED = {
    "eight.npy": (npy(RGB[..., 0]), 1.0, "array of uint8: 8 bits have lost.*save uint16"),
    "mask.npy": (npy(MM > 0), 1.0, "array of bool"),
    "complex.npy": (npy(M.astype(complex)), 1.0, "array of complex128.*save uint16 steps"),
    "objects.npy": (npy(np.array([{}], object)), 1.0, "Python objects"),
    "colour.npy": (npy(RGB), 1.0, r"shape \[30, 40, 3\].*each frame as a file"),
    "stack.npy": (npy(np.stack([MM] * 5)), 1.0, r"shape \[5, 30, 40\].*each frame as a file"),
    "list.npy": (npy(np.arange(9)), 1.0, r"shape \[9\], a frame is \[H, W\]"),
    "huge.npy": (huge_npy(), 1.0, "can't be read"),
    "cut.npy": (npy(M)[:-9], 1.0, "can't be read.*copy it again"),
    "no_unit.npy": (npy(MM.astype(np.uint16)), None, "--depth_unit is missing.*--camera"),
    "no_unit.png": (image(MM.astype(np.uint16), "PNG"), None, "--depth_unit is missing"),
    "metres_as_mm.npy": (npy(M), 1.0, "median is 0.4.*leave it out for metres"),
    "negative.npy": (npy(M - 1), None, "negative depth"),
    "all_nan.npy": (npy(M * np.nan), None, "no pixel with depth"),
    "all_zero.png": (image(np.zeros([4, 5], np.uint16), "PNG"), 1.0, "no pixel with depth"),
    "several.npz": (npz(a=M, b=M), None, "several arrays.*none of them called `depth`"),
    "none.npz": (archive(), None, "can't be read"),
    "pages.tiff": (
        image(MM.astype(np.uint16), "TIFF", save_all=True, append_images=[Image.fromarray(M)]),
        1.0,
        "TIFF of 2 pages",
    ),
    "eight.tiff": (image(RGB[..., 0], "TIFF"), 1.0, "TIFF picture of Pillow's mode L"),
    "colour.tiff": (image(RGB, "TIFF"), 1.0, "TIFF picture of Pillow's mode RGB"),
    "cut.tiff": (image(M, "TIFF")[:200], None, "TIFF image that can't be read"),
    "cut.exr": (b"v/1\x01" + bytes(40), None, "OpenEXR image that can't be read"),
    "eight.png": (image(RGB[..., 0], "PNG"), 1.0, "8-bit grey, --encoding=u16 wants 16-bit"),
    "photo.png": (image(RGB, "JPEG"), 1.0, "is a JPEG picture.*8 bits and lossy"),
    "page.png": (b"\xef\xbb\xbf <!DOCTYPE html><html>", 1.0, "web page.*download the file itself"),
    "pointer.png": (b"version https://git-lfs.github.com/spec/v1\n", 1.0, "git lfs pull"),
    "take.bag": (b"#ROSBAG V2.0\n" + bytes(99), 1.0, "ROS 1 bag.*one file a frame"),
    "take.mcap": (b"\x89MCAP0\r\n" + bytes(99), 1.0, "MCAP recording.*one file a frame"),
    "take.db3": (b"SQLite format 3\0" + bytes(99), 1.0, "SQLite database.*one file a frame"),
    "take.oni": (b"NI10" + bytes(99), 1.0, "OpenNI recording.*one file a frame"),
    "take.mkv": (b"\x1aE\xdf\xa3" + bytes(99), 1.0, "Matroska.*one file a frame"),
    "echo.txt": (b"header:\n  seq: 1\nencoding: 16UC1\n", 1.0, "printed as text.*its data"),
    "rvl.bin": (b"16UC1; compressedDepth rvl" + bytes(99), 1.0, "RVL compression.*publish it as"),
    "bad.msg": (message(MM, "32FC1", True, a=10100.0, b=9.0), None, "parameters.*are damaged"),
    "image_cut.msg": (ros_image(MM.astype("<u2"), "16UC1", 2)[:-5], None, "no kind that is known"),
    "eight.msg": (bytes(12) + image(RGB[..., 0], "PNG"), None, "whose image is 8-bit grey"),
    "hand.pkl": (b"\x80\x04\x95" + bytes(30), 1.0, "a Python pickle"),
    "labels.mat": (b"MATLAB 5.0 MAT-file" + bytes(99), 1.0, "MATLAB file.*16-bit PNG"),
    "Thumbs.db": (b"\xd0\xcf\x11\xe0\xa1\xb1" + bytes(99), 1.0, "Thumbs.db, no depth frame"),
    "camera.json": (json.dumps({"fx": 1}).encode(), 1.0, "JSON text"),
    "raw.bin": (bytes(range(1, 200)), 1.0, "no kind that is known.*give a 16-bit PNG"),
    "empty.png": (b"", 1.0, "is empty"),
    "text.png": (b"hello", 1.0, "is text, no depth frame"),
    "msra_cut.bin": (msra(MM)[:-4], None, "no kind that is known"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_depth_frame_is_refused_by_what_it_is(name, tmp_path):
    content, unit, line = REFUSED[name]
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InputError, match=line) as error:
        read_frame(file, depth_unit=unit)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_the_cameras_unit_is_of_integers_alone(tmp_path):
    file = tmp_path / "frame.npy"
    file.write_bytes(npy((MM * 8).astype(np.uint16)))
    np.testing.assert_array_equal(read_frame(file, usual_unit=0.125).depth, MM)
    file.write_bytes(npy(M))
    np.testing.assert_allclose(read_frame(file, usual_unit=0.125).depth, MM, rtol=1e-6)


def test_without_openexr_the_extra_is_named(tmp_path, monkeypatch):
    file = tmp_path / "frame.exr"
    file.write_bytes(b"v/1\x01" + bytes(40))
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(InputError, match="install the extra `camera`"):
        read_frame(file)


def test_a_cropped_or_coloured_exr_is_refused(tmp_path):
    file = tmp_path / "frame.exr"
    file.write_bytes(exr(tmp_path, RGB=np.stack([M, M, M * 2], -1)))
    with pytest.raises(InputError, match="channels B, G, R; a depth image has Z"):
        read_frame(file)


@pytest.mark.parametrize(
    "name",
    ["metres.npy", "depth.npz", "packed.tiff", "32FC1.msg", "z.exr", "ros1_image.msg", "steps.npy"],
)
def test_damage_is_refused_by_name_or_is_another_frame(name, tmp_path):
    """Bytes changed by chance: one line, or numbers, never anything else."""
    make, unit, *_ = READ[name]
    whole, rng = make(tmp_path), np.random.default_rng(3)
    file, refused = tmp_path / name, 0
    for _ in range(60):
        damaged = bytearray(whole)
        reach = rng.choice([len(whole), min(len(whole), 128)])  # anywhere, or in the header
        for place in rng.integers(0, reach, rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        file.write_bytes(bytes(damaged[: rng.integers(1, len(whole) + 1)]))
        try:
            frame = read_frame(file, depth_unit=unit)
        except InputError as error:
            assert str(file) in str(error) and "\n" not in str(error)
            refused += 1
        else:
            assert np.isfinite(frame.depth).all() and (frame.depth >= 0).all()
    assert refused > 20
