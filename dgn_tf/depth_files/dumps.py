"""Depth in dumps: ROS messages, raw and `compressedDepth`, and the MSRA hand data set's `.bin`."""

import math
import struct

import numpy as np

from dgn_tf import depth_io, png_file
from dgn_tf.depth_files.stored import METRES, MM, Stored, check_pixels
from dgn_tf.errors import InputError
from dgn_tf.file_kinds import ros_png

_ROS_PIXELS = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
_ROS_HEADER = 1024  # bytes in which a message's names stand
_MSRA = struct.Struct("<6i")  # width, height of the frame; left, top, right, bottom of its window


def read_compressed_depth(file, content: bytes) -> Stored:
    """A frame in a `compressedDepth` message: its `data`, or all of it as ROS 1 or 2 stores it.

    Before the PNG stand twelve bytes, an int32 and two float32 (a, b). A message of the encoding
    16UC1 has mm in the PNG; one of 32FC1 has inverse depth, metres = a / (value - b), 0 missing
    (compressed_depth_image_transport, `codec.cpp`).
    """
    start = ros_png(content) or 0
    header, pixels = depth_io.decode_png(file, content[start : _png_end(content, start)])
    if (header.bits, header.colour) != (16, png_file.GREY):
        raise InputError(
            f"{file} is a ROS compressedDepth message whose image is {header.kind()}; 16-bit grey "
            "is wanted."
        )
    before = content[:start]
    a, b = struct.unpack("<2f", before[-8:])
    inverse = b"32FC1" in before or (b"16UC1" not in before and _is_inverse(a, b))
    kind = "a ROS compressedDepth message"
    if not inverse:
        return Stored(pixels.astype(np.uint16), f"{kind}, 16UC1, in mm", MM)
    if not _is_inverse(a, b):
        raise InputError(
            f"{file} is {kind} of 32FC1 whose parameters {a:g}, {b:g} are damaged; dump it again."
        )
    values = pixels.astype(np.float64)
    metres = np.divide(a, values - b, out=np.zeros_like(values), where=values > 0)
    return Stored(metres, f"{kind}, 32FC1, in metres", METRES)


def _png_end(content: bytes, start: int) -> int:
    """Behind the PNG's last chunk: a message may go on after it."""
    end = content.find(b"IEND", start)
    return len(content) if end < 0 else end + 8


def _is_inverse(a: float, b: float) -> bool:
    """Whether these are parameters of inverse depth: a > 0, and value - b > 0 for all of 1..."""
    return math.isfinite(a) and math.isfinite(b) and 1e-3 < a < 1e9 and b < 1


def is_ros_image(content: bytes) -> bool:
    """Whether the bytes are a `sensor_msgs/Image` as ROS 1 or 2 stores it: the sizes agree."""
    return _ros_image(content) is not None


def read_ros_image(file, content: bytes) -> Stored:
    """A frame in a `sensor_msgs/Image`: 16UC1 and mono16 are mm, 32FC1 is metres (REP 118)."""
    found = _ros_image(content)
    if found is None:
        raise InputError(f"{file} is a ROS image message whose sizes don't agree; dump it again.")
    encoding, dtype, height, width, step, start = found
    check_pixels(file, height, width)
    rows = np.frombuffer(content, np.uint8, height * step, start).reshape(height, step)
    values = rows[:, : width * dtype.itemsize].copy().view(dtype)
    metres = dtype.kind == "f"
    kind = f"a ROS image message, {encoding}, in {'metres' if metres else 'mm'}"
    return Stored(values, kind, METRES if metres else MM)


def _ros_image(content: bytes):
    """Encoding, type of a pixel, height, width, bytes of a row, and where the first one begins."""
    for encoding, code in _ROS_PIXELS.items():
        at = content.find(encoding.encode(), 16, _ROS_HEADER)
        if at < 0:
            continue
        height, width, length = struct.unpack_from("<3I", content, at - 12)
        end = at + len(encoding)
        if length == len(encoding) + 1:  # ROS 2 counts the zero behind it, and aligns by four
            end += 1
            after = -(-(end + 1) // 4) * 4
        elif length == len(encoding):
            after = end + 1
        else:
            continue
        if len(content) < after + 8:
            continue
        dtype = np.dtype((">" if content[end] else "<") + code)
        step, size = struct.unpack_from("<2I", content, after)
        whole = size == step * height and after + 8 + size <= len(content)
        if whole and step >= width * dtype.itemsize:
            return encoding, dtype, height, width, step, after + 8
    return None


def is_msra(content: bytes) -> bool:
    """Whether the bytes are a window of a frame as MSRA stores it: the sizes agree."""
    if len(content) < _MSRA.size:
        return False
    width, height, left, top, right, bottom = _MSRA.unpack_from(content)
    inside = 0 <= left < right <= width <= 2**14 and 0 <= top < bottom <= height <= 2**14
    return inside and len(content) == _MSRA.size + 4 * (right - left) * (bottom - top)


def read_msra(file, content: bytes) -> Stored:
    """A frame of the MSRA hand data set (Sun et al. 2015): a window of float32 mm, 0 elsewhere."""
    width, height, left, top, right, bottom = _MSRA.unpack_from(content)
    check_pixels(file, height, width)
    values = np.zeros([height, width], np.float32)
    window = np.frombuffer(content, "<f4", offset=_MSRA.size)
    values[top:bottom, left:right] = window.reshape(bottom - top, right - left)
    return Stored(values, "a frame of the MSRA data set, in mm", MM)
