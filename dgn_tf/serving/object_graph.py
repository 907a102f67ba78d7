"""What loading a SavedModel makes and runs besides its signatures: the nodes of its object graph.

TensorFlow makes an object of each node, and runs the functions that a `resource` node has as its
children `_create_resource` and `_initialize`, whatever they hold. An exported model has no such
node; one with TensorRT's engines has, and its functions load engines from the model's own assets.
"""

import pathlib

KINDS = frozenset(
    "asset bare_concrete_function constant function resource user_object variable".split()
)
# Of containers; every other identifier makes an object of a class that something has registered.
USER_OBJECTS = frozenset(
    "_generic_user_object signature_map trackable_dict_wrapper trackable_list_wrapper "
    "trackable_tuple_wrapper".split()
)
_CALLS = frozenset("PartitionedCall StatefulPartitionedCall".split())
_ENGINE_OPS = _CALLS | frozenset(
    "Const CreateTRTResourceHandle DestroyResourceOp Identity InitializeTRTResource NoOp "
    "Placeholder _Arg _Retval".split()
)
_OF_CLASSES = ("registered_name", "registered_saver", "saveable_objects")
_FUNCTIONS = frozenset(["bare_concrete_function", "captured_tensor", "function"])
# TensorFlow calls objects' attributes of certain names, all with an underscore; this one is ours.
_OWN_FUNCTION = "_forward"
_OF_ENGINES = frozenset(["_create_resource", "_initialize", "_destroy_resource"])


def functions_named(object_graph) -> set[str]:
    """Functions that loading may run or give out: those that any node names."""
    names = set(object_graph.concrete_functions)
    for node in object_graph.nodes:
        names.update(_named_by(node))
    return names


def find_fault(meta_graph, folder) -> str | None:
    """What in the object graph an exported model does not have, in words; None where nothing.

    Args:
        meta_graph: a MetaGraphDef.
        folder: of the SavedModel, which its assets may not leave.
    """
    graph = meta_graph.object_graph_def
    if not graph.nodes:  # loaded as TensorFlow 1 does, whose collections run at load
        return "it has no object graph"
    for number, node in enumerate(graph.nodes):
        kind = node.WhichOneof("kind")
        if kind not in KINDS:
            return f"its object {number} is of the kind {kind}"
        if kind == "user_object" and node.user_object.identifier not in USER_OBJECTS:
            return f"its object {number} is of the class {node.user_object.identifier!r}"
        for field in _OF_CLASSES:
            if getattr(node, field):
                return f"its object {number} has a {field}"
        fault = _child_fault(graph.nodes, node)
        if fault is not None:
            return f"its object {number} {fault}"
    fault = _asset_fault(meta_graph, folder)
    if fault is None and any(node.HasField("resource") for node in graph.nodes):
        fault = _Engines(meta_graph).find_fault()
    return fault


def _named_by(node) -> list[str]:
    kind = node.WhichOneof("kind")
    if kind == "bare_concrete_function":
        return [node.bare_concrete_function.concrete_function_name]
    if kind == "function":
        return list(node.function.concrete_functions)
    return [node.captured_tensor.concrete_function] if kind == "captured_tensor" else []


def _child_fault(nodes, node):
    for child in node.children:
        if not 0 <= child.node_id < len(nodes):
            return "has a child that is not there"
        kind, name = nodes[child.node_id].WhichOneof("kind"), child.local_name
        if node.HasField("resource"):
            # A `user_object` can be called too.
            if kind not in _FUNCTIONS | {"asset"} or (name in _OF_ENGINES) != (kind != "asset"):
                return f"is a resource with a child {name!r} of the kind {kind}"
        elif kind in _FUNCTIONS and name.startswith("_") and name != _OWN_FUNCTION:
            return f"has a function as its {name!r}"
    return None


def _asset_fault(meta_graph, folder):
    assets = meta_graph.asset_file_def
    for node in meta_graph.object_graph_def.nodes:
        if node.HasField("asset") and not 0 <= node.asset.asset_file_def_index < len(assets):
            return "it names an asset that it lacks"
    inside = (pathlib.Path(folder) / "assets").resolve()
    for asset in assets:
        if "\0" in asset.filename or not (inside / asset.filename).resolve().is_relative_to(inside):
            return f"its asset {asset.filename!r} lies outside its folder"
    return None


class _Engines:
    """The check of `resource` nodes: TF-TRT's handles of engines that lie in assets."""

    def __init__(self, meta_graph):
        self._graph = meta_graph.object_graph_def
        library = meta_graph.graph_def.library.function
        self._functions = {function.signature.name: function for function in library}

    def find_fault(self) -> str | None:
        nodes = self._graph.nodes
        for number, node in enumerate(nodes):
            if not node.HasField("resource"):
                continue
            for child in node.children:
                for name in _named_by(nodes[child.node_id]):
                    fault = self._function_fault(name)
                    if fault:
                        return f"its object {number} runs at load what is no engine's: {fault}"
        return None

    def _function_fault(self, name):
        try:
            places = self._asset_arguments(name, ())
        except ValueError as error:
            return str(error)
        bound = list(self._graph.concrete_functions[name].bound_inputs)
        arguments = len(self._functions[name].signature.input_arg)
        for place in places:
            place -= arguments - len(bound)  # what a function captures comes last
            number = bound[place] if 0 <= place < len(bound) else -1
            known = 0 <= number < len(self._graph.nodes)
            if not known or not self._graph.nodes[number].HasField("asset"):
                return f"{name} loads an engine that is no asset"
        return None

    def _asset_arguments(self, name, callers) -> set[int]:
        """Places of the arguments that must be assets; ValueError where it holds other ops."""
        function = self._functions.get(name)
        if function is None or name in callers:
            raise ValueError(f"{name} is missing or calls itself")
        arguments = [argument.name for argument in function.signature.input_arg]
        needed = set()
        for node in function.node_def:
            inputs = [tensor for tensor in node.input if not tensor.startswith("^")]
            wanted = []
            if node.op == "InitializeTRTResource":
                wanted = inputs[1:2] or [""]
            elif node.op in _CALLS:
                inner = self._asset_arguments(node.attr["f"].func.name, (*callers, name))
                wanted = [inputs[place] if place < len(inputs) else "" for place in inner]
            elif node.op not in _ENGINE_OPS:
                raise ValueError(node.op)
            for tensor in wanted:
                if tensor not in arguments:
                    raise ValueError(f"{name} loads an engine that is no asset")
                needed.add(arguments.index(tensor))
        return needed
