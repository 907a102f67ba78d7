"""Measures speed: synthesis, training, inference and prediction, as ratios within one run.

    python -m dgn_tf.benchmark --json=runs/speed.json
    python -m dgn_tf.benchmark --flagfile=configs/paper.flags --what=training

The configuration is that of `dgn_tf.train`'s flags; weights don't matter for speed.
"""

import os

from absl import flags

from dgn_tf import errors, train
from dgn_tf.errors import InputError

FLAGS = flags.FLAGS
PARTS = ("synthesis", "training", "inference", "predictor")

flags.DEFINE_list(
    "what", ",".join(PARTS), "Which of synthesis,training (always together), inference,predictor."
)
flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")
flags.DEFINE_string(
    "saved_model", "saved_models/dgn", "Exported model (folder or version) for the predictor."
)
flags.DEFINE_string("profile_dir", "", "Folder for a trace of 5 steps, for TensorBoard; empty: no.")
flags.DEFINE_integer("rounds", 12, "Repetitions; figures are medians.", lower_bound=3)
flags.DEFINE_integer("frames", 200, "Frames through the predictor.", lower_bound=10)


def main(_):
    what = set(FLAGS.what)
    if not what or what - set(PARTS):
        raise InputError(f"--what={','.join(FLAGS.what)}: wanted some of {','.join(PARTS)}.")
    if "predictor" in what:
        from dgn_tf.serving.allow_list import find_version

        find_version(FLAGS.saved_model)  # before the minutes of work
    settings = {flag.name: flag.value for flag in FLAGS.flags_by_module_dict()[train.__name__]}
    result = {"machine": machine()}
    if what - {"predictor"}:
        result |= measure_network(settings, what, FLAGS.rounds, FLAGS.profile_dir)
    if "predictor" in what:
        from dgn_tf.benchmarking import predictor
        from dgn_tf.template import load_template

        frame = predictor.synthetic_frame(load_template())
        result["predictor"] = predictor.measure_predictor(FLAGS.saved_model, *frame, FLAGS.frames)
    print("\n".join(lines(result)))
    if FLAGS.json:
        from dgn_tf.json_file import write_json

        write_json(result, FLAGS.json)


def machine() -> dict:
    """What the figures depend on most."""
    import tensorflow as tf

    threads = tf.config.threading.get_intra_op_parallelism_threads()
    return {
        "tensorflow": tf.__version__,
        "processors": len(os.sched_getaffinity(0)),
        "threads": threads or int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0)) or "all",
        "accelerators": len(tf.config.list_physical_devices("GPU")),
    }


def measure_network(settings: dict, what: set, rounds: int, profile_dir: str = "") -> dict:
    """Sections `training` (synthesis with it), `training_profile` and `inference` of the figures.

    Args:
        settings: flag name -> value of `dgn_tf.train`.
        what: which of `PARTS`.
        rounds: repetitions.
        profile_dir: folder for a trace, or empty.
    """
    import tensorflow as tf

    from dgn_tf import data
    from dgn_tf.benchmarking import inference, training
    from dgn_tf.template import DEFAULT_TEMPLATE_PATH, HandTemplate

    tf.get_logger().setLevel("ERROR")  # one graph for each stage is what is wanted here
    path = settings["template"] or DEFAULT_TEMPLATE_PATH
    template = HandTemplate.load(path, settings["embedding"])
    file = settings["synthesis_config"]
    config = data.SynthesisConfig.load(file) if file else data.SynthesisConfig()
    model = train.build_model(template, settings)
    train.build_optimizer(model)
    size, seed = settings["batch_size"], settings["seed"]
    batch = training.training_batch(template, config, seed, max(size, 32))
    result = {}
    if what & {"training", "synthesis"}:
        result["training"] = training.measure_training(
            model, template, config, size, rounds, seed
        )
        part = {name: value[:size] for name, value in batch.items()}
        result["training_profile"] = training.profile_training(model, part, rounds)
        if profile_dir:
            training.trace(model, part, profile_dir)
    if "inference" in what:
        result["inference"] = inference.measure_inference(model.network, batch, rounds)
    return result


def lines(figures: dict, indent: str = "") -> list[str]:
    """Nested figures, one a line; a dict of plain values under its name as one line."""
    text = []
    for name, value in figures.items():
        if isinstance(value, dict):
            plain = not any(isinstance(inner, dict) for inner in value.values())
            if plain and indent:
                parts = (f"{key} {_text(inner)}" for key, inner in value.items())
                text.append(f"{indent}{name:16}" + ", ".join(parts))
            else:
                text += [f"{indent}{name}", *lines(value, indent + "  ")]
        else:
            text.append(f"{indent}{name:32}{_text(value):>12}")
    return text


def _text(value) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"


if __name__ == "__main__":
    errors.run(main)
