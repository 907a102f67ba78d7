"""What runs a crop fastest: TensorFlow, ONNX Runtime or OpenVINO, in turn in one run.

    python -m dgn_tf.export --weights=saved_models/dgn --output_dir=runs/onnx --onnx
    python -m benchmarks.backends --saved_model=runs/onnx --json=runs/backends.json

Of each backend that is installed: a crop to the mesh, a tracked frame in memory to the mesh
(`HandTracker`), and how far its vertices are from TensorFlow's.
"""

import importlib.util
import json

import numpy as np
from absl import flags

from dgn_tf import errors
from dgn_tf.serving.inference_only import assume_frozen_weights, one_thread
from dgn_tf.serving.runtimes import BACKENDS

FLAGS = flags.FLAGS
flags.DEFINE_string("saved_model", None, "Model with ONNX files beside it.", required=True)
flags.DEFINE_integer("rounds", 100, "Crops and frames timed.", lower_bound=10)
flags.DEFINE_integer("frames", 500, "Synthetic crops compared.", lower_bound=8)
flags.DEFINE_bool("all_threads", False, "Let TensorFlow use every core; dgn_tf.live does not.")
flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")

_RATE = 30.0


def main(_):
    assume_frozen_weights()
    if not FLAGS.all_threads:
        one_thread()
    from benchmarks import machine, timing
    from dgn_tf import model_folder
    from dgn_tf.json_file import write_json
    from dgn_tf.predictor import HandMeshPredictor

    names = [name for name in BACKENDS if importlib.util.find_spec(name)]
    models = {name: HandMeshPredictor(FLAGS.saved_model, backend=name) for name in names}
    network = model_folder.load_network(FLAGS.saved_model)
    result = {"machine": machine.describe(), "processor": _processor()}
    result["agreement"] = {
        name: agreement(models["tensorflow"], models[name], network, FLAGS.frames)
        for name in names[1:]
    }
    seconds = timing.alternate({**_crops(models, network), **_tracked(models)}, FLAGS.rounds)
    result["ms"] = {name: 1e3 * float(np.median(taken)) for name, taken in seconds.items()}
    result["to_crop_by_tensorflow"] = {
        name: timing.spread(taken, seconds["crop tensorflow"]) for name, taken in seconds.items()
    }
    result["load_after"] = machine.describe()["load"]
    print(json.dumps(result, indent=1))
    if FLAGS.json:
        write_json(result, FLAGS.json)


def agreement(own, other, network, count: int) -> dict:
    """How far another runtime's vertices are from the SavedModel's, on synthetic crops.

    Args:
        own, other: with `run(signature, inputs)`.
        network: whose crops are made.
        count: of crops, every other one taken for a left hand.

    Returns:
        By batch size, "1" and "8": `median_mm`, `largest_mm`, the share `within_0.001_mm`; and
        what TensorFlow's own answers in batches of 8 are from those one by one.
    """
    from dgn_tf.conversion.accelerator import representative_crops

    crops = representative_crops(network, "", count, seed=11)
    crops["left"] = np.arange(count) % 2 == 1

    def vertices(model, batch):
        whole = range(0, count - count % 8, batch)
        parts = [{name: value[i : i + batch] for name, value in crops.items()} for i in whole]
        return np.concatenate([model.run("crop", part)["vertices"] for part in parts])

    expected = {batch: vertices(own, batch) for batch in (1, 8)}
    found = {str(batch): _apart(vertices(other, batch), expected[batch]) for batch in (1, 8)}
    return {**found, "tensorflow_8_and_1": _apart(expected[8], expected[1])}


def _apart(actual, expected) -> dict:
    away = np.abs(actual - expected).max(axis=(1, 2))
    return {
        "median_mm": float(np.median(away)),
        "largest_mm": float(away.max()),
        "within_0.001_mm": float((away <= 1e-3).mean()),
    }


def _crops(models, network) -> dict:
    """Calls of the signature `crop` on one synthetic hand, by name."""
    from dgn_tf.conversion.accelerator import representative_crops

    inputs = {**representative_crops(network, "", 1), "left": np.array([False])}
    return {
        f"crop {name}": lambda model=model: model.run("crop", inputs)
        for name, model in models.items()
    }


def _tracked(models) -> dict:
    """Calls that follow a moving hand by a frame, by name."""
    from dgn_tf.live.synthetic import SyntheticHands
    from dgn_tf.live.tracker import HandTracker

    template = models["tensorflow"].template
    frames = list(SyntheticHands(template, "wave", 90, _RATE, seed=1, sides="r"))

    def calls(model):
        tracker, number = HandTracker(model, max_hands=1, hand="right"), iter(range(10**9))

        def call():
            index = next(number)
            frame = frames[index % len(frames)]
            return tracker(frame.depth, index / _RATE, frame.intrinsics)

        return call

    return {f"tracked {name}": calls(model) for name, model in models.items()}


def _processor() -> str:
    """The processor's name, of Linux."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


if __name__ == "__main__":
    errors.run(main)
