"""The chunks of a PNG file: its header, and whether the data are what was written.

Pillow skips the check sum of the image data, so that one flipped bit gives other pixels in every
tenth file and not a word; libpng, and TensorFlow with it, looks.
"""

import struct
import zlib
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB = 0, 2
_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGBA"}


class Header(NamedTuple):
    """What IHDR says: pixels across and down, bits of a channel, PNG's number of the colour."""

    width: int
    height: int
    bits: int
    colour: int

    def kind(self) -> str:
        """Such as "16-bit grey"."""
        return f"{self.bits}-bit {_COLOURS.get(self.colour, f'colour type {self.colour}')}"


def read_header(content: bytes) -> Header:
    """Reads the header and compares each chunk's check sum, from the first to IEND.

    Args:
        content: the whole file.

    Raises:
        ValueError: no PNG file, cut, or with a chunk that is not what was written; says which.
    """
    if not content.startswith(SIGNATURE):
        raise ValueError("it is not a PNG image, or its header is damaged")
    view, header = memoryview(content), None
    start = len(SIGNATURE)
    while True:
        if start + 12 > len(content):
            raise ValueError("it ends before its last chunk")
        (length,) = struct.unpack_from(">I", content, start)
        end = start + 12 + length
        name = content[start + 4 : start + 8]
        if end > len(content):
            raise ValueError(f"it ends within its chunk {_shown(name)}")
        (wanted,) = struct.unpack_from(">I", content, end - 4)
        if zlib.crc32(view[start + 4 : end - 4]) != wanted:
            raise ValueError(f"the check sum of its chunk {_shown(name)} differs")
        if header is None:
            if name != b"IHDR" or length != 13:
                raise ValueError("it does not begin with a header")
            header = Header(*struct.unpack_from(">IIBB", content, start + 8))
        if name == b"IEND":
            return header
        start = end


def _shown(name: bytes) -> str:
    return name.decode("ascii", "backslashreplace")
