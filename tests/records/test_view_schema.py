"""The multi-view record: what goes in comes out, and what does not fit is named."""

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.records import view_schema

CAMERAS, KEYPOINTS = 2, 36


@pytest.fixture
def step():
    rng = np.random.default_rng(3)
    depth = [rng.integers(0, 65536, size=size).astype(np.uint16) for size in ((7, 5), (4, 9))]
    return {
        "index": 12,
        "cameras": np.array([1, 3]),
        "frames": ["test/depth_1_0000012.png", "test/depth_3_0000012.png"],
        "depth": depth,
        "depth_unit": 0.5,
        "window": np.array([[10, 20, 5, 7], [0, 1, 9, 4]]),
        "intrinsics": rng.uniform(100, 600, size=[CAMERAS, 4]),
        "camera_from_rig": rng.normal(size=[CAMERAS, 4, 4]),
        "rig_known": 1,
        "centre": rng.normal(size=[CAMERAS, 3]),
        "view_valid": np.array([1, 0]),
        "cube": 300.0,
        "keypoints": rng.normal(size=[CAMERAS, KEYPOINTS, 3]),
        "keypoints_valid": rng.integers(0, 2, size=[CAMERAS, KEYPOINTS]),
    }


def test_a_step_returns_as_it_was_written(step):
    parse = tf.function(lambda s: view_schema.parse_step(s, CAMERAS, KEYPOINTS))
    read = {name: v.numpy() for name, v in parse(view_schema.encode_step(step)).items()}
    assert set(read) == {*step, "left", "frame_width"}
    assert read["left"] == 0 and read["frame_width"] == 0
    for name in set(step) - {"depth", "frames"}:
        np.testing.assert_array_equal(read[name], np.asarray(step[name], read[name].dtype), name)
    assert [frame.decode() for frame in read["frames"]] == step["frames"]
    for png, depth in zip(read["depth"], step["depth"], strict=True):
        decoded = view_schema.decode_window(tf.constant(png))
        assert decoded.dtype == tf.float32
        np.testing.assert_array_equal(decoded, depth)


def test_the_same_values_give_the_same_bytes(step):
    assert view_schema.encode_step(step) == view_schema.encode_step(dict(reversed(step.items())))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centre": np.zeros([CAMERAS, 2])}, r"centre \[2, 3\], got \[2, 2\]"),
        ({"centre": np.full([CAMERAS, 3], np.nan)}, "finite centre"),
        ({"keypoints": np.full([CAMERAS, KEYPOINTS, 3], np.inf)}, "finite keypoints"),
        ({"window": np.array([[10, 20, 5, 7], [0, 1, 4, 9]])}, r"window's size \[9, 4\], got"),
        ({"depth": [np.zeros([7, 5]), np.zeros([4, 9])]}, "uint16 depth .* got float64"),
    ],
)
def test_values_that_do_not_fit_are_named(step, change, message):
    with pytest.raises(ValueError, match=message):
        view_schema.encode_step({**step, **change})


def test_a_missing_value_is_named(step):
    del step["cube"]
    with pytest.raises(ValueError, match="wants 'cube'"):
        view_schema.encode_step(step)


def test_a_record_that_lacks_a_feature_is_named(step):
    serialized = view_schema.encode_step(step)
    view_schema.check_example(serialized, "a.tfrecord: record 0")
    example = tf.train.Example.FromString(serialized)
    del example.features.feature["window"]
    with pytest.raises(InputError, match="a.tfrecord: record 0: .*'window'.*nyu_to_tfrecord"):
        view_schema.check_example(example.SerializeToString(), "a.tfrecord: record 0")
    with pytest.raises(InputError, match="a.tfrecord: not a tf.train.Example"):
        view_schema.check_example(b"\xff\xff\xff", "a.tfrecord")
