"""The least that a traced function has to do: its products' operations, its ends' bytes."""

import numpy as np

_PRODUCTS = {
    "Conv2D",
    "DepthwiseConv2dNative",
    "Conv2DBackpropInput",
    "Conv2DBackpropFilter",
    "MatMul",
    "BatchMatMul",
    "BatchMatMulV2",
    "BatchMatMulV3",
}


def count_flops(function) -> int:
    """Counts a multiply-add as two, in all matrix products and convolutions of a graph.

    Element-wise operations are left out: the bound that this sets is that of the arithmetic units
    at their matrix product rate. So are loops, whose length may depend on the data (Extension
    without a GPU): the count is a lower bound.

    Args:
        function: a concrete function, traced with static shapes.

    Raises:
        ValueError: a product's shape is not known; trace with a fixed batch size.
    """
    return _of_graph(function.graph)


def count_bytes(function) -> int:
    """Bytes of a graph's inputs, outputs and constants: a lower bound of its traffic.

    What it computes in between may stay in the caches. Constants of called functions count where
    they stand in the caller's graph or in theirs, once.

    Args:
        function: a concrete function, traced with static shapes.

    Raises:
        ValueError: a shape is not known; trace with a fixed batch size.
    """
    graph = function.graph
    ends = [*function.inputs, *(t for t in function.outputs if t is not None)]
    constants = sum(_bytes(op.outputs[0]) for op in graph.get_operations() if op.type == "Const")
    captured = {id(tensor) for tensor in graph.internal_captures}
    return constants + sum(_bytes(tensor) for tensor in ends if id(tensor) not in captured)


def _bytes(tensor) -> int:
    return int(np.prod(_shape(tensor), dtype=np.int64)) * tensor.dtype.size


def _shape(tensor) -> tuple[int, ...]:
    if not tensor.shape.is_fully_defined():
        raise ValueError(f"{tensor.name} has shape {tensor.shape}: trace with a fixed batch size.")
    return tuple(tensor.shape)


def _of_graph(graph) -> int:
    return sum(_of_operation(op, graph) for op in graph.get_operations())


def _of_operation(op, graph) -> int:
    if op.type in ("PartitionedCall", "StatefulPartitionedCall"):
        called = graph._get_function(op.get_attr("f").name)  # no public way in
        return _of_graph(called.graph) if hasattr(called, "graph") else 0
    if op.type not in _PRODUCTS:
        return 0
    if op.type in ("Conv2D", "DepthwiseConv2dNative"):
        kernel = _shape(op.inputs[1])
        per_output = kernel[0] * kernel[1] * (kernel[2] if op.type == "Conv2D" else 1)
        return 2 * int(np.prod(_shape(op.outputs[0]))) * per_output
    if op.type.startswith("Conv2DBackprop"):
        # As many as forward: every product of a kernel entry and a pixel once.
        forward = _shape(op.inputs[2])
        kernel = _shape(op.outputs[0] if op.type.endswith("Filter") else op.inputs[1])
        return 2 * int(np.prod(forward)) * kernel[0] * kernel[1] * kernel[2]
    if op.type == "MatMul":
        inner = _shape(op.inputs[0])[0 if op.get_attr("transpose_a") else 1]
    else:
        inner = _shape(op.inputs[0])[-2 if op.get_attr("adj_x") else -1]
    return 2 * int(np.prod(_shape(op.outputs[0]))) * inner
