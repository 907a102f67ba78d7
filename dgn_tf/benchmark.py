"""Measures speed and memory, as ratios within one run and against what the machine can do.

    python -m dgn_tf.benchmark --json=runs/speed.json --plot=runs/speed.png
    python -m dgn_tf.benchmark --flagfile=configs/paper.flags --what=training
    python -m dgn_tf.benchmark --what=exported --batch_sizes=1,8,32 \\
        --forms=fp32=runs/p/fp32,int8=runs/p/int8,lite=runs/p/fp32/1.fp32.tflite
    python -m dgn_tf.benchmark --saved_model=runs/old --compare=runs/new

Parts (--what): `synthesis` and `training` (together), `inference` and `predictor`, the figures of
single ratios; `stages` of a frame's way to a mesh and `exported` forms, by batch size and device;
`pipeline`, what feeds training; `memory`, of processes that do one thing each. Configuration of
what is trained: `dgn_tf.train`'s flags; weights don't matter for speed.
"""

import tempfile

from absl import flags

from dgn_tf import command_line, errors
from dgn_tf.config import Train
from dgn_tf.errors import InputError
from dgn_tf.serving.inference_only import assume_frozen_weights

FLAGS = flags.FLAGS
NETWORK_PARTS = ("synthesis", "training", "inference")
PARTS = (*NETWORK_PARTS, "predictor", "stages", "exported", "pipeline", "memory")
DEVICES = ("CPU", "GPU")
_INFERENCE = {"predictor", "stages", "exported"}  # nothing of it changes a weight

command_line.define_flags(Train)  # of what is trained
flags.DEFINE_list(
    "what",
    ",".join(PARTS),
    f"Which of {','.join(PARTS)}; synthesis and training always together.",
)
flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")
flags.DEFINE_string("plot", "", "Picture of the figures (.png, .pdf, .svg); empty: none.")
flags.DEFINE_string("saved_model", "saved_models/dgn", "Exported model (folder or version).")
flags.DEFINE_list(
    "forms",
    "",
    "NAME=PATH of exported forms to time (SavedModels' folders, .tflite files), such as "
    "fp32=runs/a,int8=runs/b; empty: --saved_model alone.",
)
flags.DEFINE_string(
    "compare",
    "",
    "Exported model that is run in turn with --saved_model on the same frames; without --what "
    "nothing else is done. Empty: none.",
)
flags.DEFINE_list("batch_sizes", "1,8,32", "Batch sizes of stages, exported and --compare.")
flags.DEFINE_list("devices", "", "CPU, GPU or both; empty: what TensorFlow sees.")
flags.DEFINE_string(
    "benchmark_records", "", "Records that the input pipeline reads; empty: some are synthesised."
)
flags.DEFINE_string("profile_dir", "", "Folder for a trace of 5 steps, for TensorBoard; empty: no.")
flags.DEFINE_integer("rounds", 12, "Repetitions; figures are medians.", lower_bound=3)
flags.DEFINE_integer("frames", 200, "Single frames for p50 and p99.", lower_bound=10)
flags.DEFINE_integer(
    "memory_requests",
    200,
    "Requests to a serving process whose memory is watched.",
    lower_bound=10,
)
flags.DEFINE_integer(
    "memory_batches",
    8,
    "Batches of training and its input whose peak memory is taken.",
    lower_bound=2,
)


def main(_):
    try:
        from benchmarks import machine
    except ImportError:
        raise InputError(
            "The benchmarks are not installed with the package: python -m dgn_tf.benchmark needs "
            "the folder benchmarks/ of the repository; run it there."
        ) from None
    what, sizes = _checked_flags()
    settings = command_line.from_flags(Train)

    if what <= _INFERENCE:
        assume_frozen_weights()
    result = {"machine": machine.describe()}
    if what & set(NETWORK_PARTS):
        result |= measure_network(settings, what, FLAGS.rounds, FLAGS.profile_dir)
    if "predictor" in what:
        result["predictor"] = _predictor()
    result |= _model_parts(what, sizes)
    if what & {"pipeline", "memory"}:
        result |= _feeding_parts(what, settings)
    result["load_after"] = machine.describe()["load"]
    print("\n".join(lines(result)))
    if FLAGS.json:
        from dgn_tf.json_file import write_json

        write_json(result, FLAGS.json)
    if FLAGS.plot:
        from benchmarks.picture import plot_speed

        plot_speed(result, FLAGS.plot)


def _checked_flags() -> tuple[set[str], list[int]]:
    """Parts and batch sizes; what can't be done is refused before the minutes of work."""
    alone = FLAGS.compare and not FLAGS["what"].present
    what = set() if alone else set(FLAGS.what)
    if what - set(PARTS) or not (what or FLAGS.compare):
        raise InputError(f"--what={','.join(FLAGS.what)}: wanted some of {','.join(PARTS)}.")
    try:
        sizes = sorted({int(size) for size in FLAGS.batch_sizes})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < 1:
        raise InputError(
            f"--batch_sizes={','.join(FLAGS.batch_sizes)}: wanted numbers of 1 or "
            "more, such as 1,8,32."
        )
    unknown = [device for device in FLAGS.devices if device not in DEVICES]
    if unknown:
        raise InputError(
            f"--devices={','.join(FLAGS.devices)}: wanted some of {','.join(DEVICES)}."
        )
    if FLAGS.plot:
        from dgn_tf.plots import check_plot_file

        check_plot_file(FLAGS.plot)
    _check_models(what)
    return what, sizes


