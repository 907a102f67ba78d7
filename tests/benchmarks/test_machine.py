"""Bounds on known rates, and bytes by hand."""

import numpy as np
import tensorflow as tf

from benchmarks import machine
from benchmarks.flops import count_bytes

RATES = {"flops": np.array([1e9, 2e9, 1e9]), "bytes": np.array([1e8, 1e8, 2e8])}


def test_the_bound_is_the_slower_of_products_and_memory_in_each_round():
    bound = machine.Bound(flops=1e9, bytes=8e7)
    np.testing.assert_allclose(bound.seconds(RATES), [1.0, 0.8, 1.0])


def test_figures_are_of_one_frame():
    figures = machine.bound_figures(machine.Bound(1e9, 1e7), np.full(3, 4.0), RATES, count=4)
    assert figures == {
        "gflop": 0.25,
        "mbytes": 2.5,
        "bound_ms": 250.0,
        "bound_by": "matrix product",
        "share_of_bound": 0.25,
    }
    assert machine.bound_figures(machine.Bound(0, 1e8), np.ones(3), RATES)["bound_by"] == "memory"


def test_probes_measure_what_they_move(monkeypatch):
    monkeypatch.setattr(machine, "MATRIX_SIZE", 64)
    monkeypatch.setattr(machine, "SWEEP_BYTES", 4096)
    probes = machine.Probes()
    assert set(probes.jobs) == {"matrix_product", "memory_sweep"}
    first, second = (probes.jobs["memory_sweep"]() for _ in range(2))
    assert second > first > 0  # the sweep really adds
    rates = probes.rates({"matrix_product": np.full(2, 0.5), "memory_sweep": np.full(2, 2.0)})
    np.testing.assert_allclose(rates["flops"], 2 * 64**3 / 0.5)
    np.testing.assert_allclose(rates["bytes"], 3 * 4096 / 2.0)  # two read, one written


def test_bytes_are_inputs_outputs_and_constants():
    weights = np.ones([5, 7], np.float32)

    @tf.function
    def function(x):
        return tf.nn.relu(x @ weights)

    traced = function.get_concrete_function(tf.TensorSpec([3, 5], tf.float32))
    assert count_bytes(traced) == 4 * (3 * 5 + 5 * 7 + 3 * 7)
