"""How a hand template lies in its .npz: no pickles, fixed time stamps, a hash of the content."""

import hashlib
import io
import zipfile

import numpy as np

from dgn_tf import npz_file
from dgn_tf.errors import InputError

FORMAT_VERSION = 1

STRINGS = ("name", "handedness", "licence", "source")
NAME_LISTS = ("part_names", "keypoint_names", "shape_names")
ARRAYS = {
    "vertices": np.float32,
    "faces": np.int32,
    "wrist_loop": np.int32,
    "skinning_weights": np.float32,
    "parents": np.int32,
    "bone_from_template": np.float32,
    "joint_limits": np.float32,
    "keypoints": np.float32,
    "keypoint_weights": np.float32,
    "evaluated": np.int32,
    "shape_basis": np.float32,
    "shape_joints": np.float32,
    "shape_keypoints": np.float32,
    "face_part": np.int32,
    "stub_vertices": np.float32,
    "stub_faces": np.int32,
    "stub_ring": np.int32,
}
EMBEDDING_ARRAYS = {
    "mesh_coords": np.float32,
    "vertex_layer": np.int32,
    "face_coords": np.float32,
    "face_layer": np.int32,
    "face_is_seam": np.bool_,
}

_EPOCH = (1980, 1, 1, 0, 0, 0)  # The earliest time stamp that a zip can hold.
_LARGEST = 1 << 26  # Bytes of all arrays; a template takes some hundred thousand.
_REMEDY = "pass a template that data_prep.build_template wrote, or rebuild it."


def content(template) -> dict[str, np.ndarray]:
    """Returns all that defines a template, but for the selected embedding, by name in the file."""
    entries: dict[str, np.ndarray] = {
        "format_version": np.array(FORMAT_VERSION, np.int32),
        "grid_size": np.array(template.grid_size, np.int32),
    }
    entries |= {field: np.array(str(getattr(template, field))) for field in STRINGS}
    entries |= {field: np.array(getattr(template, field), np.str_) for field in NAME_LISTS}
    entries |= {field: getattr(template, field) for field in ARRAYS}
    for name, embedding in template.embeddings.items():
        entries |= {f"{name}/{field}": getattr(embedding, field) for field in EMBEDDING_ARRAYS}
    return entries


def content_hash(template) -> str:
    """Returns the sha256 of `content` (little endian, C order), sorted by name."""
    digest = hashlib.sha256()
    for name, array in sorted(content(template).items()):
        if array.dtype.kind == "U":
            data, kind = "\0".join(array.ravel().tolist()).encode("utf-8"), "text"
        else:
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            data, kind = little.tobytes(), little.dtype.str
        digest.update(f"{name} {kind} {array.shape} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def write(template, file) -> None:
    """Writes the .npz; the same template gives the same bytes."""
    entries = content(template) | {"embedding": np.array(template.embedding)}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in sorted(entries.items()):
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array), version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, member.getvalue())


def read(file, where: str) -> dict:
    """Reads what `write` wrote; returns constructor arguments, embeddings as dicts of arrays.

    Raises:
        InputError: no such archive, another format version, a field missing; names `where`.
    """
    # What a file may leave out.
    entries = {"handedness": np.array("right")}
    try:
        entries |= npz_file.read_arrays(file, limit=_LARGEST)
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: is no hand template ({error}); {_REMEDY}") from None

    def entry(name):
        if name not in entries:
            raise InputError(f"{where}: the hand template has no field '{name}'; {_REMEDY}")
        return entries[name]

    if entry("format_version").ravel().tolist() != [FORMAT_VERSION]:
        raise InputError(
            f"{where}: hand template of format {entries['format_version']}, this "
            f"version reads {FORMAT_VERSION}; {_REMEDY}"
        )
    fields: dict = {field: str(entry(field)) for field in (*STRINGS, "embedding")}
    fields |= {field: tuple(entry(field).tolist()) for field in NAME_LISTS}
    fields |= {field: entry(field) for field in (*ARRAYS, "grid_size")}
    names = sorted({name.split("/")[0] for name in entries if "/" in name})
    fields["embeddings"] = {
        name: {field: entry(f"{name}/{field}") for field in EMBEDDING_ARRAYS} for name in names
    }
    return fields
