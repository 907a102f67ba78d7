"""Speed of the network's forward pass against the machine's matrix product."""

import functools

import numpy as np
import tensorflow as tf

from dgn_tf.benchmarking import timing
from dgn_tf.benchmarking.machine import matrix_product
from dgn_tf.benchmarking.training import forward_flops
from dgn_tf.network_config import NETWORK_INPUTS


def measure_inference(network, batch, rounds: int, sizes=(1, 32)) -> dict:
    """The network's forward pass at several batch sizes, against the matrix product.

    Args:
        network: built `DualGridNet`.
        batch: crops, at least as many as the largest of `sizes`.

    Returns:
        {`batch_1`: {`ms_per_frame`, `share_of_matrix_rate`}, ...}.
    """
    run = tf.function(lambda inputs: network(inputs, training=False)["vertices"])
    multiply, multiply_flops = matrix_product()
    parts = {size: {name: batch[name][:size] for name in NETWORK_INPUTS} for size in sizes}
    jobs = {"product": multiply}
    for size in sizes:
        times = max(1, 32 // size)
        jobs[f"batch_{size}"] = timing.repeated(functools.partial(_fetch, run, parts[size]), times)
    seconds = timing.alternate(jobs, rounds)
    result = {}
    for size in sizes:
        frames = size * max(1, 32 // size)
        taken = seconds[f"batch_{size}"]
        flops = forward_flops(network, parts[size]) / size
        rates = frames * flops / taken / (multiply_flops / seconds["product"])
        result[f"batch_{size}"] = {
            "ms_per_frame": 1e3 * np.median(taken) / frames,
            "share_of_matrix_rate": float(np.median(rates)),
        }
    return result


def _fetch(run, inputs):
    """Waits for the result, as a caller would."""
    return run(inputs).numpy()
