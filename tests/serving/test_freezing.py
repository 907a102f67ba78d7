"""Frozen functions with their large constants kept as variables."""

import numpy as np
import tensorflow as tf

from dgn_tf.serving import freezing
from dgn_tf.serving.allow_list import read_saved_model
from tests.exported_model import exported_model

SPECS = {"x": tf.TensorSpec([None, 128], tf.float32, name="x")}
WEIGHTS = tf.random.stateless_normal([128, 64], [1, 0])  # 32 KiB
SMALL = tf.random.stateless_normal([64], [2, 0])


def function(x):
    return {"y": x @ WEIGHTS + SMALL}


def large_constants(nodes):
    values = [tf.make_ndarray(node.attr["value"].tensor) for node in nodes if node.op == "Const"]
    return [
        value
        for value in values
        if value.dtype == np.float32 and value.nbytes >= freezing._LARGE_BYTES
    ]


def test_large_constants_become_variables_and_the_result_stays_the_same():
    large: list = []
    constant = freezing.frozen(function, SPECS, ["y"])
    variable = freezing.frozen(function, SPECS, ["y"], large=large)
    assert [value.shape for value in large] == [[128, 64]] and not large[0].trainable
    assert len(large_constants(constant.graph.as_graph_def().node)) == 1
    assert large_constants(variable.graph.as_graph_def().node) == []
    x = tf.random.stateless_normal([3, 128], [3, 0])
    np.testing.assert_array_equal(constant(x=x)["y"], variable(x=x)["y"])


def test_weights_in_fewer_bits_stay_constants():
    kernel = tf.Variable(WEIGHTS)  # what was a variable is a weight
    large: list = []
    freezing.frozen(lambda x: {"y": x @ kernel}, SPECS, ["y"], "int8", large)
    assert large == []


def test_an_exported_models_graph_holds_no_large_constant():
    (graph,) = read_saved_model(exported_model() / "1").meta_graphs
    functions = graph.graph_def.library.function
    nodes = [*graph.graph_def.node, *(node for f in functions for node in f.node_def)]
    assert large_constants(nodes) == []
    variables = exported_model() / "1" / "variables" / "variables.data-00000-of-00001"
    assert variables.stat().st_size > freezing._LARGE_BYTES
