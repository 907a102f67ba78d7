"""TF-TRT: the network's forward pass as TensorRT engines (needs the GPU that they are for).

Call `tensorrt_library.require_tensorrt` first: TF-TRT aborts the process where the library is
missing. FP32 hands the whole pass to TensorRT. FP16 and INT8 hand it the networks; geometry, the
extension and the similarity fit stay TensorFlow's and float32 (`accelerator.GEOMETRY`).
"""

import collections
import ctypes
import pathlib

import tensorflow as tf

from dgn_tf import errors
from dgn_tf.conversion.accelerator import for_accelerator
from dgn_tf.errors import InputError
from dgn_tf.network_config import NETWORK_INPUTS
from dgn_tf.serving.module import OF_NETWORK, frozen_forward

_CALIBRATION_BATCH = 8
_SMALLEST_SEGMENT = 3  # ops; TF-TRT's default


def convert(network, precision: str, batch_sizes, crops, folder) -> dict:
    """Writes the converted forward pass as a SavedModel and tells what stayed outside.

    Args:
        network: built `DualGridNet`.
        precision: fp32, fp16 or int8.
        batch_sizes: engines are optimised for each; those between the smallest and the largest
            run too, others fall back to TensorFlow.
        crops: of `representative_crops`: what int8 is calibrated on, and engines are built with.
        folder: must not exist.

    Returns:
        The report: precision, batch sizes, ops of each engine, ops outside, by type.
    """
    folder = pathlib.Path(folder)
    plain = folder.with_name(folder.name + ".plain")
    save_forward(network, precision, plain)
    converter = tf.experimental.tensorrt.Converter(
        input_saved_model_dir=str(plain),
        input_saved_model_signature_key="serving_default",
        use_dynamic_shape=True,
        dynamic_shape_profile_strategy="Range+Optimal",
        precision_mode=precision.upper(),
        minimum_segment_size=_SMALLEST_SEGMENT,
        maximum_cached_engines=len(batch_sizes),
        use_calibration=precision == "int8",
        allow_build_at_runtime=False,  # a server that builds stands still for minutes
    )

    def calibration():
        for start in range(0, len(crops["cube"]) - _CALIBRATION_BATCH + 1, _CALIBRATION_BATCH):
            yield _batch(crops, start, _CALIBRATION_BATCH)

    converted = converter.convert(calibration if precision == "int8" else None)
    report = summary(converted.graph.as_graph_def())
    sizes = sorted({*batch_sizes, *([_CALIBRATION_BATCH] if precision == "int8" else [])})
    converter.build(lambda: (_batch(crops, 0, size) for size in sizes))
    converter.save(str(folder))
    return {"precision": precision, "batch_sizes": sizes, **report}


def save_forward(network, precision: str, folder) -> None:
    """Saves the forward pass in the form that TF-TRT is to convert, float32 weights."""
    with for_accelerator(network, precision != "fp32", OF_NETWORK):
        module = tf.Module()
        module.forward = frozen_forward(network)
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, str(folder), module.forward, options)


def summary(graph_def) -> dict:
    """What a converted graph holds: `engines`, name -> op -> count, and `outside`, op -> count.

    `outside_functions` are the ops in functions that no engine stands for: geometry kept apart.
    """
    functions = {function.signature.name: function for function in graph_def.library.function}
    engines, of_engines = {}, set()
    for node in graph_def.node:
        if node.op == "TRTEngineOp":
            segment = node.attr["segment_func"].func.name or f"{node.name}_native_segment"
            of_engines.add(segment)
            body = functions[segment].node_def if segment in functions else []
            engines[node.name] = _count(body)
    apart = [
        node
        for name, function in functions.items()
        if name not in of_engines
        for node in function.node_def
    ]
    outside = [node for node in graph_def.node if node.op != "TRTEngineOp"]
    return {"engines": engines, "outside": _count(outside), "outside_functions": _count(apart)}


def _count(nodes) -> dict[str, int]:
    return dict(sorted(collections.Counter(node.op for node in nodes).items()))


def _batch(crops, start, size):
    """`size` crops from `start` on, from the first again after the last."""
    import numpy as np

    rows = np.arange(start, start + size) % len(crops["cube"])
    return {name: tf.constant(crops[name][rows]) for name in NETWORK_INPUTS}


# Looks for the TensorRT library before TF-TRT does, which aborts the process where it fails.
#
# TensorFlow opens libnvinfer by the name of the major version it was linked against, when TF-TRT is
# first used; a host without it ends in `getInferLibVersion symbol not found` and SIGABRT.


_LIBRARIES = ("libnvinfer.so", "libnvinfer_plugin.so")


def linked_version() -> tuple[int, int, int]:
    """The TensorRT version that this TensorFlow was built against; (0, 0, 0) for none.

    It is a constant of the build: nothing is opened.
    """
    from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils

    return tuple(_pywrap_py_utils.get_linked_tensorrt_version())


def library_version(name: str) -> tuple[int, int, int]:
    """The version that the libnvinfer called `name` tells.

    Raises:
        OSError: it can't be opened.
        AttributeError: it is no libnvinfer.
    """
    number = ctypes.CDLL(name).getInferLibVersion()
    if number >= 100_000:  # from TensorRT 10 on two digits more
        return number // 10_000, number // 100 % 100, number % 100
    return number // 1000, number // 100 % 10, number % 100


def require_tensorrt() -> tuple[int, int, int]:
    """Makes sure that TF-TRT can be used: call this before anything of `trt_convert`.

    Returns:
        The version found.

    Raises:
        InputError: no library, another version, or no GPU; says what to install.
    """
    wanted = linked_version()
    if not any(wanted):
        raise InputError(
            "--tensorrt: this TensorFlow was built without TensorRT; install the "
            "tensorflow 2.15 wheel for Linux x86-64, or leave --tensorrt out."
        )
    version = ".".join(map(str, wanted))
    remedy = (
        f"pip install 'tensorflow[and-cuda]==2.15.*' tensorrt=={version}.* on a host with an "
        "NVIDIA GPU and put the folder of its libraries into LD_LIBRARY_PATH, or leave "
        "--tensorrt out"
    )
    found = (0, 0, 0)
    for library in _LIBRARIES:
        name = f"{library}.{wanted[0]}"
        try:
            if library == _LIBRARIES[0]:
                found = library_version(name)
            ctypes.CDLL(name)
        except (OSError, AttributeError) as error:
            reason = errors.reason(error)
            raise InputError(
                f"--tensorrt wants {name} (TensorRT {version}, which this TensorFlow "
                f"was built against); found none ({reason}): {remedy}."
            ) from None
    if found < wanted or found[0] != wanted[0]:
        raise InputError(
            f"--tensorrt wants {_LIBRARIES[0]}.{wanted[0]} of TensorRT {version} or a "
            f"later {wanted[0]}; found {'.'.join(map(str, found))}: {remedy}."
        )
    _require_gpu(remedy)
    return found


def _require_gpu(remedy):
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        raise InputError(
            "--tensorrt builds its engines on the GPU that they are for, and "
            f"TensorFlow sees none here: {remedy}."
        )
