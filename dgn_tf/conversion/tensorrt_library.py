"""Looks for the TensorRT library before TF-TRT does, which aborts the process where it fails.

TensorFlow opens libnvinfer by the name of the major version it was linked against, when TF-TRT is
first used; a host without it ends in `getInferLibVersion symbol not found` and SIGABRT.
"""

import ctypes

from dgn_tf import errors
from dgn_tf.errors import InputError

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
