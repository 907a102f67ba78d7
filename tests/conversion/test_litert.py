import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.conversion import litert
from dgn_tf.serving.saving import example_crops
from tests.exported_model import SIZE, network


@pytest.fixture(scope="module")
def float_file():
    return litert.convert(network(), "fp32")


def vertices(content, inputs):
    return litert.runner(content, threads=1)(**inputs)["vertices"]


def test_the_file_holds_built_in_ops_and_says_what_the_network_says(float_file):
    assert litert.custom_ops(float_file) == []
    inputs = example_crops(SIZE, batch_size=1, seed=5)
    expected = network()({name: tf.constant(value) for name, value in inputs.items()})
    outputs = litert.runner(float_file, threads=1)(**inputs)
    assert set(outputs) == set(litert.OUTPUTS)
    for name in outputs:
        np.testing.assert_allclose(outputs[name], expected[name], atol=0.01)


@pytest.mark.parametrize(("precision", "error_mm"), [("fp16", 0.5), ("int8", 5.0)])
def test_small_kernels_give_a_smaller_file_that_says_nearly_the_same(
    float_file, precision, error_mm
):
    small = litert.store_kernels(float_file, precision)
    assert len(small) < len(float_file)
    assert litert.custom_ops(small) == []
    inputs = example_crops(SIZE, batch_size=1, seed=5)
    expected, actual = vertices(float_file, inputs), vertices(small, inputs)
    assert np.abs(actual - expected).mean() < error_mm
    assert not np.array_equal(actual, expected)
