"""Times the exported model against MediaPipe's hand networks, on the same threads in one run.

    python -m pip download --no-deps mediapipe==0.10.14
    python -m dgn_tf.export --weights=saved_models/dgn --output_dir=runs/onnx --onnx --litert
    python -m experiments.compare_mediapipe --wheel=mediapipe-0.10.14-cp311-*.whl \
        --saved_model=runs/onnx --litert=runs/onnx/1.fp32.tflite --json=runs/mediapipe.json

The networks are read out of the wheel and run by `tf.lite`; mediapipe itself is neither installed
nor imported. Crop to mesh: the SavedModel's signature `crop` and the LiteRT file of `dgn_tf.export
--litert`, and its ONNX files where they are beside it, against `hand_landmark_full` and `_lite`.
Whole 640 x 480 frame to mesh: `serving_default`, against `palm_detection_full` and then
`hand_landmark_full`. Of MediaPipe the networks alone are timed: what it does around them (resizing,
anchors, the crop out of a frame) counts as nothing; of ours everything counts.
"""

import functools
import importlib.util
import io
import pathlib
import time
import zipfile
from collections.abc import Callable

import numpy as np
from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError
from dgn_tf.serving.inference_only import assume_frozen_weights
from dgn_tf.serving.runtimes import BACKENDS

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "wheel",
    None,
    "The wheel of mediapipe 0.10.14, or another zip with its .tflite files.",
    required=True,
)
flags.DEFINE_string("saved_model", "saved_models/dgn", "Exported model, folder or version.")
flags.DEFINE_string(
    "litert",
    None,
    "The float32 .tflite of `dgn_tf.export --litert`. It is not made here: a process that takes "
    "weights for frozen runs the network with those that it was built with.",
    required=True,
)
flags.DEFINE_integer("threads", 2, "Threads of every network.", lower_bound=1)
flags.DEFINE_integer("rounds", 40, "Rounds; all take turns in each.", lower_bound=5)
flags.DEFINE_integer("burst", 10, "Frames in a row at each turn.", lower_bound=1)
flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")

NETWORKS = ("hand_landmark_full", "hand_landmark_lite", "palm_detection_full")
# What is held against what, and the bar where there is one.
RATIOS = {
    "crop to hand_landmark_full": ("crop", "hand_landmark_full", 1.0),
    "crop to hand_landmark_lite": ("crop", "hand_landmark_lite", None),
    "crop_litert to hand_landmark_full": ("crop_litert", "hand_landmark_full", 1.0),
    "crop_litert to hand_landmark_lite": ("crop_litert", "hand_landmark_lite", None),
    "frame to palm_and_hand_full": ("frame", "palm_and_hand_full", 0.8),
}


def main(_):
    from dgn_tf.json_file import write_json

    contents = {name: read_network(FLAGS.wheel, name) for name in NETWORKS}
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    others = {name: _network(name, content) for name, content in contents.items()}

    def palm_and_hand_full():
        others["palm_detection_full"]()
        others["hand_landmark_full"]()

    own = _own_jobs()
    jobs = {**own, **others, "palm_and_hand_full": palm_and_hand_full}
    by_onnx = [name for name in own if name.removeprefix("crop_") in BACKENDS]
    ratios = {
        f"{name} to hand_landmark_full": (name, "hand_landmark_full", 1.3) for name in by_onnx
    }
    result = measure(jobs, RATIOS | ratios, FLAGS.rounds, FLAGS.burst)
    result["threads"] = FLAGS.threads
    for name, value in result["times"].items():
        print(f"{name:36}p50 {value['ms_p50']:7.2f} ms, p99 {value['ms_p99']:7.2f} ms")
    for name, value in result["ratios"].items():
        bar = "" if value["bar"] is None else f", bar {value['bar']:g}"
        print(
            f"{name:36}{value['median']:.2f} ({value['quartiles'][0]:.2f} to "
            f"{value['quartiles'][1]:.2f}{bar})"
        )
    if FLAGS.json:
        write_json(result, FLAGS.json)


def read_network(archive: str, name: str) -> bytes:
    """The bytes of NAME.tflite in a wheel, in whatever folder, or inside a .task bundle in it.

    Raises:
        InputError: no such file, no zip, or no such network in it.
    """
    try:
        with zipfile.ZipFile(archive) as wheel:
            content = _member(wheel, f"{name}.tflite")
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(
            f"--wheel={archive} can't be read as a zip ({getattr(error, 'strerror', '') or error});"
            " python -m pip download --no-deps mediapipe==0.10.14 fetches it."
        ) from None
    if content is None:
        raise InputError(
            f"--wheel={archive} holds no {name}.tflite; take that of mediapipe 0.10.14."
        )
    return content


