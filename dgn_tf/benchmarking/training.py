"""Speed of synthesis and of the training step, each against the machine's matrix product."""

import time

import numpy as np
import tensorflow as tf

from dgn_tf.benchmarking import timing
from dgn_tf.benchmarking.flops import count_flops
from dgn_tf.benchmarking.machine import matrix_product
from dgn_tf.network_config import NETWORK_INPUTS
from dgn_tf.records.batches import targets
from dgn_tf.synthesis.batches import synthesize_batch
from dgn_tf.synthesis.online import online_dataset
from dgn_tf.training.step import supervised_terms


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
    batches = iter(online_dataset(template, config, seed, batch_size))
    step(next(batches))["loss"].numpy()
    waits, steps = [], []
    for _ in range(max(8, rounds)):
        start = time.perf_counter()
        batch = next(batches)
        waits.append(time.perf_counter() - start)
        step(batch)["loss"].numpy()
        steps.append(time.perf_counter() - start)
    return float(np.sum(waits) / np.sum(steps)), float(np.median(steps))


def profile_training(model, batch, rounds: int) -> dict:
    """Where the training step's time goes: each stage forward and backward, alone.

    The stages are timed in alternation with the whole step. What they leave of it is the gluing
    of gradients and what runs slower, or in parallel, together.

    Returns:
        stage -> {`ms`, `share_of_step`, `gflops_per_s` (of the stage's own products, forward
        times three; None where it has none)}, with `whole_step` and `unaccounted`.
    """
    stages = _stages(model, batch)
    step = tf.function(model.train_step, jit_compile=bool(model.jit_compile))
    jobs = {name: job for name, (job, _) in stages.items()}
    seconds = timing.alternate({**jobs, "whole_step": lambda: step(batch)["loss"].numpy()}, rounds)
    whole = seconds.pop("whole_step")
    result = {}
    for name, values in seconds.items():
        flops = stages[name][1]
        result[name] = {
            "ms": 1e3 * np.median(values),
            "share_of_step": timing.ratio(values, whole),
            "gflops_per_s": float(3 * flops / np.median(values) / 1e9) if flops else None,
        }
    rest = whole - sum(seconds.values())
    result["unaccounted"] = {
        "ms": 1e3 * np.median(rest),
        "share_of_step": timing.ratio(rest, whole),
        "gflops_per_s": None,
    }
    result["whole_step"] = {
        "ms": 1e3 * np.median(whole),
        "share_of_step": 1.0,
        "gflops_per_s": None,
    }
    return result


def trace(model, batch, folder, steps: int = 5) -> None:
    """Writes a trace of some training steps: `tensorboard --logdir=FOLDER`, extra `viz`."""
    step = tf.function(model.train_step, jit_compile=bool(model.jit_compile))
    step(batch)["loss"].numpy()
    tf.profiler.experimental.start(str(folder))
    for number in range(steps):
        with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
            step(batch)["loss"].numpy()
    tf.profiler.experimental.stop()


def _stages(model, batch):
    """name -> (job: one forward and backward pass of the stage, operations of its forward)."""
    from dgn_tf.geometry import crop as crop_geometry

    network = model.network
    # Real values at every border between stages: empty crops would take other branches.
    pixels = crop_geometry.normalise_crop(
        batch["depth"], batch["intrinsics"], batch["centre"], batch["cube"]
    )
    seen = network.canonical_pixels(pixels, batch["centre"], True)[0]
    correspondences, features = network.image_network(seen, True)
    coords = correspondences[..., :2]
    extended = network.extend(coords, features, seen)
    coordinate_map = network.mesh_network(extended, True)
    half_cube = batch["cube"][:, tf.newaxis, tf.newaxis] / 2
    sampled = network.sampling(coordinate_map) * half_cube + batch["centre"][:, tf.newaxis]
    outputs = network(batch, training=True)
    losses = {name: value for name, value in outputs.items() if value.dtype == tf.float32}

    def loss(*values):
        terms = supervised_terms(dict(zip(losses, values, strict=True)), batch, model.loss_config)
        return [tf.reduce_mean(term) for term in terms.values()]

    def view(pixels):
        seen, found = network.canonical_pixels(pixels, batch["centre"], True)
        return [seen] if found is None else [seen, found.palm_direction]

    variables = network.trainable_variables
    zeros = [tf.zeros_like(variable) for variable in variables]

    @tf.function
    def optimise():
        model.optimizer.apply_gradients(zip(zeros, variables, strict=True))
        return model.optimizer.iterations

    refined = ("transforms", "vertices", "keypoints")
    stages = {
        "view": (view, [pixels]),
        "image_network": (lambda s: network.image_network(s, True), [seen]),
        "extension": (lambda c, f: network.extend(c, f, seen), [coords, features]),
        "mesh_network": (lambda e: network.mesh_network(e, True), [extended]),
        "sampling": (network.sampling, [coordinate_map]),
        "similarity_fit": (network.similarity_fit, [sampled]),
        "skinning": (
            lambda t: [network.skinning(t), network.skinning.keypoints(t)],
            [outputs[refined[0]]],
        ),
        "losses": (loss, list(losses.values())),
    }
    jobs = {name: _forward_backward(*stage, variables) for name, stage in stages.items()}
    jobs["optimiser"] = (lambda: optimise().numpy(), 0)
    return jobs


def _forward_backward(stage, inputs, variables):
    forward = tf.function(lambda inputs: tf.nest.flatten(stage(*inputs)))
    flops = count_flops(forward.get_concrete_function(inputs))
    # Gradients from above that nothing can fold into constants.
    upstream = [
        tf.random.stateless_normal(output.shape, [number, 0])
        for number, output in enumerate(forward(inputs))
    ]

    @tf.function
    def run(inputs, upstream):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = tf.nest.flatten(stage(*inputs))
            total = tf.add_n(
                [
                    tf.reduce_sum(tf.cast(output, tf.float32) * above)
                    for output, above in zip(outputs, upstream, strict=True)
                ]
            )
        gradients = tape.gradient(total, [*inputs, *variables])
        # Everything is summed up, or the graph would drop what nobody reads.
        sums = [tf.reduce_sum(gradient) for gradient in gradients if gradient is not None]
        return tf.add_n([total, *sums])

    return (lambda: run(inputs, upstream).numpy()), flops
