"""Products in bfloat16 while it is on, in float32 where it is switched off."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.training import schedule


def _has_instructions():
    cpus = pathlib.Path("/proc/cpuinfo")
    flags = cpus.read_text().split() if cpus.is_file() else []
    return "avx512_bf16" in flags or "amx_bf16" in flags


@pytest.fixture
def _off_afterwards():
    yield
    schedule._switch(False)


def _layer(seed=4):
    rng = np.random.default_rng(seed)
    kernel, bias = rng.normal(size=[64, 64]), rng.normal(size=64)
    given = rng.normal(size=[32, 64])

    @tf.function(autograph=False)
    def call(x):
        hidden = tf.nn.relu(tf.matmul(x, tf.constant(kernel, tf.float32)) + tf.cast(bias, x.dtype))
        return tf.matmul(hidden, tf.constant(kernel.T, tf.float32))

    exact = np.maximum(given @ kernel + bias, 0) @ kernel.T
    return call, tf.constant(given, tf.float32), exact


def _error(call, given, exact):
    return np.abs(call(given).numpy() - exact).max() / np.abs(exact).max()


@pytest.mark.skipif(not _has_instructions(), reason="the processor has no bfloat16")
@pytest.mark.usefixtures("_off_afterwards")
def test_rounded_while_on_and_float32_where_switched_off():
    call, given, exact = _layer()
    assert _error(call, given, exact) < 1e-5
    schedule.switch_on()
    assert 2**-12 < _error(call, given, exact) < 2**-5  # a product of 8 bits of precision
    assert call(given).dtype == tf.float32
    with schedule.switched_off():
        assert _error(call, given, exact) < 1e-5
    assert _error(call, given, exact) > 2**-12, "on again"


@pytest.mark.usefixtures("_off_afterwards")
def test_switched_off_leaves_what_was():
    call, given, exact = _layer()
    with schedule.switched_off():
        pass
    assert _error(call, given, exact) < 1e-5, "it was off before"


@pytest.mark.usefixtures("_off_afterwards")
def test_an_error_inside_switches_it_on_again():
    schedule.switch_on()
    with pytest.raises(ValueError, match="inside"), schedule.switched_off():
        raise ValueError("inside")
    assert tf.config.optimizer.get_experimental_options()[schedule._OPTION]