def _member(archive, file):
    names = archive.namelist()
    for name in names:
        if name.rpartition("/")[2] == file:
            return archive.read(name)
    for name in names:
        if name.endswith(".task"):
            with zipfile.ZipFile(io.BytesIO(archive.read(name))) as bundle:
                content = _member(bundle, file)
            if content is not None:
                return content
    return None


def _network(name, content) -> Callable[[], object]:
    """A run of a .tflite network on a random image."""
    import tensorflow as tf

    try:
        network = tf.lite.Interpreter(model_content=content, num_threads=FLAGS.threads)
        network.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise InputError(f"--wheel={FLAGS.wheel}: {name}.tflite does not load ({error}).") from None
    (image,) = network.get_input_details()
    values = np.random.default_rng(1).random(image["shape"], np.float32)
    outputs = [output["index"] for output in network.get_output_details()]

    def run():
        network.set_tensor(image["index"], values)
        network.invoke()
        return [network.get_tensor(index) for index in outputs]

    return run


def _own_jobs() -> dict[str, Callable[[], object]]:
    """The exported model on a synthetic frame and its crop, batch 1."""
    import tensorflow as tf

    from benchmarks.predictor import synthetic_frame
    from dgn_tf.conversion import litert, onnx
    from dgn_tf.model_folder import load_network
    from dgn_tf.serving.allow_list import find_version, read_saved_model
    from dgn_tf.serving.runtimes import open_runtime

    folder = find_version(FLAGS.saved_model)
    read_saved_model(folder)  # refuses what a hand model does not need
    network = load_network(folder)
    signatures = tf.saved_model.load(str(folder)).signatures
    frame_mm = synthetic_frame(network.template)
    depth, camera = (tf.constant(value[np.newaxis], tf.float32) for value in frame_mm)
    left = tf.constant([False])
    frame = functools.partial(
        signatures["serving_default"], depth=depth, intrinsics=camera, left=left
    )
    crop = _crop(depth, camera, frame()["centre"], network.config.image_size)
    run = litert.runner(_litert_content(), threads=FLAGS.threads)
    arrays = {name: value.numpy() for name, value in crop.items()}
    inputs = {**arrays, "left": np.array([False])}
    by_onnx = {
        f"crop_{backend}": functools.partial(
            open_runtime(backend, folder, threads=FLAGS.threads).run, "crop", inputs
        )
        for backend in BACKENDS[1:]
        if onnx.file_of(folder, "crop").is_file() and importlib.util.find_spec(backend)
    }
    return {
        **by_onnx,
        "crop": lambda: signatures["crop"](**crop, left=left)["vertices"].numpy(),
        "crop_litert": lambda: run(**arrays)["vertices"],
        "frame": lambda: frame()["vertices"].numpy(),
    }


def _litert_content() -> bytes:
    try:
        return pathlib.Path(FLAGS.litert).read_bytes()
    except OSError as error:
        raise InputError(f"--litert={FLAGS.litert} can't be read: {error.strerror}.") from None


def _crop(depth, camera, centre, size):
    import tensorflow as tf

    from dgn_tf.geometry.camera import crop_depth
    from dgn_tf.serving.module import CUBE_MM

    cube = tf.constant([CUBE_MM])
    crop, crop_camera = crop_depth(depth, camera, centre, cube, size)
    return {"depth": crop, "intrinsics": crop_camera, "centre": centre, "cube": cube}


def measure(jobs: dict, ratios: dict, rounds: int, burst: int) -> dict:
    """Times jobs in alternation, `burst` runs of one in a row.

    Args:
        jobs: name -> what to time.
        ratios: name -> (job above, job below, bar or None).
        rounds: R.
        burst: runs of a job in each round.

    Returns:
        times: job -> {ms_p50, ms_p99} of single runs; ratios: name -> {median, quartiles, bar} over
        the rounds.
    """
    from benchmarks import timing

    single: dict[str, list[float]] = {name: [] for name in jobs}

    def bursts(name):
        for _ in range(burst):
            start = time.perf_counter()
            jobs[name]()
            single[name].append(time.perf_counter() - start)

    seconds = timing.alternate({name: functools.partial(bursts, name) for name in jobs}, rounds)
    times = {
        # The first burst warmed up.
        name: {f"ms_p{q}": 1e3 * float(np.percentile(values[burst:], q)) for q in (50, 99)}
        for name, values in single.items()
    }
    spread = {}
    for name, (above, below, bar) in ratios.items():
        low, middle, high = np.percentile(seconds[above] / seconds[below], [25, 50, 75])
        spread[name] = {"median": float(middle), "quartiles": [float(low), float(high)], "bar": bar}
    return {"times": times, "ratios": spread}


if __name__ == "__main__":
    assume_frozen_weights()
    errors.run(main)
