"""JSON, YAML, XML and plain numbers as nested dicts and lists; nothing in them runs."""

import re

from dgn_tf.errors import InputError
from dgn_tf.file_kinds import kind_of, without_mark
from dgn_tf.json_file import parse_json

_MOST_BYTES = 256 * 1024  # of a calibration; YAML's parser takes a second for so many
_STREAM = re.compile(r'Intrinsic of "([^"]+)"\s*/\s*(\d+)x(\d+)')
_FIELD = re.compile(r"^\s*(Width|Height|PPX|PPY|Fx|Fy|Distortion|Coeffs):\s*(.+?)\s*$", re.M)


def read_tree(file):
    """What a calibration file says, as nested dicts and lists; InputError names the file."""
    try:
        with open(file, "rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"--intrinsics={file} can't be read: {error.strerror}; give fx,fy,cx,cy or a file."
        ) from None
    if len(content) > _MOST_BYTES:
        raise InputError(f"--intrinsics={file} has more than {_MOST_BYTES} bytes: no calibration.")
    try:
        text = without_mark(content).decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        what = kind_of(content) or "no text"
        raise InputError(
            f"--intrinsics={file} is {what}; JSON, YAML, XML or a 3x3 matrix as UTF-8 text is "
            "wanted."
        ) from None
    try:
        return _parse(text)
    except InputError:
        raise
    except Exception as error:  # the parsers raise a dozen kinds, RecursionError among them
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        what = kind_of(content) or "text"
        raise InputError(
            f"--intrinsics={file} is {what} that can't be read as a calibration ({reason[:120]})."
        ) from None


def _parse(text: str):
    start = text.lstrip()
    if start.lower().startswith(("<!doctype html", "<html")):
        raise ValueError("download the file itself")
    if start.startswith("<"):
        return _parse_xml(start)
    if start.startswith("{"):
        return parse_json(start)
    if _STREAM.search(text):
        return _parse_enumeration(text)
    if (matrix := _matrix(text)) is not None:
        return {"camera_matrix": matrix}
    return _parse_yaml(text)


def _matrix(text: str) -> list[float] | None:
    """Nine numbers and nothing else, whatever stands between them."""
    parts = re.sub(r"[\[\](),;]", " ", re.sub(r"^\s*#.*$", "", text, flags=re.M)).split()
    if len(parts) != 9:
        return None
    try:
        return [float(part) for part in parts]
    except ValueError:
        return None


def _parse_yaml(text: str):
    try:
        import yaml
    except ImportError:
        raise InputError(
            "--intrinsics: reading YAML wants PyYAML: install the extra `camera`, or give "
            "fx,fy,cx,cy."
        ) from None

    class Loader(yaml.SafeLoader):
        """Makes plain values alone, and dicts of OpenCV's matrices."""

    Loader.add_constructor(
        "tag:yaml.org,2002:opencv-matrix", lambda loader, node: loader.construct_mapping(node, True)
    )
    # OpenCV writes "%YAML:1.0", which is no directive of YAML.
    text = re.sub(r"\A\s*%YAML.*\n", "", text)
    return next(iter(yaml.load_all(text, Loader)), None)  # noqa: S506 - a SafeLoader


def _parse_xml(text: str):
    """OpenCV's storage. No document type is read: entities could grow without end."""
    import xml.etree.ElementTree as xml

    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("a document type, which no calibration has")
    return {child.tag: _xml_value(child) for child in xml.fromstring(text)}


def _xml_value(element):
    if len(element):
        return {child.tag: _xml_value(child) for child in element}
    parts = (element.text or "").split()
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return (element.text or "").strip()
    return numbers[0] if len(numbers) == 1 else numbers


def _parse_enumeration(text: str):
    """What `rs-enumerate-devices -c` prints: a camera for each stream and size."""
    found: dict[str, dict] = {}
    starts = [*_STREAM.finditer(text)]
    for one, after in zip(starts, [*starts[1:], None], strict=True):
        part = text[one.end() : after.start() if after else len(text)]
        fields = dict(_FIELD.findall(part)[:8])
        entries: dict[str, object] = {"model": fields.pop("Distortion", "")}
        entries["coeffs"] = [float(number) for number in fields.pop("Coeffs", "").split()]
        entries.update({name.lower(): float(number) for name, number in fields.items()})
        found.setdefault(f"{one[1]} {one[2]}x{one[3]}", entries)
    return found
