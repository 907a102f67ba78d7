"""Floating point operations of a traced function: those of its matrix products and convolutions."""

import numpy as np
import tensorflow as tf


def count_flops(function) -> int:
    """Counts a multiply-add as two, in all matrix products and convolutions of a graph.

    Element-wise operations are left out: the bound that this sets is that of the arithmetic units
    at their matrix product rate. So are loops, whose length may depend on the data (Extension
    without a GPU): the count is a lower bound.

    Args:
        function: a concrete function traced with static shapes.

    Raises:
        ValueError: a product's shape is not known; trace with a fixed batch size.
    """
    return _of_graph(function.graph)


def _of_graph(graph) -> int:
    return sum(_of_operation(op, graph) for op in graph.get_operations())


def _of_operation(op, graph) -> int:
    if op.type in ("Conv2D", "DepthwiseConv2dNative"):
        kernel = _shape(op.inputs[1])
        per_output = kernel[0] * kernel[1] * (kernel[2] if op.type == "Conv2D" else 1)
        return 2 * int(np.prod(_shape(op.outputs[0]))) * per_output
    if op.type in ("Conv2DBackpropInput", "Conv2DBackpropFilter"):
        # As many as forward: every product of a kernel entry and a pixel once.
        forward = _shape(op.inputs[2])
        kernel = _shape(op.outputs[0] if op.type.endswith("Filter") else op.inputs[1])
        return 2 * int(np.prod(forward)) * kernel[0] * kernel[1] * kernel[2]
    if op.type == "MatMul":
        inner = _shape(op.inputs[0])[0 if op.get_attr("transpose_a") else 1]
        return 2 * int(np.prod(_shape(op.outputs[0]))) * inner
    if op.type in ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"):
        inner = _shape(op.inputs[0])[-2 if op.get_attr("adj_x") else -1]
        return 2 * int(np.prod(_shape(op.outputs[0]))) * inner
    if op.type in ("PartitionedCall", "StatefulPartitionedCall"):
        called = graph._get_function(op.get_attr("f").name)  # no public way in
        return _of_graph(called.graph) if hasattr(called, "graph") else 0
    return 0


def _shape(tensor: tf.Tensor) -> list[int]:
    shape = tensor.shape.as_list()
    if None in shape:
        raise ValueError(f"{tensor.name} has shape {shape}: trace with a fixed batch size.")
    return shape
