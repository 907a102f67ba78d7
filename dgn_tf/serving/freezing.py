"""Functions whose variables are constants: what an exported graph is made of.

Loading a graph and running it for the first time copies it several times, its constants too. An
exported model therefore keeps its large ones as variables, of which there is one copy: its process
takes 85 to 300 MB less (at the peak 200 to 460), with the same numbers. Nothing trains them. Where
oneDNN does the convolutions, constants would be a fifth faster; `inference_only` gives most of that
back.
"""

import functools

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from dgn_tf.conversion import graph_weights

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
    graph_weights.fold_batch_norms(graph_def)
    graph_weights.store_weights(graph_def, precision)
    graph_weights.prune(graph_def, [*inputs, *results])

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
