"""Functions whose variables are constants: what an exported graph is made of.

Loading a graph and running it for the first time copies it several times, its constants too. An
exported model therefore keeps its large ones as variables, of which there is one copy: its process
takes 85 to 300 MB less (at the peak 200 to 460), with the same numbers. Nothing trains them. Where
oneDNN does the convolutions, constants would be a fifth faster; `inference_only` gives most of that
back.
"""

import functools

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

_LARGE_BYTES = 16 * 1024  # of a constant that is worth being a variable

graph_function = functools.partial(tf.function, autograph=False)  # no Python control flow there


def frozen(function, specs: dict, outputs, precision: str = "fp32", large: list | None = None):
    """`function` with its variables turned into constants, and without its custom gradients.

    The runtime can then fuse and precompute (5 to 10 % less time for one frame on a CPU). Batch
    norms are folded. Gradients can't be saved, and a loader would warn of each that is missing.

    Args:
        function: of keyword arguments named as `specs`, to a dict with the keys `outputs`.
        specs: name -> tf.TensorSpec of that name.
        outputs: names of what it returns.
        precision: how the weights are stored, see `graph_weights.store_weights`.
        large: where given, float32 constants of `_LARGE_BYTES` and more become variables, which are
            appended; whoever saves the function has to own them. Weights that are stored in fewer
            bits stay constants: those are turned into float32 once, at load.

    Returns:
        A concrete function of the same keyword arguments and outputs.
    """
    concrete = graph_function(function).get_concrete_function(**specs)
    constant = convert_variables_to_constants_v2(concrete, lower_control_flow=False)
    graph_def = constant.graph.as_graph_def()
    for nodes in (graph_def.node, *(f.node_def for f in graph_def.library.function)):
        for node in nodes:
            node.attr.pop("_gradient_op_type", None)
    for call in graph_def.library.function:
        call.attr.pop("_GrapplerSpecializedFunc", None)  # Grappler's mark; loading refuses it
    names = sorted(specs)  # the order in which tf.function flattened the dict
    inputs = [tensor.name.split(":")[0] for tensor in constant.inputs]
    results = [tensor.name for tensor in constant.outputs]
    fold_batch_norms(graph_def)
    store_weights(graph_def, precision)
    prune(graph_def, [*inputs, *results])

    variables = {} if large is None else _take_large(graph_def)
    if large is not None:
        large += variables.values()

    def imported(**given):
        feeds = {node: given[name] for node, name in zip(inputs, names, strict=True)}
        feeds |= {node: variable.read_value() for node, variable in variables.items()}
        values = tf.graph_util.import_graph_def(graph_def, feeds, results, name="")
        return dict(zip(sorted(outputs), values, strict=True))

    return graph_function(imported).get_concrete_function(**specs)


def _take_large(graph_def) -> dict[str, tf.Variable]:
    """Makes placeholders of a GraphDef's large float32 constants; node -> variable of its value."""
    variables = {}
    for node in graph_def.node:
        if node.op != "Const" or node.attr["dtype"].type != tf.float32.as_datatype_enum:
            continue
        value = tf.make_ndarray(node.attr["value"].tensor)
        if value.nbytes < _LARGE_BYTES:
            continue
        variables[node.name] = tf.Variable(value, trainable=False, name=node.name.split("/")[-1])
        placeholder = tf.compat.v1.NodeDef(name=node.name, op="Placeholder")
        placeholder.attr["dtype"].CopyFrom(node.attr["dtype"])
        placeholder.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
        node.CopyFrom(placeholder)
    return variables


# Rewrites the weights in a frozen graph: batch norm folded in, stored in half or in 8 bits.
#
# All functions take and change a GraphDef whose variables are constants.


PRECISIONS = ("fp32", "fp16", "int8")
# The networks' weights; other constants belong to the template, and to the similarity fit.
_WEIGHTED = {"Conv2D": 1, "MatMul": 1}
_SMALLEST = 1024  # values; what is smaller saves nothing
# TensorFlow computes constants once, at load, as long as they stay below 100 KiB or don't grow.
_PIECE_BYTES = 96 * 1024


def fold_batch_norms(graph_def) -> int:
    """Folds each inference batch norm into the convolution before it.

    y = gamma (W x - mean) / sqrt(var + eps) + beta is a convolution with W gamma / sqrt(var + eps)
    and a bias. Convolutions whose output goes elsewhere too are left.

    Returns:
        How many were folded.
    """
    nodes = {node.name: node for node in graph_def.node}
    uses = _uses(graph_def)
    folded = 0
    for norm in list(graph_def.node):
        if norm.op != "FusedBatchNormV3" or norm.attr["is_training"].b:
            continue
        conv = nodes[_name(norm.input[0])]
        if conv.op != "Conv2D" or uses[conv.name] != {norm.name}:
            continue
        values = [_value(nodes, name) for name in norm.input[1:5]]
        kernel = _value(nodes, conv.input[1])
        if kernel is None or any(value is None for value in values):
            continue
        gamma, beta, mean, variance = (value.astype(np.float64) for value in values)
        scale = gamma / np.sqrt(variance + norm.attr["epsilon"].f)
        kernel_name, bias_name = norm.name + "/folded_kernel", norm.name + "/folded_bias"
        _add_constant(graph_def, kernel_name, (kernel * scale).astype(np.float32))
        _add_constant(graph_def, bias_name, (beta - mean * scale).astype(np.float32))
        conv.input[1] = kernel_name
        bias = tf.compat.v1.NodeDef(name=norm.name, op="BiasAdd", input=[conv.name, bias_name])
        bias.attr["T"].CopyFrom(norm.attr["T"])
        bias.attr["data_format"].CopyFrom(norm.attr["data_format"])
        norm.CopyFrom(bias)
        folded += 1
    return folded


