"""Reads a depth frame of any form and turns it into mm."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dgn_tf import depth_io, png_file
from dgn_tf.depth_files import arrays, dumps, images
from dgn_tf.depth_files.stored import METRES, MM, Stored
from dgn_tf.errors import InputError
from dgn_tf.file_kinds import kind_of, ros_png

_WANTED = (
    "a 16-bit PNG or TIFF, an .npy or .npz array, an .exr, a ROS image or compressedDepth message "
    "or an MSRA .bin"
)
# Beginning -> its reader.
_READERS: tuple[tuple[bytes, Callable[[object, bytes], Stored]], ...] = (
    (b"\x93NUMPY", arrays.read_npy),
    (b"PK\x03\x04", arrays.read_npz),
    (b"II*\0", images.read_tiff),
    (b"MM\0*", images.read_tiff),
    (b"v/1\x01", images.read_exr),
)
_REMEDIES = {
    "ROS 1 bag": "write its depth messages out, one file a frame",
    "MCAP": "write its depth messages out, one file a frame",
    "SQLite": "write its depth messages out, one file a frame",
    "recording": "write its depth frames out, one file a frame",
    "LFS": "fetch the file: git lfs pull",
    "web page": "download the file itself",
    "JPEG": "8 bits and lossy compression have lost the depth; record 16-bit PNG",
    "ROS message": "save its data as a file, not its printout",
}
_METRES_BELOW = 20.0  # the median of floats: mm of a sensor are far above, metres far below
_NO_DISTANCE = 1e6  # no unit makes depth of it
_MISTAKEN_BELOW = 20.0  # mm: no sensor sees so near


class DepthFrame(NamedTuple):
    """A frame, and what it was.

    Attributes:
        depth: [H, W] float32 mm, 0 = missing.
        kind: such as "a numpy array of float32, taken as metres".
        steps: [H, W] uint16 as stored where it was 16-bit integers, else None.
    """

    depth: np.ndarray
    kind: str
    steps: np.ndarray | None = None


def read_frame(
    file, encoding: str = "u16", depth_unit: float | None = None, usual_unit: float | None = None
) -> DepthFrame:
    """Reads one depth frame, whatever its form; the form follows from its bytes.

    NaN and infinities of floats are missing depth, as ROS has it (REP 118).

    Args:
        file: path.
        encoding: "u16", which is anything but NYU's; "nyu": PNG, 8-bit RGB.
        depth_unit: mm for one step; None: the format's own, else `usual_unit` for integers; floats
            are then metres where their median is below 20, else mm.
        usual_unit: of the camera, mm for one step of integers.

    Raises:
        InputError: unreadable, damaged, of another kind, too large, without a unit or without
            depth; says what the file is.
    """
    if encoding == "nyu":
        return DepthFrame(depth_io.read_depth(file, encoding, depth_unit), "a frame of NYU")
    content = depth_io.read_bytes(file)
    if content.startswith(png_file.SIGNATURE):
        pixels = depth_io.read_u16(file, "--encoding=u16", "--encoding=nyu", content=content)
        stored = Stored(pixels, "a 16-bit PNG")
    else:
        stored = _reader_of(file, content)(file, content)
    return _in_mm(file, stored, depth_unit, usual_unit)


def _reader_of(file, content: bytes):
    for beginning, reader in _READERS:
        if content.startswith(beginning):
            return reader
    if ros_png(content) is not None:
        return dumps.read_compressed_depth
    if dumps.is_ros_image(content):
        return dumps.read_ros_image
    if dumps.is_msra(content):
        return dumps.read_msra
    if b"compressedDepth rvl" in content[:4096]:
        raise InputError(
            f"{file} is a ROS compressedDepth message of RVL compression, which is not read; "
            "publish it as png (compressedDepth/format) or write arrays."
        )
    kind = kind_of(content)
    remedy = next((text for part, text in _REMEDIES.items() if part in kind), f"give {_WANTED}")
    if not kind and pathlib.Path(str(file)).suffix.lower() == ".png":
        raise InputError(
            f"{file} is damaged: it is not a PNG image, or its header is damaged; copy or record "
            "the frame again."
        )
    what = f"is {kind}, no depth frame" if kind else "is of no kind that is known"
    raise InputError(f"{file} {what}; {remedy}.")


def _in_mm(file, stored: Stored, given: float | None, usual: float | None) -> DepthFrame:
    values, kind = stored.values, stored.kind
    floats = values.dtype.kind == "f"
    if floats:
        values = np.where(np.abs(values) < _NO_DISTANCE, values, 0)  # NaN is not below either
    if values.size and values.min() < 0:
        raise InputError(f"{file} is {kind} with negative depth; 0 is missing, depth is positive.")
    seen = values[values > 0]
    if not seen.size:
        raise InputError(
            f"{file} has no pixel with depth (0 is missing); leave the frame out, or check it."
        )
    median = float(np.median(seen[:: max(1, len(seen) // 4096)]))
    unit = given if given is not None else stored.unit
    if unit is None and floats:
        unit = METRES if median < _METRES_BELOW else MM
        kind += f", taken as {'metres' if unit == METRES else 'mm'}"
    elif unit is None:
        unit = usual
    if unit is None:
        raise InputError(
            f"{file} is {kind}: --depth_unit is missing, mm for one step, such as 0.125 for an "
            "Intel SR305, 1 for most others; or name the --camera."
        )
    if median * unit < _MISTAKEN_BELOW:
        raise InputError(
            f"{file} is {kind} whose median is {median * unit:.3g} mm by --depth_unit={unit:g}: no "
            "camera sees so near; check --depth_unit, or leave it out for metres in floats."
        )
    depth = values.astype(np.float32)
    depth *= np.float32(unit)
    return DepthFrame(depth, kind, values if values.dtype == np.uint16 else None)
