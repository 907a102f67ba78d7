"""Hostile SavedModels that act when they are loaded, and the one kind of model that may."""

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from dgn_tf.errors import InputError
from dgn_tf.predictor import HandMeshPredictor
from dgn_tf.serving import allow_list
from tests.exported_model import exported_model
from tests.serving import edited_model


def writes(path):
    def body():
        tf.raw_ops.SaveV2(
            prefix=str(path / "victim"),
            tensor_names=["a"],
            shape_and_slices=[""],
            tensors=[tf.constant("of the attacker")],
        )

    return body


def deletes(path):
    def body():
        tf.raw_ops.MergeV2Checkpoints(
            checkpoint_prefixes=[str(path / "run" / "ckpt-1")],
            destination_prefix=str(path / "moved"),
            delete_old_dirs=True,
            allow_missing_files=True,
        )

    return body


def loops(_):
    def body():
        tf.while_loop(lambda i: i >= 0, lambda i: [tf.abs(i)], [tf.constant(1)])

    return body


def as_resource(graph, body):
    edited_model.add_resource(graph, edited_model.as_the_savers(graph, body))


def as_resource_by_a_polymorphic_function(graph, body):
    name = edited_model.as_the_savers(graph, body)
    number, node = edited_model.add_node(graph, 0, "table")
    node.resource.device = ""
    graph.object_graph_def.concrete_functions[name].SetInParent()
    for child in ("_create_resource", "_initialize"):
        _, function = edited_model.add_node(graph, number, child)
        function.function.concrete_functions.append(name)


def as_resource_by_an_object_that_is_called(graph, body):
    name = edited_model.as_the_savers(graph, body)
    number, node = edited_model.add_node(graph, 0, "table")
    node.resource.device = ""
    for child in ("_create_resource", "_initialize"):
        called, user_object = edited_model.add_node(graph, number, child)
        user_object.user_object.identifier = "_generic_user_object"
        edited_model.name_function(graph, called, "__call__", name)


def as_what_restoring_calls(graph, body):
    name = edited_model.as_the_savers(graph, body)
    edited_model.name_function(graph, 0, "_restore_from_tensors", name)


def as_a_custom_saver(graph, body):
    name = edited_model.as_the_savers(graph, body)
    edited_model.name_function(graph, 0, "saves", name)
    last = len(graph.object_graph_def.nodes) - 1
    saveable = graph.object_graph_def.nodes[0].saveable_objects["x"]
    saveable.save_function = saveable.restore_function = last


def as_an_initialiser_of_tensorflow_1(graph, body):
    edited_model.as_the_savers(graph, body)
    graph.ClearField("object_graph_def")