def store_weights(graph_def, precision: str) -> int:
    """Stores the networks' kernels in fewer bits; the graph turns them into float32.

    `fp16` rounds to half. `int8` is symmetric with one scale for each output channel. What is
    computed stays float32, so only the file shrinks; activations are not rounded.

    Returns:
        How many kernels were stored so.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision wants one of {', '.join(PRECISIONS)}, got {precision!r}.")
    if precision == "fp32":
        return 0
    nodes = {node.name: node for node in graph_def.node}
    kernels = {}
    for node in graph_def.node:
        if node.op not in _WEIGHTED:
            continue
        name = node.input[_WEIGHTED[node.op]]
        kernel = _value(nodes, name)
        if kernel is not None and kernel.size >= _SMALLEST and _is_weight(nodes, name):
            kernels[_constant(nodes, name).name] = kernel
    for name, kernel in kernels.items():
        nodes[name].name = name + "/float32"  # pruned: nothing asks for it any longer
        _add_stored(graph_def, name, kernel, precision)
    return len(kernels)


def prune(graph_def, ends) -> None:
    """Removes the nodes that none of `ends` (names of nodes or tensors) depends on.

    Control inputs go too: in a frozen graph of pure ops nothing has to wait, and they would keep
    the float32 weights.
    """
    for node in graph_def.node:
        node.input[:] = [source for source in node.input if not source.startswith("^")]
    nodes = {node.name: node for node in graph_def.node}
    wanted, reached = [_name(end) for end in ends], set()
    while wanted:
        name = wanted.pop()
        if name not in reached:
            reached.add(name)
            wanted += [_name(source) for source in nodes[name].input]
    kept = [node for node in graph_def.node if node.name in reached]
    del graph_def.node[:]
    graph_def.node.extend(kept)


def _add_stored(graph_def, name, kernel, precision):
    """`kernel` as pieces along its last axis, each small enough to be computed once at load."""
    columns = max(1, _PIECE_BYTES * kernel.shape[-1] // kernel.nbytes)
    parts = np.split(kernel, range(columns, kernel.shape[-1], columns), axis=-1)
    names = [f"{name}/part_{i}" if len(parts) > 1 else name for i in range(len(parts))]
    for part, part_name in zip(parts, names, strict=True):
        if precision == "fp16":
            _add_constant(graph_def, part_name + "/half", part.astype(np.float16))
            _add_cast(graph_def, part_name, part_name + "/half", tf.float16)
            continue
        largest = np.abs(part).max(axis=tuple(range(part.ndim - 1)))
        scale = np.maximum(largest, 1e-12).astype(np.float32) / np.float32(127)
        rounded = np.clip(np.round(part / scale), -127, 127).astype(np.int8)
        _add_constant(graph_def, part_name + "/int8", rounded)
        _add_constant(graph_def, part_name + "/scale", scale)
        _add_cast(graph_def, part_name + "/whole", part_name + "/int8", tf.int8)
        scaled = graph_def.node.add(
            name=part_name, op="Mul", input=[part_name + "/whole", part_name + "/scale"]
        )
        scaled.attr["T"].type = tf.float32.as_datatype_enum
    if len(parts) > 1:
        _add_constant(graph_def, name + "/axis", np.int32(kernel.ndim - 1))
        joined = graph_def.node.add(name=name, op="ConcatV2", input=[*names, name + "/axis"])
        joined.attr["T"].type = tf.float32.as_datatype_enum
        joined.attr["Tidx"].type = tf.int32.as_datatype_enum
        joined.attr["N"].i = len(parts)


def _add_constant(graph_def, name, value):
    node = graph_def.node.add(name=name, op="Const")
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def _add_cast(graph_def, name, source, source_type):
    node = graph_def.node.add(name=name, op="Cast", input=[source])
    node.attr["SrcT"].type = source_type.as_datatype_enum
    node.attr["DstT"].type = tf.float32.as_datatype_enum


def _name(tensor):
    return tensor.lstrip("^").split(":")[0]


def _uses(graph_def) -> dict[str, set[str]]:
    """Names of the nodes that use each node."""
    uses: dict[str, set[str]] = {node.name: set() for node in graph_def.node}
    for node in graph_def.node:
        for source in node.input:
            uses[_name(source)].add(node.name)
    return uses


def _constant(nodes, name):
    """The Const behind `name`, through Identity nodes; None where there is none."""
    node = nodes[_name(name)]
    while node.op == "Identity":
        node = nodes[_name(node.input[0])]
    return node if node.op == "Const" else None


def _value(nodes, name):
    node = _constant(nodes, name)
    return None if node is None else tf.make_ndarray(node.attr["value"].tensor)


def _is_weight(nodes, name):
    """Whether a kernel was a variable: those are read through an Identity, or were folded."""
    return nodes[_name(name)].op == "Identity" or name.endswith("/folded_kernel")