def _check_models(what):
    from benchmarks.forms import check_form
    from dgn_tf.serving.allow_list import find_version

    if what & {"predictor", "stages", "memory"} or FLAGS.compare:
        find_version(FLAGS.saved_model)
    if FLAGS.compare:
        check_form(FLAGS.compare, "--compare")
    if "exported" in what:
        for path in form_paths().values():
            check_form(path)


def form_paths() -> dict[str, str]:
    """Name -> path of --forms, or of --saved_model where there are none."""
    paths: dict[str, str] = {}
    for part in FLAGS.forms:
        name, _, path = part.partition("=")
        if not name or not path or name in paths:
            raise InputError(
                f"--forms={','.join(FLAGS.forms)}: wanted NAME=PATH, each name once, "
                "such as fp32=runs/a,int8=runs/b."
            )
        paths[name] = path
    return paths or {"saved_model": FLAGS.saved_model}


def _predictor() -> dict:
    from benchmarks import predictor
    from dgn_tf.template import load_template

    frame = predictor.synthetic_frame(load_template())
    return predictor.measure_predictor(FLAGS.saved_model, *frame, FLAGS.frames)


def measure_network(settings: Train, what: set, rounds: int, profile_dir: str = "") -> dict:
    """Sections `training` (synthesis with it) and `inference` of the figures.

    Args:
        settings: of `dgn_tf.train`.
        what: which of `PARTS`.
        rounds: repetitions.
        profile_dir: folder for a trace, or empty.
    """
    import tensorflow as tf

    from benchmarks import pipeline, training
    from dgn_tf.training.building import build_model, build_optimizer

    tf.get_logger().setLevel("ERROR")  # one graph for each stage is what is wanted here
    made = pipeline.from_flags(settings)
    model = build_model(made.template, settings)
    build_optimizer(model)
    size, seed = made.batch_size, made.seed
    batch = training.training_batch(made.template, made.config, seed, max(size, 32))
    result = {}
    if what & {"training", "synthesis"}:
        result["training"] = training.measure_training(
            model, made.template, made.config, size, rounds, seed
        )
        part = {name: value[:size] for name, value in batch.items()}
        if profile_dir:
            training.trace(model, part, profile_dir)
    if "inference" in what:
        result["inference"] = training.measure_inference(model.network, batch, rounds)
    return result


def _model_parts(what: set, sizes: list[int]) -> dict:
    """Sections `stages`, `exported` and `compare`, by device."""
    import tensorflow as tf

    from benchmarks import exported, stages
    from benchmarks.forms import load_form
    from benchmarks.inputs import model_inputs

    result: dict = {}
    if not (what & {"stages", "exported"} or FLAGS.compare):
        return result
    inputs = model_inputs(FLAGS.saved_model, max(sizes))
    for device in _devices():
        with tf.device(f"/{device}:0"):
            if "stages" in what:
                result.setdefault("stages", {})[device] = stages.measure_model(
                    FLAGS.saved_model, inputs, sizes, FLAGS.rounds
                )
            if "exported" in what:
                forms = {
                    name: load_form(path)
                    for name, path in form_paths().items()
                    if device == "CPU" or not path.endswith(".tflite")
                }
                result.setdefault("exported", {})[device] = exported.measure_forms(
                    forms, inputs, sizes, FLAGS.rounds, FLAGS.frames
                )
            if FLAGS.compare:
                result.setdefault("compare", {})[device] = exported.compare(
                    load_form(FLAGS.saved_model, "--saved_model"),
                    load_form(FLAGS.compare, "--compare"),
                    inputs,
                    sizes,
                    FLAGS.rounds,
                )
    return result


def _devices() -> list[str]:
    import tensorflow as tf

    seen = [device for device in DEVICES if tf.config.list_physical_devices(device)]
    for device in FLAGS.devices:
        if device not in seen:
            raise InputError(
                f"--devices={','.join(FLAGS.devices)}: TensorFlow sees no {device} "
                f"here, only {','.join(seen)}."
            )
    return FLAGS.devices or seen


def _feeding_parts(what: set, settings: Train) -> dict:
    """Sections `pipeline` and `memory`."""
    from benchmarks import memory, pipeline
    from benchmarks.inputs import model_inputs

    result: dict = {}
    made = pipeline.from_flags(settings, FLAGS.benchmark_records)
    with tempfile.TemporaryDirectory() as folder:
        if not made.records:
            made = pipeline.write_records(made, folder)
        if "pipeline" in what:
            result["pipeline"] = pipeline.measure_pipeline(made, FLAGS.rounds)
        if "memory" in what:
            result["memory"] = {
                "serving": memory.measure_serving(
                    FLAGS.saved_model,
                    model_inputs(FLAGS.saved_model, 1).frames,
                    FLAGS.memory_requests,
                ),
                "work": memory.measure_work(settings, made.records, FLAGS.memory_batches),
            }
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