ACTS, PLACES = (
    (writes, deletes, loops),
    (
        as_resource,
        as_resource_by_a_polymorphic_function,
        as_resource_by_an_object_that_is_called,
        as_what_restoring_calls,
        as_a_custom_saver,
        as_an_initialiser_of_tensorflow_1,
    ),
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("act", ACTS)
def test_nothing_that_acts_at_load_is_loaded(act, place, tmp_path, monkeypatch):
    body = act(tmp_path)
    folder = edited_model.edited(tmp_path / "model", lambda graph: place(graph, body))
    monkeypatch.setattr(tf.saved_model, "load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(InputError, match="refused|holds ops"):
        HandMeshPredictor(folder)


def test_the_attack_is_real_where_nothing_checks(tmp_path):
    (tmp_path / "run").mkdir()
    folder = edited_model.edited(
        tmp_path / "model", lambda graph: as_resource(graph, writes(tmp_path))
    )
    tf.saved_model.load(str(folder))
    assert (tmp_path / "victim.index").exists()


def other_kinds(graph):
    _, node = edited_model.add_node(graph, 0, "odd")
    node.captured_tensor.name = "x"


def of_a_class(graph):
    _, node = edited_model.add_node(graph, 0, "odd")
    node.user_object.identifier = "_tf_keras_model"


def of_no_kind(graph):
    edited_model.add_node(graph, 0, "odd")


def registered(graph):
    graph.object_graph_def.nodes[0].registered_name = "somebody.Class"


def asset_outside(graph):
    graph.asset_file_def[0].filename = "../../../../etc/hostname"


def asset_elsewhere(graph):
    graph.asset_file_def[0].filename = "/etc/hostname"


def asset_that_is_not_there(graph):
    next(
        node for node in graph.object_graph_def.nodes if node.HasField("asset")
    ).asset.SetInParent()
    del graph.asset_file_def[:]


def child_that_is_not_there(graph):
    graph.object_graph_def.nodes[0].children.add().node_id = 10**6


def two_functions_of_one_name(graph):
    library = graph.graph_def.library.function
    library.add().CopyFrom(library[0])


def constants_without_end(graph):
    node = graph.graph_def.node.add()
    node.name, node.op = "large", "Const"
    for _ in range(3):
        node.attr["value"].tensor.tensor_shape.dim.add().size = 2**12


@pytest.mark.parametrize(
    "edit",
    [
        *(other_kinds, of_a_class, of_no_kind, registered, asset_outside, asset_elsewhere),
        *(asset_that_is_not_there, child_that_is_not_there, two_functions_of_one_name),
        constants_without_end,
    ],
)
def test_what_no_exported_model_has_is_refused(edit, tmp_path):
    with pytest.raises(InputError, match="refused") as error:
        allow_list.read_saved_model(edited_model.edited(tmp_path / "model", edit))
    assert "\n" not in str(error.value)


def function(graph, name, arguments, nodes):
    """Adds a FunctionDef of (name, op, inputs) by hand; arguments and inputs are names."""
    added = graph.graph_def.library.function.add()
    added.signature.name = name
    for argument in arguments:
        added.signature.input_arg.add().name = argument
    for node_name, op, inputs in nodes:
        node = added.node_def.add()
        node.name, node.op = node_name, op
        node.input.extend(inputs)
    return added


def engines(graph, initialise=None, captured="asset"):
    """What TF-TRT leaves: a handle, its engines in an asset, and functions that call functions."""
    nodes = graph.object_graph_def.nodes
    kinds = [node.WhichOneof("kind") for node in nodes]
    function(graph, "create", [], [("handle", "CreateTRTResourceHandle", [])])
    function(
        graph,
        "load_engines",
        ["handle", "file"],
        [("load", "InitializeTRTResource", ["handle", "file"])],
    )
    made = function(
        graph,
        "initialise",
        ["handle", "file"],
        initialise
        or [
            ("inner", "StatefulPartitionedCall", ["handle", "file", "^one"]),
            ("one", "Const", []),
            ("done", "NoOp", ["^inner"]),
        ],
    )
    for node in made.node_def:
        if node.op == "StatefulPartitionedCall":
            node.attr["f"].func.name = "load_engines"
    function(graph, "destroy", ["handle"], [("end", "DestroyResourceOp", ["handle"])])
    number, node = edited_model.add_node(graph, 0, "engines")
    node.resource.device = "GPU"
    asset = kinds.index(captured)
    edited_model.name_function(graph, number, "_create_resource", "create")
    edited_model.name_function(graph, number, "_initialize", "initialise", [number, asset])
    edited_model.name_function(graph, number, "_destroy_resource", "destroy", [number])
    child = node.children.add()
    child.node_id, child.local_name = kinds.index("asset"), "_serialized_trt_resource_filename"


def test_a_model_with_tensorrts_engines_is_allowed(tmp_path):
    allow_list.read_saved_model(edited_model.edited(tmp_path / "model", engines))


@pytest.mark.parametrize(
    "changed",
    [
        {"captured": "variable"},
        {
            "initialise": [
                ("where", "Const", []),
                ("load", "InitializeTRTResource", ["handle", "where:output:0"]),
            ]
        },
        {"initialise": [("load", "InitializeTRTResource", ["handle"])]},
        {"initialise": [("load", "InitializeTRTResource", ["file", "handle"])]},
        {"initialise": [("also", "AssignVariableOp", ["handle", "file"])]},
    ],
)
def test_engines_that_are_no_asset_or_do_more_are_refused(changed, tmp_path):
    folder = edited_model.edited(tmp_path / "model", lambda graph: engines(graph, **changed))
    with pytest.raises(InputError, match="runs at load what is no engine's"):
        allow_list.read_saved_model(folder)


def test_a_model_is_what_its_fingerprint_was_written_for(tmp_path):
    folder = edited_model.edited(tmp_path / "model", lambda _: None)
    (folder / "fingerprint.pb").write_bytes(
        (exported_model() / "1" / "fingerprint.pb").read_bytes()
    )
    allow_list.read_saved_model(folder)
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((folder / "saved_model.pb").read_bytes())
    nodes = [n for f in model.meta_graphs[0].graph_def.library.function for n in f.node_def]
    constant = next(n for n in nodes if n.op == "Const" and n.attr["value"].tensor.float_val)
    constant.attr["value"].tensor.float_val[0] += 1
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"damaged: it is not what fingerprint\.pb"):
        allow_list.read_saved_model(folder)
