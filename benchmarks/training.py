"""Speed of synthesis, of the training step and of the forward pass, against a matrix product."""

import functools
import time

import numpy as np
import tensorflow as tf

from benchmarks import timing
from benchmarks.flops import count_flops
from benchmarks.machine import matrix_product
from dgn_tf.network_config import NETWORK_INPUTS
from dgn_tf.records.batches import Batching, targets
from dgn_tf.synthesis.batches import synthesize_batch
from dgn_tf.synthesis.online import online_dataset


def training_batch(template, config, seed: int, batch_size: int) -> dict[str, tf.Tensor]:
    """One batch with targets, as the on-line dataset gives it."""
    example = synthesize_batch(template, config, seed, 0, batch_size)
    return targets({name: tf.constant(value) for name, value in example.items()}, template)


def forward_flops(network, batch) -> int:
    """Operations of the network's forward pass over `batch`."""
    inputs = {name: batch[name] for name in NETWORK_INPUTS}
    run = tf.function(lambda inputs: network(inputs, training=False))
    return count_flops(run.get_concrete_function(inputs))


def measure_training(model, template, config, batch_size: int, rounds: int, seed: int = 1) -> dict:
    """Matrix product, synthesis and training step in alternation.

    Args:
        model: compiled `TrainingModel`.
        template: HandTemplate.
        config: SynthesisConfig of the batches.
        batch_size: B.
        rounds: how often each is timed.

    Returns:
        JSON-able figures, units in their names. `synthesis_to_training` is the bar's ratio: the
        time to synthesise a batch over the time to train on one. `share_of_matrix_rate` holds the
        step to three times the forward pass's operations (one forward, two backward).
    """
    batch = training_batch(template, config, seed, batch_size)
    flops = forward_flops(model.network, batch)
    step = tf.function(model.train_step, jit_compile=bool(model.jit_compile))
    multiply, multiply_flops = matrix_product()
    numbers = iter(range(1, 10**9))
    seconds = timing.alternate(
        {
            "product": multiply,
            "synthesis": lambda: synthesize_batch(
                template, config, seed, next(numbers) * batch_size, batch_size
            ),
            "training": lambda: step(batch)["loss"].numpy(),
        },
        rounds,
    )
    waiting, online = _online(step, template, config, seed, batch_size, rounds)
    multiply_rate = multiply_flops / seconds["product"]
    return {
        "batch_size": batch_size,
        "matrix_product_gflops_per_s": float(np.median(multiply_rate)) / 1e9,
        "forward_gflop_per_frame": flops / batch_size / 1e9,
        "synthesis_frames_per_s": batch_size / np.median(seconds["synthesis"]),
        "training_frames_per_s": batch_size / np.median(seconds["training"]),
        "training_step_ms": 1e3 * np.median(seconds["training"]),
        "training_bound_ms": 3e3 * float(np.median(flops / multiply_rate)),
        "share_of_matrix_rate": float(np.median(3 * flops / seconds["training"] / multiply_rate)),
        "synthesis_to_training": timing.ratio(seconds["synthesis"], seconds["training"]),
        "online_frames_per_s": batch_size / online,
        "online_share_waiting_for_input": waiting,
    }


def _online(step, template, config, seed, batch_size, rounds):
    """Trains on the on-line dataset: share of the time spent waiting, and seconds a step."""
    batches = iter(
        online_dataset(template, config, batching=Batching(seed=seed, batch_size=batch_size))
    )
    step(next(batches))["loss"].numpy()
    waits, steps = [], []
    for _ in range(max(8, rounds)):
        start = time.perf_counter()
        batch = next(batches)
        waits.append(time.perf_counter() - start)
        step(batch)["loss"].numpy()
        steps.append(time.perf_counter() - start)
    return float(np.sum(waits) / np.sum(steps)), float(np.median(steps))


def trace(model, batch, folder, steps: int = 5) -> None:
    """Writes a trace of some training steps: `tensorboard --logdir=FOLDER`, extra `viz`."""
    step = tf.function(model.train_step, jit_compile=bool(model.jit_compile))
    step(batch)["loss"].numpy()
    tf.profiler.experimental.start(str(folder))
    for number in range(steps):
        with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
            step(batch)["loss"].numpy()
    tf.profiler.experimental.stop()


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
