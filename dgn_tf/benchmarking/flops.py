"""Floating point operations of a traced function: those of its matrix products and convolutions."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from dgn_tf.benchmarking.shapes import Shape, static_shape

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


def count_flops(function, shape: Callable[[tf.Tensor], Shape] = static_shape) -> int:
    """Counts a multiply-add as two, in all matrix products and convolutions of a graph.

    Element-wise operations are left out: the bound that this sets is that of the arithmetic units
    at their matrix product rate. So are loops, whose length may depend on the data (Extension
    without a GPU): the count is a lower bound.

    Args:
        function: a concrete function, traced with static shapes unless `shape` knows better.
        shape: of a tensor of its graph, see `shapes`.

    Raises:
        ValueError: a product's shape is not known; trace with a fixed batch size.
    """
    return _of_graph(function.graph, shape)


def product_tensors(graph) -> list[tf.Tensor]:
    """The tensors of a graph whose shapes `count_flops` asks for."""
    products = [op for op in graph.get_operations() if op.type in _PRODUCTS]
    return [tensor for op in products for tensor in (*op.inputs, *op.outputs)]


def _of_graph(graph, shape) -> int:
    return sum(_of_operation(op, graph, shape) for op in graph.get_operations())


def _of_operation(op, graph, shape) -> int:
    if op.type in ("PartitionedCall", "StatefulPartitionedCall"):
        called = graph._get_function(op.get_attr("f").name)  # no public way in
        return _of_graph(called.graph, static_shape) if hasattr(called, "graph") else 0
    if op.type not in _PRODUCTS:
        return 0
    if op.type in ("Conv2D", "DepthwiseConv2dNative"):
        kernel = shape(op.inputs[1])
        per_output = kernel[0] * kernel[1] * (kernel[2] if op.type == "Conv2D" else 1)
        return 2 * int(np.prod(shape(op.outputs[0]))) * per_output
    if op.type.startswith("Conv2DBackprop"):
        # As many as forward: every product of a kernel entry and a pixel once.
        forward = shape(op.inputs[2])
        kernel = shape(op.outputs[0] if op.type.endswith("Filter") else op.inputs[1])
        return 2 * int(np.prod(forward)) * kernel[0] * kernel[1] * kernel[2]
    if op.type == "MatMul":
        inner = shape(op.inputs[0])[0 if op.get_attr("transpose_a") else 1]
    else:
        inner = shape(op.inputs[0])[-2 if op.get_attr("adj_x") else -1]
    return 2 * int(np.prod(shape(op.outputs[0]))) * inner
