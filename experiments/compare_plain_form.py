"""Times the form that ships against the same weights in plain form (`experiments.plain_form`).

    python -m experiments.compare_plain_form --weights=saved_models/dgn --json=runs/plain.json

Shipped: the forward pass as it is exported, its variables constants and its batch norms folded.
Plain: a `tf.function` of the formulas as they read. One run: largest difference of a vertex over
clean synthetic frames, then times at --batch_size in alternation, in all and by stage, each stage
alone on the same inputs. `paper` is the shipped form of the configuration that the paper describes
(`--network=paper`): its time only, for its accuracy it would have to be trained.
"""

import functools
from collections.abc import Callable

import numpy as np
from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError
from dgn_tf.network_config import NETWORK_INPUTS

FLAGS = flags.FLAGS

flags.DEFINE_string("weights", "saved_models/dgn", "Folder of a trained model.")
flags.DEFINE_string(
    "config", "configs/synthetic_easy.json", "JSON of the sampler; that one is without noise."
)
flags.DEFINE_integer("frames", 128, "Frames on which the forms are compared.", lower_bound=1)
flags.DEFINE_integer("seed", 11, "Of the frames.", lower_bound=0)
flags.DEFINE_integer("batch_size", 1, "Frames at a time when timed.", lower_bound=1)
flags.DEFINE_integer("threads", 0, "Threads of an operation; 0: all processors.", lower_bound=0)
flags.DEFINE_integer("rounds", 40, "Rounds; all take turns in each.", lower_bound=5)
flags.DEFINE_integer("burst", 10, "Runs in a row at each turn.", lower_bound=1)
flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")

BAR_MM, BAR_SPEED_UP = 0.001, 2.0


def main(_):
    import tensorflow as tf

    from dgn_tf.json_file import write_json
    from dgn_tf.model_folder import load_network
    from dgn_tf.synthesis.batches import synthesize_batch
    from dgn_tf.synthesis.settings import SynthesisConfig
    from experiments.plain_form import plain_form

    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    network = load_network(FLAGS.weights)
    config = SynthesisConfig.load(FLAGS.config)
    if config.size != network.config.image_size:
        raise InputError(
            f"--config={FLAGS.config} draws crops of {config.size} pixels, the model "
            f"takes {network.config.image_size}."
        )
    frames = synthesize_batch(network.template, config, FLAGS.seed, 0, FLAGS.frames)
    batch = {name: tf.constant(frames[name]) for name in NETWORK_INPUTS}
    plain = plain_form(network)
    result = {"agreement": agreement(shipped(network), unfused(plain), batch)}
    for name, value in result["agreement"].items():
        print(f"{name:44}{value:.3g}")
    one = {name: value[: FLAGS.batch_size] for name, value in batch.items()}
    jobs = timed_jobs(network, plain, one)
    jobs["paper"] = functools.partial(shipped(paper_network()), **one)
    result |= speed(jobs, FLAGS.rounds, FLAGS.burst)
    print(f"{'ms':18}{'plain':>10}{'shipped':>10}{'speed-up':>10} (quartiles)")
    for name, row in result["stages"].items():
        low, high = row["quartiles"]
        print(
            f"{name:18}{row['plain_ms']:10.3f}{row['shipped_ms']:10.3f}{row['speed_up']:10.2f} "
            f"({low:.2f} to {high:.2f})"
        )
    print(f"paper: {result['paper_ms']:.2f} ms, {result['paper_to_shipped']:.2f} of the shipped")
    if FLAGS.json:
        write_json(result, FLAGS.json)


def shipped(network) -> Callable:
    """The forward pass as `dgn_tf.export` writes it: of keyword inputs, all outputs."""
    from dgn_tf.serving.module import frozen_forward

    return frozen_forward(network)


def unfused(network) -> Callable:
    """The forward pass as one graph over its variables: of keyword inputs, all outputs."""
    import tensorflow as tf

    return tf.function(lambda **inputs: network(inputs, training=False), autograph=False)


def paper_network():
    """The paper's configuration, untrained."""
    from dgn_tf.network import DualGridNet
    from dgn_tf.network_config import PRESETS
    from dgn_tf.template import load_template

    network = DualGridNet(load_template(embedding="mds"), PRESETS["paper"])
    network(network.example_inputs())
    return network


