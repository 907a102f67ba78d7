"""The record of one rendered hand: a plain tf.train.Example. Writers and readers share this page.

| feature | kind | |
|---|---|---|
| index | int64 | number of the sample within its seed |
| depth | bytes | PNG, 16 bit grey, unit 0.1 mm, 0 = missing; [S, S] |
| face | bytes | zlib of little-endian int16 [S, S]: face that a pixel shows, -1 = no hand |
| barycentric | bytes | zlib of little-endian uint16 [S, S, 2]: corners 1 and 2's weights x 65535 |
| vertices | bytes | zlib of little-endian int16 [V, 3]: offset from the centre, unit 0.01 mm |
| intrinsics | 4 floats | fx, fy, cx, cy of the crop, pixels |
| centre | 3 floats | mm, camera frame |
| cube | 1 float | mm |
| keypoints | J * 3 floats | mm, camera frame |
| left | int64 | 1: it stands for a left hand, whose mirror image this is; absent: right, 0 |

Mesh coordinates are not stored: they follow from face, barycentrics and the template's embedding.
"""

import hashlib
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from dgn_tf.errors import InputError

FORMAT_VERSION = 1
DEPTH_UNIT_MM = 0.1
VERTEX_UNIT_MM = 0.01
DESCRIPTION_FILE = "description.json"


def feature_spec(keypoints: int) -> dict[str, tf.io.FixedLenFeature]:
    """What a record holds, for tf.io.parse_example; nothing has a default."""
    return {
        "index": tf.io.FixedLenFeature([], tf.int64),
        "depth": tf.io.FixedLenFeature([], tf.string),
        "face": tf.io.FixedLenFeature([], tf.string),
        "barycentric": tf.io.FixedLenFeature([], tf.string),
        "vertices": tf.io.FixedLenFeature([], tf.string),
        "intrinsics": tf.io.FixedLenFeature([4], tf.float32),
        "centre": tf.io.FixedLenFeature([3], tf.float32),
        "cube": tf.io.FixedLenFeature([], tf.float32),
        "keypoints": tf.io.FixedLenFeature([keypoints, 3], tf.float32),
    }


def mirror_spec() -> dict[str, tf.io.FixedLenFeature]:
    """What tells a left hand; a record without it, such as an older one, is of a right one."""
    return {"left": tf.io.FixedLenFeature([], tf.int64, 0)}


def mesh_hash(template) -> str:
    """sha256 (hex) of what records refer to in a template: its vertices and faces."""
    digest = hashlib.sha256()
    digest.update(np.ascontiguousarray(template.vertices, "<f4").tobytes())
    digest.update(np.ascontiguousarray(template.faces, "<i4").tobytes())
    return digest.hexdigest()


def _rounded(values, unit, kind, name):
    """`values` / `unit` as integers of a type; ValueError where they do not fit."""
    scaled = np.rint(np.asarray(values, np.float64) / unit)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    if not (np.isfinite(scaled).all() and scaled.min() >= low and scaled.max() <= high):
        raise ValueError(f"{name}: values do not fit a record (unit {unit}, {np.dtype(kind)}).")
    return scaled.astype(kind)


def _packed(array) -> bytes:
    return zlib.compress(array.astype(array.dtype.newbyteorder("<")).tobytes(), 6)


def encode_example(sample: dict[str, np.ndarray], index: int, left: bool = False) -> bytes:
    """Serialises one sample of `synthesize_batch` (arrays without the batch axis).

    `left`: it is the mirror image of a left hand.
    """
    # Farther than 6.5 m is beyond any crop's cube: as good as missing.
    depth = np.where(sample["depth"] < 65535 * DEPTH_UNIT_MM, sample["depth"], 0.0)
    png = io.BytesIO()
    image = Image.fromarray(_rounded(depth, DEPTH_UNIT_MM, np.uint16, "depth"))
    image.save(png, "PNG", compress_level=6)
    vertices = sample["vertices"].astype(np.float64) - sample["centre"]
    packed = {
        "depth": png.getvalue(),
        "face": _packed(sample["face"].astype(np.int16)),
        "barycentric": _packed(
            _rounded(sample["barycentric"].clip(0.0, 1.0), 1 / 65535, np.uint16, "barycentric")
        ),
        "vertices": _packed(_rounded(vertices, VERTEX_UNIT_MM, np.int16, "vertices")),
    }
    whole = {"index": index} | ({"left": 1} if left else {})
    features = {
        name: tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        for name, value in whole.items()
    }
    for name, data in packed.items():
        features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
    for name in ("intrinsics", "centre", "cube", "keypoints"):
        values = np.asarray(sample[name], np.float32).reshape(-1)
        features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def check_example(serialized: bytes, where: str) -> None:
    """Raises InputError naming `where` and the feature that a record lacks."""
    check_features(serialized, where, feature_spec(1), "data_prep.synthetic_to_tfrecord")


def check_features(serialized: bytes, where: str, names: Iterable[str], writer: str) -> None:
    """Raises InputError naming `where`, the first of `names` that a record lacks, its `writer`."""
    example = tf.train.Example()
    try:
        example.ParseFromString(serialized)
    except Exception as error:  # protobuf's DecodeError differs between its implementations
        raise InputError(f"{where}: not a tf.train.Example; write the records again.") from error
    present = set(example.features.feature)
    missing = [name for name in names if name not in present]
    if missing:
        raise InputError(
            f"{where}: records lack the feature {missing[0]!r}; write them with "
            f"{writer} of this version."
        )


