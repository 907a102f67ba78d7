"""Shapes of the tensors of a traced function: those that tracing knew, or those of one run."""

from collections.abc import Callable

import tensorflow as tf

Shape = list[int]


def static_shape(tensor: tf.Tensor) -> Shape:
    """The shape that tracing found.

    Raises:
        ValueError: it did not find one.
    """
    shape = _listed(tensor)
    if None in shape:
        raise ValueError(f"{tensor.name} has shape {shape}: trace with a fixed batch size.")
    return shape


def shapes_of_a_run(function, tensors, arguments) -> Callable[[tf.Tensor], Shape]:
    """Shapes as they are where `function` is called with `arguments`.

    A SavedModel's graph leaves the batch open, and shapes that are computed can't be told from it.

    Args:
        function: of `convert_variables_to_constants_v2`: a concrete function that can be pruned.
        tensors: of its own graph, of which those without a static shape are looked at.
        arguments: one for each of `function.inputs`, in that order.

    Returns:
        tensor -> shape, of `tensors` and of all that have a static shape.
    """
    open_ones = {tensor.name: tensor for tensor in tensors if None in _listed(tensor)}
    with function.graph.as_default():
        asked = [tf.shape(tensor) for tensor in open_ones.values()]
    found = function.prune(function.inputs, asked)(*arguments) if asked else []
    known = {name: values.numpy().tolist() for name, values in zip(open_ones, found, strict=True)}
    return lambda tensor: known.get(tensor.name) or static_shape(tensor)


def _listed(tensor) -> list:
    return tensor.shape.as_list() if tensor.shape.rank is not None else [None]
