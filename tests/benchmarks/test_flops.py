"""Counts of operations, by hand and for forward against backward."""

import pytest
import tensorflow as tf

from benchmarks.flops import count_flops


def count(function, *shapes):
    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    return count_flops(tf.function(function).get_concrete_function(*specs))


def test_products_by_hand():
    assert count(tf.matmul, [3, 5], [5, 7]) == 2 * 3 * 5 * 7
    assert count(lambda a, b: tf.matmul(a, b, transpose_a=True), [5, 3], [5, 7]) == 2 * 3 * 5 * 7
    assert count(tf.matmul, [4, 3, 5], [4, 5, 7]) == 4 * 2 * 3 * 5 * 7
    assert count(lambda a, b: a + b, [4, 4], [4, 4]) == 0


def test_convolution_by_hand_with_stride():
    found = count(lambda x, k: tf.nn.conv2d(x, k, 2, "SAME"), [2, 8, 8, 3], [3, 3, 3, 10])
    assert found == 2 * (2 * 4 * 4 * 10) * (3 * 3 * 3)


def test_functions_inside_are_counted():
    inner = tf.function(lambda a, b: tf.matmul(a, b))
    assert count(lambda a, b: inner(a, b) + inner(a, a), [4, 4], [4, 4]) == 2 * 2 * 64


@pytest.mark.parametrize(
    "operation, shapes",
    [
        (tf.matmul, ([3, 5], [5, 7])),
        (lambda x, k: tf.nn.conv2d(x, k, 2, "SAME"), ([2, 8, 8, 3], [3, 3, 3, 10])),
    ],
)
def test_backward_costs_twice_the_forward(operation, shapes):
    def both(a, b):
        with tf.GradientTape() as tape:
            tape.watch([a, b])
            output = operation(a, b)
        return output, tape.gradient(output, [a, b])

    assert count(both, *shapes) == 3 * count(operation, *shapes)


def test_an_unknown_batch_size_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="fixed batch size"):
        count(tf.matmul, [None, 5], [5, 7])
