"""Reads what a skinned mesh needs of a binary glTF file (.glb), without trusting it.

Buffers inside the file alone; every index and length is checked before it is used. glTF 2.0:
https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

import struct
from typing import Any

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.json_file import parse_json

_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_TYPES = {
    5120: np.int8,
    5121: np.uint8,
    5122: np.int16,
    5123: np.uint16,
    5125: np.uint32,
    5126: np.float32,
}
_WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_LARGEST = 1 << 28  # Bytes; a hand takes some hundred thousand.
_TRIANGLES = 4


class GltfFile:
    """A .glb file: `json` is its description, `accessor` reads numbers.

    Raises:
        InputError: from any of its methods, naming the file, where it is no such file or uses
            what is not read here (sparse or compressed data, other files).
    """

    def __init__(self, path):
        self.path = str(path)
        try:
            with open(path, "rb") as file:
                data = file.read(_LARGEST + 1)
        except OSError as error:
            raise InputError(f"{path}: cannot read ({error.strerror}); check the path.") from None
        if len(data) > _LARGEST:
            raise InputError(f"{path}: is larger than {_LARGEST >> 20} MiB, which no hand is.")
        try:
            magic, version, length = struct.unpack_from("<III", data)
            if magic != _MAGIC or version != 2 or length > len(data):
                raise ValueError("no header of binary glTF 2.0")
            self._binary, found, at = b"", None, 12
            while at < length:
                size, kind = struct.unpack_from("<II", data, at)
                if at + 8 + size > length:
                    raise ValueError("a chunk ends beyond the file")
                chunk, at = data[at + 8 : at + 8 + size], at + 8 + size
                if kind == _JSON and found is None:
                    found = parse_json(chunk.decode("utf-8"))
                elif kind == _BIN and not self._binary:
                    self._binary = chunk
            if not isinstance(found, dict):
                raise ValueError("no JSON chunk")
            self.json: dict = found
        except (struct.error, ValueError) as error:
            raise self.fault(f"is no binary glTF ({error}); export the hand as .glb") from None

    def fault(self, text) -> InputError:
        """Returns an error that begins with the file's name."""
        return InputError(f"{self.path}: {text}.")

    def get(self, *keys):
        """Returns json[keys[0]][keys[1]].. of names and indices from 0; InputError where absent."""
        value: Any = self.json
        for key in keys:
            negative = isinstance(key, bool) or (isinstance(key, int) and key < 0)
            try:
                if negative or isinstance(value, str):
                    raise KeyError(key)
                value = value[key]
            except (KeyError, IndexError, TypeError):
                raise self.fault(f"has no {'/'.join(map(str, keys))}") from None
        return value

    def items(self, *keys) -> list:
        """Returns the list that `get` returns; InputError where it is none."""
        value = self.get(*keys)
        if not isinstance(value, list):
            raise self.fault(f"{'/'.join(map(str, keys))} is no list")
        return value

    def accessor(self, index) -> np.ndarray:
        """Returns [count, width] numbers as they are stored; 'normalized' integers as fractions."""
        if not isinstance(index, int):
            raise self.fault(f"names accessor {index!r}, no number")
        accessor = self.get("accessors", index)
        view = self.get("bufferViews", self.get("accessors", index, "bufferView"))
        try:
            if (
                "sparse" in accessor
                or view.get("buffer", 0) != 0
                or view.get("extensions")
                or "uri" in self.get("buffers", 0)
            ):
                raise ValueError("it is sparse, compressed or in another file")
            dtype = np.dtype(_TYPES[accessor["componentType"]]).newbyteorder("<")
            width, count = _WIDTH[accessor["type"]], accessor["count"]
            start, size = view.get("byteOffset", 0), view["byteLength"]
            offset = accessor.get("byteOffset", 0)
            stride = view.get("byteStride", dtype.itemsize * width)
            if not all(
                isinstance(value, int) and value >= 0
                for value in (count, start, size, offset, stride)
            ):
                raise ValueError("a length is no number of bytes")
            if count < 1 or stride < dtype.itemsize * width:
                raise ValueError("it is empty")
            last = offset + (count - 1) * stride + dtype.itemsize * width
            if last > size or start + size > len(self._binary):
                raise ValueError("it reaches beyond its buffer")
            array: np.ndarray = np.ndarray(
                (count, width), dtype, self._binary, start + offset, (stride, dtype.itemsize)
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self.fault(f"accessor {index} can't be read ({error})") from None
        if accessor.get("normalized") and array.dtype.kind in "iu":
            largest = 2.0 ** (8 * dtype.itemsize - (dtype.kind == "i")) - 1
            return np.maximum(array / largest, -1.0)
        if dtype.kind == "f" and not np.isfinite(array).all():
            raise self.fault(f"accessor {index} holds NaN or infinity")
        return array.astype(np.float64 if dtype.kind == "f" else np.int64)

    def triangles(self, primitive) -> np.ndarray:
        """Returns [F, 3] indices of a primitive's corners."""
        if primitive.get("mode", _TRIANGLES) != _TRIANGLES:
            raise self.fault("its mesh is not made of plain triangles")
        count = len(self.accessor(primitive["attributes"]["POSITION"]))
        if "indices" in primitive:
            corners = self.accessor(primitive["indices"]).reshape(-1)
        else:
            corners = np.arange(count)
        if (
            len(corners) % 3
            or corners.dtype.kind != "i"
            or corners.max() >= count
            or corners.min() < 0
        ):
            raise self.fault("its triangles name corners that it does not have")
        return corners.reshape(-1, 3)
