"""The record of one time step seen by C cameras: a plain tf.train.Example.

Writers and readers share this page. Camera frames: x right, y down, z forward, mm; the rig's frame
is camera 1's. Pixel centres are at integers.

| feature | kind | |
|---|---|---|
| index | int64 | number in the file names, from 1 |
| cameras | C int64 | camera numbers, from 1 |
| frames | C bytes | file of each view, relative to the data set: test/depth_1_0000001.png |
| depth | C bytes | PNG, 16 bit grey, unit `depth_unit`, 0 = missing: a window of the frame |
| depth_unit | 1 float | mm |
| window | C * 4 int64 | left, top, width, height in the frame |
| intrinsics | C * 4 floats | fx, fy, cx, cy of the whole frame, pixels |
| camera_from_rig | C * 16 floats | 4x4, mm; the identity where rig_known is 0 |
| rig_known | int64 | 0 or 1 |
| centre | C * 3 floats | mm, camera frame: centre of the crop; 0 where view_valid is 0 |
| view_valid | C int64 | 0: no usable frame or no centre; its depth is then one missing pixel |
| cube | 1 float | mm |
| keypoints | C * J * 3 floats | mm, camera frame; 0 where invalid |
| keypoints_valid | C * J int64 | 0 or 1 |
| left | int64 | 1: the frames showed a left hand and are mirrored; absent: right, 0 |
| frame_width | int64 | of the mirrored frames, pixels; absent: 0 |

Of a left hand everything is mirrored (`dgn_tf.geometry.mirror`), so that whoever reads records sees
right hands alone: the pixels, cx, extrinsics, centres and key points. `in_camera` undoes it.
A window holds the frame's own pixels, nothing resampled: window pixel + (left, top) = frame pixel.
It is larger than the crop, so that crops can be turned and moved, and ends at the frame's border.
"""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from dgn_tf.geometry import mirror
from dgn_tf.records.schema import check_features

FORMAT_VERSION = 1
# How the `why` of a skipped frame begins that is beyond the labels: no place in NYU's order.
WITHOUT_LABEL = "a frame without label"
KIND = "views"  # what description.json calls such records
NO_WINDOW = (0, 0, 1, 1)  # left, top, width, height of a view that is not valid
# Noise hardly shrinks more at higher levels, which take twice the time.
_PNG_LEVEL = 4


def feature_spec(cameras: int, keypoints: int) -> dict[str, tf.io.FixedLenFeature]:
    """What a record of C cameras and J key points holds; nothing has a default."""
    return {
        "index": tf.io.FixedLenFeature([], tf.int64),
        "cameras": tf.io.FixedLenFeature([cameras], tf.int64),
        "frames": tf.io.FixedLenFeature([cameras], tf.string),
        "depth": tf.io.FixedLenFeature([cameras], tf.string),
        "depth_unit": tf.io.FixedLenFeature([], tf.float32),
        "window": tf.io.FixedLenFeature([cameras, 4], tf.int64),
        "intrinsics": tf.io.FixedLenFeature([cameras, 4], tf.float32),
        "camera_from_rig": tf.io.FixedLenFeature([cameras, 4, 4], tf.float32),
        "rig_known": tf.io.FixedLenFeature([], tf.int64),
        "centre": tf.io.FixedLenFeature([cameras, 3], tf.float32),
        "view_valid": tf.io.FixedLenFeature([cameras], tf.int64),
        "cube": tf.io.FixedLenFeature([], tf.float32),
        "keypoints": tf.io.FixedLenFeature([cameras, keypoints, 3], tf.float32),
        "keypoints_valid": tf.io.FixedLenFeature([cameras, keypoints], tf.int64),
    }


def mirror_spec() -> dict[str, tf.io.FixedLenFeature]:
    """What tells a left hand; a record without it, such as an older one, is of a right one."""
    zero = tf.io.FixedLenFeature([], tf.int64, 0)
    return {"left": zero, "frame_width": zero}


def encode_step(step: dict) -> bytes:
    """Serialises one time step; the same values give the same bytes.

    Args:
        step: the features' names with numpy values in the shapes of `feature_spec`; `frames` are
            strings, `depth` is a list of C arrays [height, width] uint16 in units of
            `depth_unit`, as large as their windows. Those of `mirror_spec` may be absent.

    Raises:
        ValueError: a feature is missing, of another shape or not finite.
    """
    cameras, keypoints = len(step["cameras"]), np.shape(step["keypoints"])[1]
    features = {}
    wanted = feature_spec(cameras, keypoints) | (mirror_spec() if step.get("left") else {})
    for name, spec in wanted.items():
        if name not in step:
            raise ValueError(f"A step wants {name!r}.")
        value = step[name]
        if name == "depth":
            data = [_png(view, size) for view, size in zip(value, step["window"], strict=True)]
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=data))
            continue
        if name == "frames":
            data = [frame.encode() for frame in value]
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=data))
            continue
        values = np.asarray(value)
        if list(values.shape) != list(spec.shape):
            raise ValueError(f"A step wants {name} {list(spec.shape)}, got {list(values.shape)}.")
        if not np.isfinite(values).all():
            raise ValueError(f"A step wants finite {name}, got {values.tolist()}.")
        if spec.dtype == tf.int64:
            whole = tf.train.Int64List(value=values.astype(np.int64).reshape(-1))
            features[name] = tf.train.Feature(int64_list=whole)
        else:
            real = tf.train.FloatList(value=values.astype(np.float32).reshape(-1))
            features[name] = tf.train.Feature(float_list=real)
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def _png(depth, window):
    depth = np.asarray(depth)
    if depth.dtype != np.uint16 or depth.shape != (window[3], window[2]):
        raise ValueError(
            f"A view wants uint16 depth of its window's size {[int(window[3]), int(window[2])]}, "
            f"got {depth.dtype} {list(depth.shape)}."
        )
    png = io.BytesIO()
    Image.fromarray(depth).save(png, "PNG", compress_level=_PNG_LEVEL)
    return png.getvalue()


def check_example(serialized: bytes, where: str) -> None:
    """Raises InputError naming `where` and the feature that a record lacks."""
    check_features(serialized, where, feature_spec(1, 1), "data_prep.nyu_to_tfrecord")


def parse_step(serialized: tf.Tensor, cameras: int, keypoints: int) -> dict[str, tf.Tensor]:
    """Parses one record.

    Args:
        serialized: scalar string.
        cameras: C.
        keypoints: J.

    Returns:
        Tensors in the shapes and types of `feature_spec` and `mirror_spec`; depth [C] are PNG
        strings still, each of its own size: see `decode_window`.
    """
    wanted = feature_spec(cameras, keypoints) | mirror_spec()
    return tf.io.parse_single_example(serialized, wanted)


def in_camera(values: dict, left: bool, frame_width: int) -> dict:
    """Arrays of a record, or of batches or labels of it, as the camera saw the hand.

    Args:
        values: numpy arrays by `mirror.mirror_named`'s names, and `intrinsics` of the whole frame.
        left, frame_width: the record's; of a right hand nothing changes.
    """
    if not left:
        return values
    mirrored = mirror.mirror_named(values)
    if "intrinsics" in values:
        mirrored["intrinsics"] = mirror.mirror_intrinsics(values["intrinsics"], frame_width)
    return mirrored


def decode_window(png: tf.Tensor) -> tf.Tensor:
    """Decodes one view's depth: scalar string -> [height, width] float32, in `depth_unit`."""
    return tf.cast(tf.io.decode_png(png, channels=1, dtype=tf.uint16)[..., 0], tf.float32)
