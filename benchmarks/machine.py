"""What the machine can do: the rate of a matrix product and the bandwidth of its memory.

Both are jobs to be timed in alternation with what they bound.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

MATRIX_SIZE = 2048
SWEEP_BYTES = 256 * 2**20  # of each of two arrays: beyond the caches of any processor


class Probe(NamedTuple):
    """A job and how much it does: operations, or bytes that it moves."""

    job: Callable[[], object]
    amount: int


def describe() -> dict:
    """What the figures depend on most, JSON-able."""
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    return {
        "tensorflow": tf.__version__,
        "processors": len(os.sched_getaffinity(0)),
        "threads": threads or int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0)) or "all",
        "accelerators": len(tf.config.list_physical_devices("GPU")),
        "cards": [_card(device) for device in tf.config.list_physical_devices("GPU")],
        "load": os.getloadavg()[0],
    }


def _card(device) -> str:
    details = tf.config.experimental.get_device_details(device)
    return str(details.get("device_name", device.name))


def matrix_product() -> Probe:
    """Multiplies two float32 matrices of `MATRIX_SIZE`; amount: operations."""
    left, right = (tf.random.stateless_normal([MATRIX_SIZE] * 2, [seed, 0]) for seed in (1, 2))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(left, right)))
    return Probe(lambda: product().numpy(), 2 * MATRIX_SIZE**3)


def memory_sweep() -> Probe:
    """Adds one array to another in place, as STREAM's sum; amount: bytes read and written."""
    shape = [SWEEP_BYTES // 4]
    total = tf.Variable(tf.zeros(shape))
    step = tf.fill(shape, np.float32(1e-6))

    @tf.function
    def sweep():
        total.assign_add(step)
        return total[0]

    return Probe(lambda: sweep().numpy(), 3 * SWEEP_BYTES)


class Bound(NamedTuple):
    """The least that a piece of work has to do."""

    flops: float  # of products and convolutions, see `flops.count_flops`
    bytes: float  # see `flops.count_bytes`

    def seconds(self, rates: dict[str, np.ndarray]) -> np.ndarray:
        """The time below which the machine can't do it, in each round of `rates`."""
        return np.maximum(self.flops / rates["flops"], self.bytes / rates["bytes"])


class Probes:
    """Matrix product and memory sweep, to be timed among other jobs.

    Made under `tf.device` they measure that device.
    """

    NAMES = ("matrix_product", "memory_sweep")

    def __init__(self):
        self._probes = dict(zip(self.NAMES, (matrix_product(), memory_sweep()), strict=True))
        self.jobs = {name: probe.job for name, probe in self._probes.items()}

    def rates(self, seconds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`flops` and `bytes` a second in each round, of what `timing.alternate` gave."""
        return {
            kind: self._probes[name].amount / seconds[name]
            for kind, name in zip(("flops", "bytes"), self.NAMES, strict=True)
        }


def rate_figures(rates: dict[str, np.ndarray]) -> dict[str, float]:
    """Medians for a report."""
    return {
        "matrix_product_gflops_per_s": float(np.median(rates["flops"])) / 1e9,
        "memory_gbytes_per_s": float(np.median(rates["bytes"])) / 1e9,
    }


def bound_figures(bound: Bound, seconds: np.ndarray, rates, count: int = 1) -> dict:
    """Work of `count` frames against its bound, medians over the rounds.

    Args:
        bound: of all `count` frames.
        seconds: [R] that they took.
        rates: of `Probes.rates`, the same rounds.
        count: frames.

    Returns:
        `gflop` and `mbytes` of a frame, `bound_ms` of a frame, `bound_by` (which of the two rates)
        and `share_of_bound`, 0 to about 1.
    """
    least = bound.seconds(rates)
    by_flops = np.median(bound.flops / rates["flops"]) >= np.median(bound.bytes / rates["bytes"])
    return {
        "gflop": bound.flops / count / 1e9,
        "mbytes": bound.bytes / count / 1e6,
        "bound_ms": 1e3 * float(np.median(least)) / count,
        "bound_by": "matrix product" if by_flops else "memory",
        "share_of_bound": float(np.median(least / seconds)),
    }
