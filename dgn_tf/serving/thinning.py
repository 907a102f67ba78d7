"""Takes what is there twice out of a SavedModel's functions.

Whoever loads a model makes an operation in Python, and one or more in C++, of every node of every
function, about 18 kB each. Half of what tracing leaves are equal constants (axes, shapes, factors).
The runtime merges them too, but only in a later copy of its own.
"""

import pathlib

from tensorflow.core.framework import function_pb2, node_def_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow.python.saved_model import fingerprinting_utils

# Not stateful by their definitions, and yet each stands for itself.
_UNIQUE = {"Placeholder", "PlaceholderWithDefault", "NoOp"}


def thin_saved_model(folder) -> tuple[int, int]:
    """Merges equal nodes and drops unused ones in every function of a SavedModel, in place.

    Returns:
        How many nodes the functions had and have.
    """
    folder = pathlib.Path(folder)
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel()
    model.ParseFromString(path.read_bytes())
    functions = [f for graph in model.meta_graphs for f in graph.graph_def.library.function]
    before = sum(len(function.node_def) for function in functions)
    for function in functions:
        thin_function(function)
    part = path.with_suffix(".part")
    part.write_bytes(model.SerializeToString(deterministic=True))
    part.replace(path)
    fingerprinting_utils.write_fingerprint(str(folder))
    return before, sum(len(function.node_def) for function in functions)


def thin_function(function: function_pb2.FunctionDef) -> None:
    """Merges equal nodes of one function and drops those that nothing depends on, in place.

    Nodes are equal where operation, attributes and inputs, control inputs among them, are. Stateful
    ones (assertions, variables, draws of random numbers) all stay. What reads an Identity reads
    its source instead.
    """
    nodes = {node.name: node for node in function.node_def}
    stays: dict[str, str] = {}  # node -> the equal one that stays, itself where it is the first
    sources: dict[str, str] = {}  # Identity -> the tensor that it passes on
    first: dict[bytes, str] = {}
    for name in _in_order(nodes):
        node = nodes[name]
        node.input[:] = [_renamed(source, stays, sources) for source in node.input]
        stays[name] = name if _is_unique(node) else first.setdefault(_identity(node), name)
        if node.op == "Identity" and len(node.input) == 1:
            sources[name] = node.input[0]
    for output, source in function.ret.items():
        function.ret[output] = _renamed(source, stays, {})  # an argument itself is no output
    for output, name in function.control_ret.items():
        function.control_ret[output] = stays[name]
    ends = [*function.ret.values(), *function.control_ret.values()]
    ends += [node.name for node in function.node_def if _is_stateful(node)]
    wanted = _reached(nodes, ends)
    kept = [node for node in function.node_def if node.name in wanted]
    del function.node_def[:]
    function.node_def.extend(kept)


def _in_order(nodes) -> list[str]:
    """Names of the nodes, each after those that it depends on."""
    order: list[str] = []
    done: set[str] = set()
    for start in nodes:
        waiting = [start]
        while waiting:
            name = waiting[-1]
            sources = {_node(source) for source in nodes[name].input}
            missing = [source for source in sources if source in nodes and source not in done]
            if missing and name not in done:
                waiting += missing
                continue
            waiting.pop()
            if name not in done:
                done.add(name)
                order.append(name)
    return order


def _reached(nodes, ends) -> set[str]:
    """Names of the nodes that `ends` depend on, theirs among them."""
    waiting, reached = [_node(end) for end in ends], set()
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in reached:  # else an argument of the function
            reached.add(name)
            waiting += [_node(source) for source in nodes[name].input]
    return reached


def _is_stateful(node) -> bool:
    definition = op_def_registry.get(node.op)
    return definition is None or definition.is_stateful


def _is_unique(node) -> bool:
    return node.op in _UNIQUE or _is_stateful(node)


def _identity(node) -> bytes:
    """What two equal nodes have in common."""
    same = node_def_pb2.NodeDef(op=node.op, device=node.device, input=node.input)
    for name, value in node.attr.items():
        if not name.startswith("_"):  # notes for the runtime, such as shapes of outputs
            same.attr[name].CopyFrom(value)
    return same.SerializeToString(deterministic=True)


def _node(source: str) -> str:
    """The node of an input: `name`, `name:output:index` or `^name`."""
    return source.lstrip("^").split(":")[0]


def _renamed(source: str, stays: dict[str, str], sources: dict[str, str]) -> str:
    """An input of a node, with what took its source's place."""
    name = _node(source)
    if source.startswith("^"):
        return "^" + stays.get(name, name)
    return sources.get(name) or stays.get(name, name) + source[len(name) :]
