"""What runs a model's signatures: TensorFlow, or ONNX Runtime or OpenVINO with its ONNX files.

Each takes numpy arrays by name and gives numpy arrays by name, as the SavedModel's signatures do.
"""

import importlib
import os

import numpy as np

from dgn_tf.errors import InputError, reason
from dgn_tf.serving import allow_list
from dgn_tf.serving.session_model import SessionModel

BACKENDS = ("tensorflow", "onnxruntime", "openvino")
_MOST_THREADS = 4  # of one frame: its operations are small


def open_runtime(backend: str, folder, proto=None, threads: int = 0) -> "SessionModel | OnnxFiles":
    """The runtime of a model's version `folder`.

    Args:
        backend: one of `BACKENDS`.
        folder: of the version.
        proto: the SavedModel as `allow_list.read_saved_model` read it; None: it is read.
        threads: of ONNX Runtime and OpenVINO; 0: the processors, at most four.

    Raises:
        InputError: no such backend, it is not installed, or the model or its files can't be used.
    """
    if backend == "tensorflow":
        proto = allow_list.read_saved_model(folder) if proto is None else proto
        return SessionModel(proto, folder)
    if backend not in BACKENDS:
        raise InputError(f"backend {backend!r} is not one of {', '.join(BACKENDS)}.")
    try:
        importlib.import_module("onnx")
        importlib.import_module(backend)
    except ImportError:
        extra = "onnx" if backend == "onnxruntime" else "onnx,openvino"
        raise InputError(
            f"backend {backend} is not installed: pip install 'dgn_tf[{extra}]'."
        ) from None
    opened = _with_onnxruntime if backend == "onnxruntime" else _with_openvino
    return OnnxFiles(folder, opened, threads or min(os.cpu_count() or 1, _MOST_THREADS))


class OnnxFiles:
    """The ONNX files beside a version, each opened when it is first asked for.

    Args:
        folder: of the version.
        opened: of a file's bytes and the number of threads to a function from a list of arrays by
            name to a list of outputs, and the outputs' names.
        threads: see `open_runtime`.

    Raises:
        InputError: none of them is there, or the first is damaged, of another model, or holds what
            is not allowed.
    """

    def __init__(self, folder, opened, threads: int):
        from dgn_tf.conversion import onnx

        self._folder, self._opened, self._onnx = folder, opened, onnx
        self._threads = threads
        self._model = onnx.fingerprint(folder)
        self._functions: dict = {}
        self.signatures = [name for name in onnx.SIGNATURES if onnx.file_of(folder, name).is_file()]
        self._function((self.signatures or onnx.SIGNATURES)[0])

    def run(self, signature: str, inputs: dict) -> dict:
        function, names = self._function(signature)
        try:
            outputs = function({key: np.asarray(value) for key, value in inputs.items()})
        except Exception as error:  # runtimes raise kinds of their own
            raise ValueError(reason(error)) from None
        return {
            name.removesuffix(self._onnx.PASSED): value
            for name, value in zip(names, outputs, strict=True)
        }

    def _function(self, signature: str):
        if signature not in self._functions:
            file = self._onnx.file_of(self._folder, signature)
            content, properties = self._onnx.read(file)
            if properties.get(self._onnx.SAVED_MODEL) != self._model:
                raise InputError(
                    f"{file} is of another model than {self._folder}; export both anew with "
                    "python -m dgn_tf.export --onnx."
                )
            try:
                self._functions[signature] = self._opened(content, self._threads)
            except Exception as error:  # as above
                raise InputError(f"{file} can't be loaded ({reason(error)}).") from None
        return self._functions[signature]


def _with_onnxruntime(content: bytes, threads: int):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors, which are raised anyway
    session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: session.run(names, inputs), names


def _with_openvino(content: bytes, threads: int):
    import openvino

    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",  # some processors' default is bfloat16
    }
    compiled = core.compile_model(core.read_model(content), "CPU", settings)
    names = [output.get_any_name() for output in compiled.outputs]

    def run(inputs):
        # Copies: the arrays are the request's own, which the next call fills.
        return [np.array(value) for value in compiled(inputs).values()]

    return run, names
