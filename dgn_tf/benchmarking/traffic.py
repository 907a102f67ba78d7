"""Bytes that a traced function has to move at the least: inputs, outputs and constants, once."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from dgn_tf.benchmarking.shapes import Shape, static_shape


def count_bytes(function, shape: Callable[[tf.Tensor], Shape] = static_shape) -> int:
    """Bytes of a graph's inputs, outputs and constants.

    What it computes in between may stay in the caches, so this is a lower bound of its traffic.
    Constants of called functions count where they stand in the caller's graph or in theirs, once.

    Args:
        function: a concrete function, traced with static shapes unless `shape` knows better.
        shape: of a tensor of its graph, see `shapes`.

    Raises:
        ValueError: a shape is not known; trace with a fixed batch size.
    """
    graph = function.graph
    ends = [*function.inputs, *(t for t in function.outputs if t is not None)]
    constants = sum(_bytes(op.outputs[0]) for op in graph.get_operations() if op.type == "Const")
    captured = {id(tensor) for tensor in graph.internal_captures}
    return constants + sum(_bytes(tensor, shape) for tensor in ends if id(tensor) not in captured)


def _bytes(tensor: tf.Tensor, shape=static_shape) -> int:
    return int(np.prod(shape(tensor), dtype=np.int64)) * tensor.dtype.size
