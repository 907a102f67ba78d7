import shutil

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.predictor import HandMeshPredictor
from dgn_tf.serving import allow_list
from tests.exported_model import exported_model
from tests.serving.edited_model import edited, saver_nodes

SPEC = [tf.TensorSpec([None], tf.float32, name="depth")]


def saved(folder, function):
    """Saves `function` of one float vector as the signature serving_default."""
    module = tf.Module()
    module.function = tf.function(function, input_signature=SPEC)
    tf.saved_model.save(module, str(folder), {"serving_default": module.function})
    return folder


def read_secret(x):
    return {"y": x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)}


def write_file(x):
    with tf.control_dependencies([tf.io.write_file("/nonexistent/x", "x")]):
        return {"y": tf.identity(x)}


def call_python(x):
    return {"y": tf.ensure_shape(tf.numpy_function(lambda v: v, [x], tf.float32), [None])}


def print_to_file(x):
    with tf.control_dependencies([tf.print(x, output_stream="file:///nonexistent/x")]):
        return {"y": tf.identity(x)}


def read_in_a_loop(x):
    return {"y": tf.while_loop(lambda v: v[0] < 1, lambda v: (read_secret(v)["y"],), [x])[0]}


def restore(x):
    return {
        "y": x
        + tf.raw_ops.RestoreV2(
            prefix="/nonexistent", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
        )[0]
    }


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (read_secret, "ReadFile"),
        (write_file, "WriteFile"),
        (call_python, "PyFunc"),
        (print_to_file, "PrintV2"),
        (read_in_a_loop, "ReadFile"),
        (restore, "RestoreV2"),
    ],
)
def test_a_hostile_op_is_refused_by_name_before_loading(function, op, tmp_path, monkeypatch):
    folder = saved(tmp_path / "model", function)
    monkeypatch.setattr(tf.saved_model, "load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(InputError, match=op) as error:
        HandMeshPredictor(folder)
    assert "\n" not in str(error.value)


def test_an_exported_model_and_its_checkpoint_ops_are_allowed():
    model = allow_list.read_saved_model(exported_model() / "1")
    ops = {
        node.op
        for function in model.meta_graphs[0].graph_def.library.function
        for node in function.node_def
    }
    assert {"SaveV2", "RestoreV2"} <= ops


def run_save_from_the_initialiser(graph):
    name = graph.saver_def.save_tensor_name.split(":")[0]
    next(node for node in graph.graph_def.node if node.op == "NoOp").input.append(f"^{name}")


def give_the_saver_out_as_a_signature(graph):
    output = next(iter(graph.signature_def["crop"].outputs.values()))
    output.name = graph.saver_def.save_tensor_name


def restore_by_the_saving_function(graph):
    save, load = saver_nodes(graph)
    load.attr["f"].func.name = save.attr["f"].func.name


def call_the_saver_from_a_function(graph):
    save = saver_nodes(graph)[0]
    node = graph.graph_def.library.function[0].node_def.add()
    node.name, node.op = "innocent", "StatefulPartitionedCall"
    node.attr["f"].func.name = save.attr["f"].func.name


def call_the_saver_by_its_name_as_an_op(graph):
    node = graph.graph_def.library.function[0].node_def.add()
    node.name, node.op = "innocent", saver_nodes(graph)[0].attr["f"].func.name


@pytest.mark.parametrize(
    "edit",
    [
        run_save_from_the_initialiser,
        give_the_saver_out_as_a_signature,
        restore_by_the_saving_function,
        call_the_saver_from_a_function,
        call_the_saver_by_its_name_as_an_op,
    ],
)
def test_checkpoint_ops_are_refused_where_something_else_can_run_them(edit, tmp_path):
    with pytest.raises(InputError, match="SaveV2|RestoreV2"):
        allow_list.read_saved_model(edited(tmp_path / "model", edit))


def test_a_foreign_model_is_refused(tmp_path):
    folder = saved(tmp_path / "model", lambda depth: {"y": depth + 1})
    with pytest.raises(InputError, match="not a hand model"):
        HandMeshPredictor(folder)


@pytest.mark.parametrize("content", [b"", b"not a protobuf", bytes(100), b"\xff" * 1000])
def test_a_damaged_model_is_refused(content, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        HandMeshPredictor(tmp_path)


def test_a_cut_model_is_refused(tmp_path):
    data = (exported_model() / "1" / "saved_model.pb").read_bytes()
    (tmp_path / "saved_model.pb").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="damaged"):
        HandMeshPredictor(tmp_path)


def test_a_huge_model_is_refused_unread(tmp_path, monkeypatch):
    (tmp_path / "saved_model.pb").write_bytes(bytes(100))
    monkeypatch.setattr(allow_list, "MAX_BYTES", 99)
    with pytest.raises(InputError, match="more than the 99"):
        HandMeshPredictor(tmp_path)


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        HandMeshPredictor(tmp_path / "nothing")
    with pytest.raises(InputError, match="holds no SavedModel"):
        HandMeshPredictor(tmp_path)


@pytest.mark.parametrize("name", ["hand.json", "mesh.npz"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"PK\x03\x04rubbish"])
def test_missing_or_damaged_assets_are_refused(name, content, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(exported_model() / "1", folder)
    file = folder / "assets" / name
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(InputError, match="lacks the hand's names and faces"):
        HandMeshPredictor(folder)


def test_assets_are_read_without_pickle(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(exported_model() / "1", folder)
    np.savez(folder / "assets" / "mesh.npz", faces=np.array([{}], object), rest_vertices=[0])
    with pytest.raises(InputError, match="damaged"):
        HandMeshPredictor(folder)


def test_the_highest_version_is_taken(tmp_path):
    for version in ("2", "10", "1", "draft"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").touch()
    (tmp_path / "11").mkdir()
    assert allow_list.find_version(tmp_path).name == "10"
    assert allow_list.find_version(tmp_path / "2").name == "2"