def decode_batch(serialized: tf.Tensor, template, size: int) -> dict[str, tf.Tensor]:
    """Parses records into the arrays of `synthesize_batch`, index [B] and left [B] int64.

    Args:
        serialized: [B] strings.
        template: HandTemplate that the records were rendered with.
        size: S, side of their crops.
    """
    vertices, keypoints = len(template.vertices), len(template.keypoints)
    raw = tf.io.parse_example(serialized, feature_spec(keypoints) | mirror_spec())

    def unpack(name, kind, shape):
        data = tf.io.decode_raw(tf.io.decode_compressed(raw[name], "ZLIB"), kind)
        return tf.reshape(data, [-1, *shape])

    depth = tf.map_fn(
        lambda png: tf.io.decode_png(png, channels=1, dtype=tf.uint16),
        raw["depth"],
        fn_output_signature=tf.TensorSpec([None, None, 1], tf.uint16),
    )
    offsets = tf.cast(unpack("vertices", tf.int16, [vertices, 3]), tf.float32) * VERTEX_UNIT_MM
    weights = tf.cast(unpack("barycentric", tf.uint16, [size, size, 2]), tf.float32) / 65535.0
    return {
        "depth": tf.reshape(tf.cast(depth, tf.float32) * DEPTH_UNIT_MM, [-1, size, size]),
        "intrinsics": raw["intrinsics"],
        "centre": raw["centre"],
        "cube": raw["cube"],
        "vertices": offsets + raw["centre"][:, tf.newaxis],
        "keypoints": raw["keypoints"],
        "face": unpack("face", tf.int16, [size, size]),
        "barycentric": weights,
        "index": raw["index"],
        "left": raw["left"],
    }


# Values that a record can't rightly hold, though its checksum is right: refused by name.


_FAR_MM = 10_000.0  # no depth camera sees a hand from farther
_PIXELS = 1e6
# Name -> the two values that each number of it lies between.
_LIMITS = {
    "cube": (0.0, _FAR_MM),
    "focal length": (0.0, _PIXELS),
    "principal point": (-_PIXELS, _PIXELS),
    "centre": (-_FAR_MM, _FAR_MM),
    "keypoints": (-_FAR_MM, _FAR_MM),
    "camera_from_rig": (-10 * _FAR_MM, 10 * _FAR_MM),
    "depth_unit": (0.0, 1000.0),
}


def _limited(values: dict) -> Iterator[tuple[str, Any, float, float]]:
    """Name, numbers and limits of what there is in `values`, arrays or tensors by feature."""
    parts = {name: value for name, value in values.items() if name in _LIMITS}
    parts["focal length"] = values["intrinsics"][..., :2]
    parts["principal point"] = values["intrinsics"][..., 2:]
    for name, value in parts.items():
        yield name, value, *_LIMITS[name]


def impossible(values: dict) -> str:
    """What of a record, or of several, can't be, in words; empty where all can.

    Args:
        values: numpy arrays by feature: `intrinsics`, and those of `_LIMITS` that it has. What is
            not valid is 0 in them.
    """
    for name, value, low, high in _limited(values):
        numbers = np.asarray(value)
        if not numbers.size or (low < numbers.min() and numbers.max() < high):  # no NaN either
            continue
        wrong = numbers[~((numbers > low) & (numbers < high))]
        return f"{name} {wrong[0]:g}, wanted between {low:g} and {high:g}"
    return ""


def refuse_impossible(values: dict, where: str, writer: str) -> None:
    """Raises InputError that names `where` and the value, where one can't be."""
    if why := impossible(values):
        raise InputError(f"{where}: {why}; write the records again with {writer}.")


def limited(values: dict) -> dict:
    """Those of a record's values that `impossible` looks at."""
    return {name: value for name, value in values.items() if name in (*_LIMITS, "intrinsics")}


def checked(
    through: tf.Tensor, values: dict, rows: tf.Tensor, refuse: Callable[[int, dict], None]
) -> tf.Tensor:
    """`through`, for whoever reads it to learn whether `values` can be; in a graph or eagerly.

    Args:
        through: any tensor that comes to be read.
        values: tensors by feature, of one record or, with a first axis more, of B.
        rows: [] or [B] numbers of the records.
        refuse: raises for a record by its number and its numpy arrays, where one can't be.
    """
    values = limited(values)

    def look(given, rows, *arrays):
        if impossible(dict(zip(values, arrays, strict=True))):
            for place, row in enumerate(np.reshape(rows, -1)):
                one = [array[place] if rows.ndim else array for array in arrays]
                refuse(int(row), dict(zip(values, one, strict=True)))
        return given

    # One call for the whole batch: the same in operations of the graph costs 8 % of reading, and a
    # call with state 2 %. One without would be optimised away, were it not for what it gives.
    given = tf.numpy_function(
        look, [through, rows, *values.values()], through.dtype, stateful=False
    )
    return tf.ensure_shape(given, through.shape)
