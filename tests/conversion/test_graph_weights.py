import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from dgn_tf.layers import Hourglass
from dgn_tf.serving import freezing


@pytest.fixture(scope="module")
def frozen():
    """An hourglass with batch norms of random statistics: graph, input, outputs, GraphDef."""
    tf.keras.utils.set_random_seed(3)
    layer = Hourglass((32, 16), norm="batch")
    image = tf.random.normal([2, 8, 8, 5])
    layer(image)
    for weight in layer.weights:
        shift = 0.5 if "variance" in weight.name or "gamma" in weight.name else 0.0
        weight.assign(tf.random.uniform(weight.shape, -0.3, 0.3) + shift)
    function = tf.function(lambda x: layer(x, training=False), autograph=False)
    constant = convert_variables_to_constants_v2(function.get_concrete_function(image))
    return constant, image, layer(image, training=False).numpy()


def run(constant, graph_def, image):
    names = [constant.inputs[0].name, constant.outputs[0].name]
    freezing.prune(graph_def, names)
    pruned = tf.compat.v1.wrap_function(
        lambda x: tf.graph_util.import_graph_def(graph_def, {names[0]: x}, [names[1]], name="")[0],
        [tf.TensorSpec(image.shape, tf.float32)],
    )
    return pruned(image).numpy()


def test_folded_batch_norms_leave_the_result(frozen):
    constant, image, expected = frozen
    graph_def = constant.graph.as_graph_def()
    norms = sum(node.op == "FusedBatchNormV3" for node in graph_def.node)
    assert freezing.fold_batch_norms(graph_def) == norms > 5
    actual = run(constant, graph_def, image)
    assert not {"FusedBatchNormV3"} & {node.op for node in graph_def.node}
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("precision", "error", "bytes_a_weight"), [("fp16", 2e-3, 2), ("int8", 4e-2, 1)]
)
def test_stored_weights_are_small_and_close(frozen, precision, error, bytes_a_weight):
    constant, image, expected = frozen
    graph_def = constant.graph.as_graph_def()
    freezing.fold_batch_norms(graph_def)
    count = freezing.store_weights(graph_def, precision)
    actual = run(constant, graph_def, image)
    assert np.abs(actual - expected).max() < error * np.abs(expected).max()
    assert not np.array_equal(actual, expected)
    large = sum(
        np.prod([d.size for d in node.attr["value"].tensor.tensor_shape.dim])
        for node in graph_def.node
        if node.op == "Const"
        and node.attr["dtype"].type in (tf.float16.as_datatype_enum, tf.int8.as_datatype_enum)
    )
    assert count > 5 and large > 20000
    assert graph_def.ByteSize() < large * bytes_a_weight + 40000


def test_int8_keeps_each_output_channel_within_half_a_step():
    kernel = np.random.default_rng(0).normal(size=[3, 3, 64, 128]).astype(np.float32)
    kernel *= np.logspace(-4, 2, 128).astype(np.float32)
    graph_def = tf.compat.v1.GraphDef()
    freezing._add_stored(graph_def, "kernel", kernel, "int8")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        (tensor,) = tf.graph_util.import_graph_def(graph_def, return_elements=["kernel:0"], name="")
        stored = session.run(tensor)
    step = np.abs(kernel).max(axis=(0, 1, 2)) / 127
    assert np.all(np.abs(stored - kernel) <= 0.5001 * step)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="fp32, fp16, int8, got 'fp8'"):
        freezing.store_weights(tf.compat.v1.GraphDef(), "fp8")
