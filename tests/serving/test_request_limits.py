"""A small request is no large one: at most so many frames and pixels, in every signature."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dgn_tf.serving import checks
from dgn_tf.serving.saving import example_crops
from tests.exported_model import SIZE, signatures

MANY = checks.MAX_BATCH + 1


def one_pixel_png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full([1, 1], 600, np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


CAMERA = np.tile(np.float32([2, 2, 0.5, 0.5]), [MANY, 1])
FRAMES = {"depth": np.full([MANY, 1, 1], 600, np.float32), "intrinsics": CAMERA}
LEFT = {"left": np.zeros(MANY, bool)}
REQUESTS = {
    "serving_default": {**FRAMES, **LEFT},
    "centred": {**FRAMES, **LEFT, "centre": np.tile(np.float32([0, 0, 600]), [MANY, 1])},
    "locate": FRAMES,
    "png": {
        "png": np.array([one_pixel_png()] * MANY, object),
        "intrinsics": CAMERA,
        "depth_unit": np.ones(MANY, np.float32),
        **LEFT,
    },
    "crop": {
        **{name: np.repeat(value, MANY, 0) for name, value in example_crops(SIZE, 1).items()},
        **LEFT,
    },
    "hand": LEFT,
}


def call(signature, inputs):
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    return signatures()[signature](**tensors)


def test_these_are_all_signatures():
    assert set(REQUESTS) == set(signatures()) - {"keep"}


@pytest.mark.parametrize("signature", list(REQUESTS))
def test_more_than_1024_frames_or_crops_are_refused(signature):
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 1024 in a request"):
        call(signature, REQUESTS[signature])


def test_1024_are_answered():
    assert len(call("hand", {"left": LEFT["left"][:-1]})["faces"]) == checks.MAX_BATCH


@pytest.mark.parametrize("signature", ["serving_default", "centred", "locate"])
def test_a_frame_of_more_pixels_than_a_camera_has_is_refused(signature):
    inputs = {name: value[:1] for name, value in REQUESTS[signature].items()}
    inputs["depth"] = np.zeros([1, checks.MAX_SIDE, checks.MAX_PIXELS // checks.MAX_SIDE + 1])
    inputs["depth"] = inputs["depth"].astype(np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="pixels a frame"):
        call(signature, inputs)


def test_frames_of_more_pixels_together_than_a_request_may_have_are_refused(monkeypatch):
    monkeypatch.setattr(checks, "MAX_REQUEST_PIXELS", 3 * 16 - 1)
    camera, left = np.tile(np.float32([2, 2, 1, 1]), [3, 1]), np.zeros(3, bool)
    depth = np.ones([3, 4, 4], np.float32)
    checks.frames(depth[:2], camera[:2], left[:2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="47 a request"):
        checks.frames(depth, camera, left)


@pytest.mark.parametrize("value", [1e30, -1e30, 1.1e6, np.inf, np.nan])
@pytest.mark.parametrize("column", [0, 2, 3])
def test_a_crop_of_a_camera_that_cannot_be_is_refused(column, value):
    crops = example_crops(SIZE, 1)
    crops["intrinsics"][0, column] = value
    with pytest.raises(tf.errors.InvalidArgumentError, match="intrinsics"):
        call("crop", {**crops, "left": np.array([False])})


@pytest.mark.parametrize("value", [1e30, np.nan, -2e5])
def test_a_centre_that_cannot_be_is_refused(value):
    crops = example_crops(SIZE, 1)
    crops["centre"][0, 0] = value
    with pytest.raises(tf.errors.InvalidArgumentError, match="centre"):
        call("crop", {**crops, "left": np.array([False])})
