"""Depth in images of 16 and 32 bits: TIFF, by Pillow, and OpenEXR, by its own library."""

import contextlib
import ctypes
import io
import os
import sys
import warnings

import numpy as np

from dgn_tf.depth_files.stored import Stored, check_pixels, damaged
from dgn_tf.errors import InputError

_TIFF_KINDS = {"F": "32-bit float", "I": "32-bit integer"}
_EXR_CHANNELS = ("Z", "depth", "Depth", "Y", "V")


@contextlib.contextmanager
def _quiet():
    """Libraries print a damaged file's faults; the error that follows says them once."""
    with warnings.catch_warnings(), open(os.devnull, "wb") as nothing:
        warnings.simplefilter("ignore")
        sys.stdout.flush()
        kept = [os.dup(stream) for stream in (1, 2)]
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            ctypes.CDLL(None).fflush(None)  # what C's own buffers hold
            for stream, before in zip((1, 2), kept, strict=True):
                os.dup2(before, stream)
                os.close(before)


def read_tiff(file, content: bytes) -> Stored:
    """A frame in a TIFF of 16-bit or 32-bit integers or floats; `content` is all of it."""
    from PIL import Image

    try:
        with _quiet(), Image.open(io.BytesIO(content), formats=["TIFF"]) as image:
            check_pixels(file, image.height, image.width)
            mode, frames = image.mode, getattr(image, "n_frames", 1)
            if not mode.startswith("I;16") and mode not in _TIFF_KINDS:
                raise InputError(
                    f"{file} is a TIFF picture of Pillow's mode {mode}: 8 bits and colours have "
                    "lost the depth; save 16-bit grey or 32-bit floats."
                )
            if frames != 1:
                raise InputError(
                    f"{file} is a TIFF of {frames} pages; save each frame as a file of its own."
                )
            image.load()
            values = np.asarray(image)
    except InputError:
        raise
    except Exception as error:  # Pillow's plugin raises a dozen kinds for damaged tags
        raise damaged(file, "a TIFF image", error) from None
    return Stored(values, f"a {_TIFF_KINDS.get(mode, '16-bit')} TIFF")


def read_exr(file, content: bytes) -> Stored:
    """A frame in an OpenEXR image of one part: channel Z, depth or Y, or equal R, G and B.

    The library reads the path itself; `content` has shown what it is.
    """
    try:
        import OpenEXR
    except ImportError:
        raise InputError(
            f"{file} is an OpenEXR image; reading it wants OpenEXR: install the extra `camera`."
        ) from None
    try:
        with _quiet():
            shape = _exr_shape(OpenEXR.File(str(file), header_only=True))
            check_pixels(file, *shape)
            # `InputFile`, the older class, crashes on damaged files.
            with OpenEXR.File(str(file), separate_channels=True) as image:
                channels = image.channels()
                names = _exr_names(file, channels)
                read = [np.array(channels[name].pixels) for name in names]  # copies
            if any(one.shape != shape for one in read):
                raise ValueError(f"a channel is not of the image's {shape}")
    except InputError:
        raise
    except Exception as error:  # the binding raises RuntimeError, OSError, ValueError, TypeError
        raise damaged(file, "an OpenEXR image", error) from None
    if not all(np.array_equal(read[0], one, equal_nan=True) for one in read):
        raise InputError(
            f"{file} is an OpenEXR picture of the channels {', '.join(names)}; a depth image has "
            "Z, depth or Y."
        )
    return Stored(read[0], f"an OpenEXR image of {read[0].dtype.name}")


def _exr_shape(image) -> tuple[int, int]:
    if len(image.parts) != 1:
        raise ValueError(f"it has {len(image.parts)} parts, one is read")
    header = image.header()
    if not np.array_equal(header["dataWindow"], header["displayWindow"]):
        raise ValueError("it is cropped: its data window is not its display window")
    low, high = header["dataWindow"]
    width, height = (int(h) - int(w) + 1 for w, h in zip(low, high, strict=True))
    return height, width


def _exr_names(file, channels) -> list[str]:
    """The channel that says it is depth; else all of them, which must be the same."""
    named = [name for name in _EXR_CHANNELS if name in channels][:1]
    if not named and len(channels) > 4:
        raise InputError(
            f"{file} is an OpenEXR picture of {len(channels)} channels, none of them Z or depth."
        )
    return named or sorted(channels)
