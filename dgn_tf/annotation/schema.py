"""What a record of annotated views holds beside the features of `dgn_tf.records.view_schema`.

The key points in it are estimates; so are all of these. Everything is in the frame of the view's
camera, x right, y down, z forward, mm; a left hand's is mirrored, as its record is (`left`), and
`in_camera` undoes it. Views without an estimate have `annotated` 0 and zeros.

| feature | kind | |
|---|---|---|
| annotated | C int64 | 0 or 1: the view's hand was estimated, from this view or from the others |
| vertices | C bytes | zlib of little-endian int16 [V, 3]: offset from `origin`, unit 0.01 mm |
| origin | C * 3 floats | middle of the vertices |
| transforms | C * P * 16 floats | 4x4 camera_from_template of each part |
| confidence | C floats | 0 to 1, uncalibrated: `annotation.fusion.frame_confidence` |
| view_distance | C floats | median distance of the view's own estimate from the result; -1: none |
| pixel_distance | C floats | mean distance of the view's pixels, capped at 20 mm; -1: none |

`view_valid` and the window stay as they were, and `centre` is the one of the crop that the network
saw last: where it moved by more than a quarter of the cube, the window cuts the crop. Convert such
frames again around centre_files' centres before training.
"""

import zlib

import numpy as np
import tensorflow as tf

from dgn_tf.records import view_schema
from dgn_tf.records.schema import VERTEX_UNIT_MM, check_features

KIND = view_schema.KIND  # annotated records are multi-view records
SOURCE = "annotation"  # what description.json calls where the labels come from
WRITER = "dgn_tf.annotate"


def feature_spec(cameras: int, parts: int) -> dict[str, tf.io.FixedLenFeature]:
    """The further features of C cameras and P parts; nothing has a default."""
    return {
        "annotated": tf.io.FixedLenFeature([cameras], tf.int64),
        "vertices": tf.io.FixedLenFeature([cameras], tf.string),
        "origin": tf.io.FixedLenFeature([cameras, 3], tf.float32),
        "transforms": tf.io.FixedLenFeature([cameras, parts, 4, 4], tf.float32),
        "confidence": tf.io.FixedLenFeature([cameras], tf.float32),
        "view_distance": tf.io.FixedLenFeature([cameras], tf.float32),
        "pixel_distance": tf.io.FixedLenFeature([cameras], tf.float32),
    }


def can_hold(vertices: np.ndarray) -> np.ndarray:
    """Whether vertices [..., V, 3] mm are finite and near enough to their middle: [...] bool."""
    with np.errstate(invalid="ignore"):
        offsets = np.abs(vertices - vertices.mean(axis=-2, keepdims=True, dtype=np.float64))
    # A step less than the type holds: what is rounded still fits.
    return offsets.max(axis=(-2, -1)) < (2**15 - 1) * VERTEX_UNIT_MM  # false for NaN


def annotated_step(serialized: bytes, labels: dict[str, np.ndarray]) -> bytes:
    """A record of `view_schema` with labels put in; the same values give the same bytes.

    Args:
        serialized: the record.
        labels: keypoints [C, J, 3] and keypoints_valid [C, J], centre [C, 3], vertices [C, V, 3]
            mm in the cameras' frames, and the other features of `feature_spec` but origin.

    Raises:
        ValueError: a value is not finite, or vertices lie farther than 0.3 m from their middle.
    """
    example = tf.train.Example.FromString(serialized)
    origin = labels["vertices"].astype(np.float64).mean(axis=1)
    offsets = np.rint((labels["vertices"] - origin[:, np.newaxis]) / VERTEX_UNIT_MM)
    if not np.abs(offsets).max(initial=0) < 2**15:  # false for NaN
        raise ValueError("Annotated vertices want to be finite and within 327 mm of their middle.")
    packed = [zlib.compress(view.astype("<i2").tobytes(), 6) for view in offsets]
    for name in ("annotated", "keypoints_valid"):
        _put(example, name, int64_list=tf.train.Int64List(value=labels[name].reshape(-1)))
    _put(example, "vertices", bytes_list=tf.train.BytesList(value=packed))
    reals = ("transforms", "confidence", "view_distance", "pixel_distance", "centre", "keypoints")
    for name, values in [("origin", origin), *((name, labels[name]) for name in reals)]:
        values = np.asarray(values, np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"An annotated step wants finite {name}.")
        _put(example, name, float_list=tf.train.FloatList(value=values.reshape(-1)))
    return example.SerializeToString(deterministic=True)


def _put(example, name, **value):
    example.features.feature[name].CopyFrom(tf.train.Feature(**value))


def check_example(serialized: bytes, where: str) -> None:
    """Raises InputError naming `where` and the feature that a record lacks."""
    names = [*view_schema.feature_spec(1, 1), *feature_spec(1, 1)]
    check_features(serialized, where, names, WRITER)


def parse_labels(serialized: bytes, keypoints: int) -> dict[str, np.ndarray]:
    """The labels of one annotated record.

    Returns:
        index [], keypoints [C, J, 3], keypoints_valid [C, J], intrinsics [C, 4] of the frames,
        the features of `feature_spec` and vertices [C, V, 3] mm for `vertices` and `origin`;
        left [] and frame_width [], see `view_schema`.
    """
    features = tf.train.Example.FromString(serialized).features.feature
    cameras = len(features["cameras"].int64_list.value)

    def reals(name, *shape):
        return np.array(features[name].float_list.value, np.float32).reshape(cameras, *shape)

    def wholes(name, *shape):
        return np.array(features[name].int64_list.value, np.int64).reshape(cameras, *shape)

    offsets = [
        np.frombuffer(zlib.decompress(data), "<i2").reshape(-1, 3)
        for data in features["vertices"].bytes_list.value
    ]
    vertices = np.stack(offsets) * VERTEX_UNIT_MM + reals("origin", 1, 3)
    annotated = wholes("annotated")
    return {
        "index": np.int64(features["index"].int64_list.value[0]),
        **{
            name: np.int64(sum(features[name].int64_list.value))  # absent: 0
            for name in view_schema.mirror_spec()
        },
        "keypoints": reals("keypoints", keypoints, 3),
        "keypoints_valid": wholes("keypoints_valid", keypoints),
        "intrinsics": reals("intrinsics", 4),
        "vertices": np.where(annotated[:, None, None] > 0, vertices, 0).astype(np.float32),
        "annotated": annotated,
        "transforms": reals("transforms", -1, 4, 4),
        "centre": reals("centre", 3),
        **{name: reals(name) for name in ("confidence", "view_distance", "pixel_distance")},
    }


def in_camera(labels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Labels of `parse_labels` as the camera saw the hand: a left one's are mirrored back.

    Of a left hand `transforms` then pose the mirrored template, as predictions do.
    """
    return view_schema.in_camera(labels, bool(labels["left"]), int(labels["frame_width"]))
