"""Nodes that are there twice go, and nothing else changes."""

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.serving.thinning import thin_function, thin_saved_model


def _saved(function, spec, folder):
    module = tf.Module()
    module.kept = tf.Variable([3.0, 4.0])
    module.call = tf.function(lambda x: function(module, x), input_signature=[spec])
    tf.saved_model.save(module, str(folder), {"serving_default": module.call})
    return folder


def _nodes(folder):
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    model.ParseFromString((folder / "saved_model.pb").read_bytes())
    functions = model.meta_graphs[0].graph_def.library.function
    return [node.op for function in functions for node in function.node_def]


def test_equal_nodes_merge_and_the_outputs_keep_every_bit(tmp_path):
    def twice(module, x):
        left = tf.reduce_sum(tf.identity(x) * 2.5, axis=1) + module.kept[0]
        right = tf.reduce_sum(x * 2.5, axis=1) + module.kept[1]
        other = tf.reduce_sum(x * 2.5, axis=0)  # another axis: another sum
        return {"sum": left + right, "other": other, "same": x}

    folder = _saved(twice, tf.TensorSpec([None, 2]), tmp_path / "model")
    given = tf.constant(np.random.default_rng(3).normal(size=[5, 2]), tf.float32)
    wanted = tf.saved_model.load(str(folder)).signatures["serving_default"](given)
    assert _nodes(folder).count("Sum") == 3 and _nodes(folder).count("Mul") == 3
    before, after = thin_saved_model(folder)
    assert after < before
    assert _nodes(folder).count("Sum") == 2 and _nodes(folder).count("Mul") == 1
    got = tf.saved_model.load(str(folder)).signatures["serving_default"](given)
    for name, value in wanted.items():
        np.testing.assert_array_equal(got[name], value)
    assert thin_saved_model(folder) == (after, after), "a second time finds nothing"


def test_draws_of_random_numbers_stay_apart(tmp_path):
    def draws(_, x):
        return {"difference": tf.random.uniform([100]) - tf.random.uniform([100]) + 0 * x}

    folder = _saved(draws, tf.TensorSpec([]), tmp_path / "model")
    thin_saved_model(folder)
    got = tf.saved_model.load(str(folder)).signatures["serving_default"](tf.constant(1.0))
    assert np.abs(got["difference"]).min() > 0


def test_assertions_that_nothing_reads_still_stop_a_run(tmp_path):
    def checked(_, x):
        tf.debugging.assert_greater(x, 0.0, message="too small")
        tf.debugging.assert_less(x, 9.0, message="too large")
        return {"x": tf.sqrt(x)}

    folder = _saved(checked, tf.TensorSpec([]), tmp_path / "model")
    thin_saved_model(folder)
    call = tf.saved_model.load(str(folder)).signatures["serving_default"]
    np.testing.assert_allclose(call(tf.constant(4.0))["x"], 2.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="too small"):
        call(tf.constant(-1.0))
    with pytest.raises(tf.errors.InvalidArgumentError, match="too large"):
        call(tf.constant(10.0))


def test_changes_of_a_variable_keep_their_order(tmp_path):
    """Equal reads before and after an assignment are different values."""

    def steps(module, x):
        before = module.kept.read_value()
        module.kept.assign_add([x, x])
        after = module.kept.read_value()
        module.kept.assign_add([x, x])
        return {"before": before, "after": after, "last": module.kept.read_value()}

    folder = _saved(steps, tf.TensorSpec([]), tmp_path / "model")
    thin_saved_model(folder)
    got = tf.saved_model.load(str(folder)).signatures["serving_default"](tf.constant(1.0))
    for name, wanted in {"before": [3, 4], "after": [4, 5], "last": [5, 6]}.items():
        np.testing.assert_array_equal(got[name], wanted)


def test_nodes_that_nothing_depends_on_go():
    @tf.function(input_signature=[tf.TensorSpec([])])
    def unused(x):
        tf.exp(x)
        return tf.sqrt(x)

    function = unused.get_concrete_function().function_def
    assert "Exp" in {node.op for node in function.node_def}
    thin_function(function)
    assert {node.op for node in function.node_def} == {"Sqrt", "Identity"}
