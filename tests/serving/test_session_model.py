"""A session gives what tf.saved_model.load gives, and refuses what is damaged."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dgn_tf.errors import InputError, reason
from dgn_tf.serving import allow_list
from dgn_tf.serving.saving import example_crops
from dgn_tf.serving.session_model import SessionModel
from tests.exported_model import INTRINSICS, SIZE, blob_frame, exported_model, signatures

FOLDER = exported_model() / "1"


@pytest.fixture
def proto():
    return allow_list.read_saved_model(FOLDER)


@pytest.fixture
def model(proto):
    return SessionModel(proto, FOLDER)


def inputs(signature: str) -> dict:
    """Two frames or crops, of a right and of a left hand."""
    left = np.array([False, True])
    frames = np.stack([blob_frame(), blob_frame(u=140)])
    both = {"intrinsics": np.stack([INTRINSICS] * 2), "left": left}
    buffer = io.BytesIO()
    Image.fromarray(frames[0].astype(np.uint16)).save(buffer, "PNG")
    centre = np.float32([[20, -20, 600], [-40, -20, 600]])
    return {
        "serving_default": {"depth": frames, **both},
        "centred": {"depth": frames, "centre": centre, **both},
        "crop": {**example_crops(SIZE, 2), "left": left},
        "png": {
            "png": np.array([buffer.getvalue()] * 2, object),
            "depth_unit": np.float32([1, 2]),
            **both,
        },
        "locate": {"depth": frames, "intrinsics": both["intrinsics"]},
        "hand": {"left": left},
    }[signature]


@pytest.mark.parametrize(
    "signature", ["serving_default", "centred", "crop", "png", "locate", "hand"]
)
def test_every_signature_gives_the_same_to_the_bit(model, signature):
    given = inputs(signature)
    tensors = {name: tf.constant(value) for name, value in given.items()}
    expected = signatures()[signature](**tensors)
    found = model.run(signature, given)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value.numpy(), err_msg=name)
        assert found[name].dtype == value.numpy().dtype


def test_it_has_the_signatures_and_nothing_that_begins_it(model):
    assert set(model.signatures) == set(signatures()) - {"keep"}


def test_a_refused_request_says_what_the_model_says(model):
    given = inputs("crop")
    given["depth"][1, 3, 3] = np.nan
    tensors = {name: tf.constant(value) for name, value in given.items()}
    with pytest.raises(tf.errors.OpError) as expected:
        signatures()["crop"](**tensors)
    with pytest.raises(ValueError, match="NaN or infinite") as found:
        model.run("crop", given)
    assert str(found.value) == reason(expected.value)


@pytest.mark.parametrize(
    "change",
    [
        {"depth": np.zeros([2, SIZE, SIZE + 1], np.float32)},
        {"depth": np.zeros([2, SIZE], np.float32)},
        {"depth": np.array([["a"]])},
        {"depth": None},
    ],
)
def test_arrays_of_another_kind_are_refused_in_one_line(model, change):
    with pytest.raises(ValueError) as error:
        model.run("crop", {**inputs("crop"), **change})
    assert "\n" not in str(error.value)


def test_a_signature_of_tensors_that_are_not_there_is_refused(proto):
    graph = proto.meta_graphs[0]
    graph.signature_def["crop"].outputs["vertices"].name = "nowhere:0"
    graph.signature_def["hand"].inputs["left"].name = "::"
    model = SessionModel(proto, FOLDER)
    for signature in ("crop", "hand"):
        with pytest.raises(ValueError):
            model.run(signature, inputs(signature))
    with pytest.raises(ValueError):
        model.run("locate", inputs("hand"))  # lacks an input


def damage_restore(graph):
    graph.saver_def.restore_op_name = "nowhere"


def damage_filename(graph):
    graph.saver_def.filename_tensor_name = "crop_left:0"


def damage_start(graph):
    graph.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "nowhere"


def damage_edge(graph):
    next(node for node in graph.graph_def.node if node.input).input[0] = "nowhere"


@pytest.mark.parametrize("damage", [damage_restore, damage_filename, damage_start, damage_edge])
def test_a_damaged_graph_is_refused_in_one_line(proto, damage):
    damage(proto.meta_graphs[0])
    with pytest.raises(InputError, match="can't be loaded .*; export it anew") as error:
        SessionModel(proto, FOLDER)
    assert "\n" not in str(error.value)


def test_models_of_one_process_share_no_variables(proto, model):
    expected = model.run("crop", inputs("crop"))["vertices"]
    other = SessionModel(proto, FOLDER)  # the same names
    with other._session.graph.as_default() as graph:
        for operation in graph.get_operations():
            if operation.type == "VarHandleOp":
                shape = tf.TensorShape(operation.get_attr("shape"))
                zeros = tf.zeros(shape, operation.get_attr("dtype"))
                other._session.run(
                    tf.raw_ops.AssignVariableOp(resource=operation.outputs[0], value=zeros)
                )
    assert np.abs(other.run("crop", inputs("crop"))["vertices"] - expected).max() > 0.1
    np.testing.assert_array_equal(model.run("crop", inputs("crop"))["vertices"], expected)
