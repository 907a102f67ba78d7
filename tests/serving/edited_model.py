"""Copies of the small exported model with its graph changed, and functions to put into it."""

import shutil

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tests.exported_model import exported_model


def edited(folder, edit):
    """Writes a copy of the exported model, whose MetaGraphDef `edit` has changed, as `folder`.

    Without TensorFlow's fingerprint, which an attacker leaves out.
    """
    shutil.copytree(exported_model() / "1", folder)
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((folder / "saved_model.pb").read_bytes())
    edit(model.meta_graphs[0])
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    (folder / "fingerprint.pb").unlink()
    return folder


def saver_nodes(graph):
    """The nodes that save and restore, in this order."""
    entries = {
        name.split(":")[0]: place
        for place, name in enumerate(
            [graph.saver_def.save_tensor_name, graph.saver_def.restore_op_name]
        )
    }
    nodes = [node for node in graph.graph_def.node if node.name in entries]
    return sorted(nodes, key=lambda node: entries[node.name])


def add_function(graph, body, name="__inference_evil_1") -> str:
    """Adds a traced function without arguments, and those that it calls; returns its name."""
    traced = tf.function(body, input_signature=[]).get_concrete_function()
    graph.graph_def.library.function.extend(traced.graph.as_graph_def().library.function)
    added = graph.graph_def.library.function.add()
    added.CopyFrom(traced.function_def)
    added.signature.name = name
    return name


def as_the_savers(graph, body) -> str:
    """Adds a function in the place of the saver's own save function, whose file ops are allowed."""
    name, node = add_function(graph, body), saver_nodes(graph)[0]
    library = graph.graph_def.library.function
    kept = [f for f in library if f.signature.name != node.attr["f"].func.name]
    del library[:]
    library.extend(kept)
    del node.input[:]
    node.attr["f"].func.name = name
    for key in ("Tin", "Tout"):
        del node.attr[key].list.type[:]
    for key in set(node.attr) - {"f", "Tin", "Tout", "config", "config_proto", "executor_type"}:
        del node.attr[key]
    return name


def add_node(graph, parent: int, local_name: str):
    """Adds an object as a child of another; returns its number and the object."""
    nodes = graph.object_graph_def.nodes
    number, node = len(nodes), nodes.add()
    child = nodes[parent].children.add()
    child.node_id, child.local_name = number, local_name
    return number, node


def name_function(graph, parent: int, local_name: str, function: str, bound=()):
    """Adds a function's object as a child of another, with the objects that it captures."""
    if bound:
        graph.object_graph_def.concrete_functions[function].bound_inputs.extend(bound)
    _, node = add_node(graph, parent, local_name)
    node.bare_concrete_function.concrete_function_name = function


def add_resource(graph, function: str) -> int:
    """Adds a `resource` to the root, whose two functions that loading runs are `function`."""
    number, node = add_node(graph, 0, "table")
    node.resource.device = ""
    for name in ("_create_resource", "_initialize"):
        name_function(graph, number, name, function)
    return number
