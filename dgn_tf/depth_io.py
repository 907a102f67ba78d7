"""Depth images on disk: PNG files read, checked and turned into mm.

Two encodings: `u16`, 16-bit grey, depth = value * unit, 0 missing; and `nyu`, 8-bit RGB of the NYU
Hand Pose data set, depth = G * 256 + B mm and red 0, where 0 and all from 2001 up is missing.
"""

import io

import numpy as np

from dgn_tf import png_file
from dgn_tf.errors import InputError

ENCODINGS = ("u16", "nyu")
NYU_MISSING_MM = 2001
MAX_PIXELS = 2**23  # the largest depth cameras have 5 million
_MAX_BYTES = 64 * 2**20  # of a file: four times what MAX_PIXELS take where nothing is compressed


def read_depth(file, encoding: str = "u16", depth_unit: float | None = None) -> np.ndarray:
    """Reads one depth image.

    Args:
        file: path of a PNG.
        encoding: "u16" or "nyu".
        depth_unit: mm for one step of a `u16` image, such as 0.125 or 1; `nyu` is in mm.

    Returns:
        [H, W] float32 mm, 0 = missing.

    Raises:
        InputError: no or a bad unit, an unreadable, damaged, too large or all-missing file, or one
            of another bit depth or colour than the encoding wants.
    """
    check_encoding(encoding, depth_unit)
    if encoding == "u16":
        depth = read_u16(file, "--encoding=u16", "--encoding=nyu").astype(np.float32)
        depth *= np.float32(depth_unit)
    else:
        depth = read_nyu(file, wanted_by="--encoding=nyu").astype(np.float32)
    if not depth.any():
        raise InputError(
            f"{file} has no pixel with depth (0 is missing, for nyu also 2001 and "
            "more); leave the frame out, or check --encoding."
        )
    return depth


def read_u16(file, wanted_by: str, nyu_by: str, content: bytes | None = None) -> np.ndarray:
    """Reads a 16-bit grey image.

    Args:
        file: path of a PNG.
        wanted_by: what a message about another kind of image blames.
        nyu_by: what it says reads NYU's frames.
        content: of the file, where it has been read.

    Returns:
        [H, W] uint16 in units of the camera, 0 = missing; all of it may be.

    Raises:
        InputError: an unreadable, damaged or too large file, or one that is not 16-bit grey.
    """
    header, pixels = decode_png(file, read_bytes(file) if content is None else content)
    if (header.bits, header.colour) != (16, png_file.GREY):
        raise InputError(
            f"{file} is {header.kind()}, {wanted_by} wants 16-bit grey; 8 bits and colours have "
            f"lost the depth (for NYU's frames use {nyu_by})."
        )
    return pixels.astype(np.uint16)


def read_nyu(file, wanted_by: str = "NYU's layout") -> np.ndarray:
    """Reads a frame of the NYU Hand Pose data set.

    Args:
        file: path of a PNG.
        wanted_by: what a message about another kind of image blames.

    Returns:
        [H, W] uint16 mm, 0 = missing; all of it may be.

    Raises:
        InputError: an unreadable, damaged or too large file, or one that is not 8-bit RGB or
            whose red channel is not 0: a picture.
    """
    header, pixels = decode_png(file, read_bytes(file))
    if (header.bits, header.colour) != (8, png_file.RGB):
        raise InputError(
            f"{file} is {header.kind()}, {wanted_by} wants 8-bit RGB, depth = G * 256 + B mm; "
            "16-bit grey is --encoding=u16 of dgn_tf.predict."
        )
    if pixels[..., 0].any():
        raise InputError(
            f"{file} is a coloured picture (its red channel is not 0), {wanted_by} wants NYU's "
            "depth = G * 256 + B mm and red 0; give the camera's own depth image."
        )
    depth = (pixels[..., 1].astype(np.uint16) << 8) | pixels[..., 2]
    depth[depth >= NYU_MISSING_MM] = 0
    return depth


def check_encoding(encoding: str, depth_unit: float | None):
    """Raises InputError unless the encoding is known and the unit fits it."""
    if encoding not in ENCODINGS:
        raise InputError(f"--encoding={encoding} is not one of {', '.join(ENCODINGS)}.")
    if encoding == "nyu":
        if depth_unit not in (None, 1.0):
            raise InputError(
                f"--depth_unit={depth_unit:g} with --encoding=nyu, whose images are "
                "in mm; leave the unit out."
            )
    elif depth_unit is None:
        raise InputError(
            "--depth_unit is missing: mm for one step of the 16-bit image, such as "
            "0.125 for an Intel SR305, 1 for most others."
        )
    elif not (np.isfinite(depth_unit) and 0 < depth_unit <= 100):
        raise InputError(
            f"--depth_unit={depth_unit:g} is not in (0, 100]; it is mm for one step "
            "of the 16-bit image, such as 0.125 or 1."
        )


def decode_png(file, content: bytes):
    """A PNG's header and its pixels, [H, W] or [H, W, C]; InputError that names `file`."""
    from PIL import Image

    try:
        header = png_file.read_header(content)
        if header.width * header.height > MAX_PIXELS:
            raise InputError(
                f"{file} has {header.width} x {header.height} pixels, more than the {MAX_PIXELS} "
                "of any depth camera; shrink it."
            )
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.load()
            return header, np.asarray(image)
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError) as error:  # how Pillow reports damaged chunks
        raise InputError(f"{file} is damaged: {error}; copy or record the frame again.") from None


def read_bytes(file) -> bytes:
    """A depth file whole; InputError where it can't be read, is empty or larger than any is."""
    try:
        with open(file, "rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"{file} can't be read: {error.strerror}; copy or record the frame again."
        ) from None
    if not content:
        raise InputError(f"{file} is empty; copy or record the frame again.")
    if len(content) > _MAX_BYTES:
        raise InputError(
            f"{file} has more than {_MAX_BYTES} bytes, no depth frame does; shrink it."
        )
    return content
