"""What a file is by its first bytes, whatever its name says: for messages that name it."""

import codecs

# First bytes -> what such a file is. The longer of two that begin alike stands first.
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"P5", "a PGM image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"II+\0", "a BigTIFF image"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"\x93NUMPY", "a numpy array (.npy)"),
    (b"#ROSBAG", "a ROS 1 bag"),
    (b"\x89MCAP0", "an MCAP recording (ROS 2 bag)"),
    (b"SQLite format 3\0", "an SQLite database (such as a ROS 2 bag)"),
    (b"NI10", "an OpenNI recording"),
    (b"\x1aE\xdf\xa3", "a Matroska video (such as an Azure Kinect recording)"),
    (b"\x89HDF", "an HDF5 file (such as MATLAB's since 7.3)"),
    (b"MATLAB 5.0", "a MATLAB file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file that it stands for"),
    (b"%PDF", "a PDF document"),
    (b"%YAML", "a YAML file"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"ply", "a PLY mesh or point cloud"),
    (b"# .PCD", "a PCL point cloud"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\xd0\xcf\x11\xe0", "a Microsoft Office file or a Thumbs.db"),
)
_TEXTS: tuple[tuple[bytes, str], ...] = (
    (b"<!doctype html", "a web page (HTML), such as a sign-in or error page"),
    (b"<html", "a web page (HTML), such as a sign-in or error page"),
    (b"<?xml", "an XML file"),
    (b"{", "JSON text"),
    (b"header:", "a ROS message printed as text"),
    (b"---", "YAML text"),
)
_PNG = b"\x89PNG\r\n\x1a\n"
_LOOKED_AT = 4096


def kind_of(content: bytes) -> str:
    """Such as "a JPEG picture"; "" where nothing known begins so.

    Args:
        content: the file, or its first 4096 bytes.
    """
    start = content[:_LOOKED_AT]
    for beginning, kind in _BEGINNINGS:
        if start.startswith(beginning):
            return kind
    text = without_mark(start).lstrip().lower()
    for beginning, kind in _TEXTS:
        if text.startswith(beginning):
            return kind
    if ros_png(content) is not None:
        return "a ROS compressedDepth message"
    if start.startswith(codecs.BOM_UTF8):
        return "text with a UTF-8 byte order mark"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16 text"
    return "text" if start and _is_text(start) else ""


def named_kind(path) -> str:
    """Such as "it is a web page (HTML)": of a file that a reader has given up; "" where unknown.

    Plain text is not named: the reader's own words say more.
    """
    try:
        with open(path, "rb") as stream:
            kind = kind_of(stream.read(_LOOKED_AT))
    except OSError:
        return ""
    return f"it is {kind}" if kind not in ("", "text") else ""


def ros_png(content: bytes) -> int | None:
    """Where the PNG of a ROS `compressedDepth` message begins: after a header, not at 0."""
    at = content.find(_PNG, 1, _LOOKED_AT)
    return at if at >= 12 else None


def without_mark(content: bytes) -> bytes:
    """Without the byte order mark that Windows programs put before UTF-8."""
    return content.removeprefix(codecs.BOM_UTF8)


def _is_text(start: bytes) -> bool:
    try:
        start[:512].decode("ascii")
    except UnicodeDecodeError:
        return False
    return not any(byte < 9 or 13 < byte < 32 for byte in start[:512])