def agreement(one: Callable, other: Callable, batch: dict) -> dict:
    """How far two forms' vertices and vertices_sampled lie apart over frames, one at a time."""
    names = ("vertices", "vertices_sampled")
    apart: dict[str, list[float]] = {name: [] for name in names}
    for row in range(len(batch["cube"])):
        frame = {name: value[row : row + 1] for name, value in batch.items()}
        first, second = one(**frame), other(**frame)
        for name in names:
            difference = np.linalg.norm(first[name] - second[name], axis=-1)
            apart[name].append(float(difference.max()))
    result: dict[str, float] = {"frames": len(batch["cube"])}
    for name, values in apart.items():
        result[f"{name} median frame, mm"] = float(np.median(values))
        result[f"{name} largest, mm"] = max(values)
    result[f"frames beyond {BAR_MM} mm"] = int(np.sum(np.array(apart["vertices"]) > BAR_MM))
    return result


def timed_jobs(network, plain, batch) -> dict[str, Callable[[], object]]:
    """`plain STAGE` and `shipped STAGE` of all stages and of `in all`, on the same inputs."""
    jobs: dict[str, Callable[[], object]] = {
        "plain in all": functools.partial(unfused(plain), **batch),
        "shipped in all": functools.partial(shipped(network), **batch),
    }
    values = dict(batch)
    pairs = zip(stages(plain).items(), stages(network).values(), strict=True)
    for (name, as_read), (as_shipped, arguments) in pairs:
        inputs = {argument: values[argument] for argument in arguments}
        jobs[f"plain {name}"] = functools.partial(_graph(as_read[0]), **inputs)
        run = _frozen(as_shipped, inputs)
        jobs[f"shipped {name}"] = functools.partial(run, **inputs)
        values |= run(**inputs)
    return jobs


def stages(network) -> dict[str, tuple[Callable, tuple[str, ...]]]:
    """name -> (function of keywords to a dict of tensors, its keywords), in order."""

    def view(depth, intrinsics, centre, cube):
        inputs = {"depth": depth, "intrinsics": intrinsics, "centre": centre, "cube": cube}
        _, seen, rotation = network.pixel_inputs(inputs)
        return {"seen": network.canonicalise(seen, rotation, training=False)[0]}

    def image_network(seen):
        correspondences, features = network.image_network(seen, training=False)
        return {"correspondences": correspondences, "features": features}

    def extension(correspondences, features, seen):
        return {"extended": network.extend(correspondences, features, seen)}

    def mesh_network(extended):
        return {"coordinate_map": network.mesh_network(extended, training=False)}

    def sampling(coordinate_map, centre):
        return {"sampled": network.sampling(coordinate_map) * 150 + centre[:, None]}

    def similarity_fit(sampled):
        return {"transforms": network.similarity_fit(sampled)}

    def skinning(transforms):
        return {
            "posed": network.skinning(transforms),
            "keypoints": network.skinning.keypoints(transforms),
        }

    each = (view, image_network, extension, mesh_network, sampling, similarity_fit, skinning)
    return {
        stage.__name__: (stage, stage.__code__.co_varnames[: stage.__code__.co_argcount])
        for stage in each
    }


def _graph(function):
    import tensorflow as tf

    return tf.function(function, autograph=False)


def _frozen(function, inputs):
    import tensorflow as tf

    from dgn_tf.serving.freezing import frozen

    specs = {
        name: tf.TensorSpec([None, *value.shape[1:]], value.dtype, name)
        for name, value in inputs.items()
    }
    names = sorted(_graph(function).get_concrete_function(**specs).structured_outputs)
    return frozen(lambda **given: function(**given), specs, names)


def speed(jobs: dict, rounds: int, burst: int) -> dict:
    """Times `timed_jobs` and `paper` in alternation, `burst` runs in a row."""
    from benchmarks import timing

    def finished(job):
        return lambda: [value.numpy() for value in job().values()]

    seconds = timing.alternate(
        {name: timing.repeated(finished(job), burst) for name, job in jobs.items()}, rounds
    )
    rows = {}
    for name in (key.removeprefix("plain ") for key in jobs if key.startswith("plain ")):
        slow, fast = seconds[f"plain {name}"], seconds[f"shipped {name}"]
        low, middle, high = (float(q) for q in np.percentile(slow / fast, [25, 50, 75]))
        rows[name] = {
            "plain_ms": 1e3 * float(np.median(slow)) / burst,
            "shipped_ms": 1e3 * float(np.median(fast)) / burst,
            "speed_up": middle,
            "quartiles": [low, high],
        }
    rows["in all"]["bar"] = BAR_SPEED_UP
    return {
        "stages": rows,
        "paper_ms": 1e3 * float(np.median(seconds["paper"])) / burst,
        "paper_to_shipped": timing.ratio(seconds["paper"], seconds["shipped in all"]),
    }


if __name__ == "__main__":
    errors.run(main)
