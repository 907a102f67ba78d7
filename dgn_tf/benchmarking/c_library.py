"""A SavedModel run through TensorFlow's C API: the library alone, without TensorFlow's Python.

TensorFlow Serving's own process holds that library and a session, and no Python. This is there
to measure what such a process takes; it knows the types that hand models have.
"""

import ctypes
import importlib.util
import os

import numpy as np

_Pointer = ctypes.c_void_p
_TYPES = {"float32": 1, "int32": 3, "bool": 10}  # TF_DataType
_RETURN_POINTERS = (
    "TF_NewStatus TF_NewGraph TF_NewSessionOptions TF_LoadSessionFromSavedModel "
    "TF_GraphOperationByName TF_AllocateTensor TF_TensorData"
).split()


class _Output(ctypes.Structure):
    """TF_Output."""

    _fields_ = (("operation", _Pointer), ("index", ctypes.c_int))


class LibrarySession:
    """A session over one signature of a SavedModel.

    Args:
        version: folder of the SavedModel.
        inputs: name -> tensor's name, of the signature.
        outputs: likewise.

    Raises:
        RuntimeError: TensorFlow refused the model; the message is TensorFlow's.
    """

    def __init__(self, version: str, inputs: dict[str, str], outputs: dict[str, str]):
        self._library = _load_library()
        self._status = _Pointer(self._library.TF_NewStatus())
        self._graph = _Pointer(self._library.TF_NewGraph())
        options = _Pointer(self._library.TF_NewSessionOptions())
        tags = (ctypes.c_char_p * 1)(b"serve")
        self._session = _Pointer(
            self._library.TF_LoadSessionFromSavedModel(
                options, None, str(version).encode(), tags, 1, self._graph, None, self._status
            )
        )
        self._check()
        self._library.TF_DeleteSessionOptions(options)
        self._names = list(inputs)
        self._inputs = (_Output * len(inputs))(*map(self._output, inputs.values()))
        self._outputs = (_Output * len(outputs))(*map(self._output, outputs.values()))

    def run(self, given: dict[str, np.ndarray]) -> None:
        """Computes all outputs of a request, and drops them.

        Raises:
            RuntimeError: TensorFlow refused the request.
        """
        fed = (_Pointer * len(self._names))(*(self._tensor(given[name]) for name in self._names))
        fetched = (_Pointer * len(self._outputs))()
        self._library.TF_SessionRun(
            self._session,
            None,
            self._inputs,
            fed,
            len(fed),
            self._outputs,
            fetched,
            len(fetched),
            None,
            0,
            None,
            self._status,
        )
        for tensor in (*fed, *fetched):
            if tensor:
                self._library.TF_DeleteTensor(_Pointer(tensor))
        self._check()

    def _check(self):
        if self._library.TF_GetCode(self._status):
            raise RuntimeError(self._library.TF_Message(self._status).decode())

    def _output(self, tensor):
        name, _, index = tensor.partition(":")
        found = self._library.TF_GraphOperationByName(self._graph, name.encode())
        if not found:
            raise RuntimeError(f"the model has no tensor {tensor}.")
        return _Output(found, int(index or 0))

    def _tensor(self, array):
        array = np.ascontiguousarray(array)
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        tensor = self._library.TF_AllocateTensor(
            _TYPES[array.dtype.name], shape, array.ndim, ctypes.c_size_t(array.nbytes)
        )
        ctypes.memmove(
            self._library.TF_TensorData(_Pointer(tensor)), array.ctypes.data, array.nbytes
        )
        return tensor


def _load_library():
    found = importlib.util.find_spec("tensorflow")  # finds the package without importing it
    if found is None or found.origin is None:
        raise RuntimeError("TensorFlow is not installed.")
    folder = os.path.dirname(found.origin)
    ctypes.CDLL(os.path.join(folder, "libtensorflow_framework.so.2"), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(os.path.join(folder, "libtensorflow_cc.so.2"), ctypes.RTLD_GLOBAL)
    for name in _RETURN_POINTERS:
        getattr(library, name).restype = _Pointer
    library.TF_Message.restype = ctypes.c_char_p
    return library
