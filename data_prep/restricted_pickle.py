"""Reads pickles of others: numpy arrays and plain containers, and nothing else."""

import io
import math
import pickle
import re
from typing import Literal

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.file_kinds import named_kind

_LARGEST_SIDE = 20_000  # Of a sparse matrix.
_NUMBERS_AND_TEXT = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|[SU][0-9]{1,9})")
_NDARRAY = "numpy.ndarray"  # Stands for the class, which pickles only pass on.
_OBJECT = {("__builtin__", "object"), ("builtins", "object")}


class StandIn:
    """What a pickle has in place of an object of a package that is not imported: its state.

    Attributes:
        kind: "module.Class" that the pickle asked for.
        state: dict of its attributes.
    """

    kind = ""

    def __init__(self, *_):
        self.state: dict = {}

    def __setstate__(self, state):
        self.state = dict(state)


def sparse_matrix(value) -> np.ndarray:
    """Returns the dense [M, N] array of a stand-in for a scipy.sparse.csc_matrix or csr_matrix.

    Raises:
        ValueError, KeyError, TypeError, IndexError: it is no such matrix.
    """
    if isinstance(value, np.ndarray):
        return value
    state, columns = value.state, value.kind.endswith("csc_matrix")
    rows_by_columns = tuple(int(size) for size in state.get("_shape", state.get("shape")))
    if len(rows_by_columns) != 2 or max(rows_by_columns) > _LARGEST_SIDE:
        raise ValueError(f"the sparse matrix is {rows_by_columns}, not a hand's")
    result = np.zeros(rows_by_columns[::-1] if columns else rows_by_columns)
    starts = np.asarray(state["indptr"], np.int64)
    if len(starts) != len(result) + 1:
        raise ValueError("the sparse matrix does not fit its shape")
    major = np.repeat(np.arange(len(result)), np.diff(starts))
    minor = np.asarray(state["indices"], np.int64)
    if minor.size and minor.min() < 0:
        raise ValueError("the sparse matrix names a negative index")
    np.add.at(result, (major, minor), np.asarray(state["data"], np.float64))
    return result.T if columns else result


class _Dtype:
    """In place of a numpy.dtype: a code of numbers or text, and of what is set its byte order."""

    def __init__(self, code, *_):
        if not (isinstance(code, str) and _NUMBERS_AND_TEXT.fullmatch(code)):
            raise pickle.UnpicklingError(f"it wants an array of dtype {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        _, order, *_ = state
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"it wants the byte order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)

    def values(self, shape, data, column_major=False):
        """Returns a copy of the bytes as an array of this dtype, after counting them."""
        if isinstance(data, str):  # As Python 2's are read.
            data = data.encode("latin1")
        if not isinstance(data, bytes):
            raise pickle.UnpicklingError(f"it fills an array with a {type(data).__name__}")
        if not all(type(side) is int and side >= 0 for side in shape):
            raise pickle.UnpicklingError(f"it wants an array of shape {shape!r}")
        if not self.dtype.itemsize or len(data) != math.prod(shape) * self.dtype.itemsize:
            raise pickle.UnpicklingError(f"{len(data)} bytes are no {self.dtype} of shape {shape}")
        order: Literal["F", "C"] = "F" if column_major else "C"
        array = np.frombuffer(data, self.dtype).reshape(shape, order=order).copy("K")
        if self.dtype.kind == "U":
            array.tolist()  # Raises where four bytes are no character.
        return array


class _Array:
    """In place of a numpy.ndarray, which is built when its state is set."""

    __hash__ = None  # type: ignore[assignment]  # As arrays: no key of a dict.

    def __init__(self, kind, *_):
        if kind is not _NDARRAY:
            raise pickle.UnpicklingError(f"it makes an array of {kind!r}")
        self.array = None

    def __setstate__(self, state):
        _, shape, dtype, column_major, data = state
        self.array = _of(dtype).values(shape, data, bool(column_major))


def _of(dtype):
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError(f"it gives {dtype!r} for a dtype")
    return dtype


def _scalar(dtype, data):
    return _of(dtype).values((1,), data)[0]


def _encode(text, encoding="latin1"):
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes to {encoding!r}")
    return text.encode("latin1")


def _new_stand_in(kind, *_):
    if not (isinstance(kind, type) and issubclass(kind, StandIn)):
        raise pickle.UnpicklingError(f"it reconstructs {kind!r}")
    return kind()


# A pickle can call whatever its reader lets it find, with any arguments: numpy's own constructors
# would make arrays of pointers that the file chose.
_CALLABLE = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): lambda: b"",  # How protocols before 3 write an empty array's content.
}
# How pickles of protocols 0 and 1 make an object of a class.
_RECONSTRUCTOR = {("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor")}


def _call_only(function):
    """Returns a function of its own: a pickle can set attributes of whatever it finds."""
    return lambda *arguments: function(*arguments)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, stand_ins):
        super().__init__(file, encoding="latin1")
        self._stand_ins = stand_ins

    def find_class(self, module, name):
        if (module, name) == ("numpy", "ndarray"):
            return _NDARRAY
        if (module, name) in _CALLABLE:
            return _call_only(_CALLABLE[module, name])
        if any(
            module == package or module.startswith(package + ".") for package in self._stand_ins
        ):
            return type(name, (StandIn,), {"kind": f"{module}.{name}"})
        if self._stand_ins and (module, name) in _RECONSTRUCTOR:
            return _call_only(_new_stand_in)
        if self._stand_ins and (module, name) in _OBJECT:
            return object
        raise pickle.UnpicklingError(f"it wants {module}.{name}")


def _with_arrays(value, done):
    """Returns value with the arrays that were built; done: by id, what was met and what it became.

    What was met is kept beside it, lest another object get its id.
    """
    if isinstance(value, _Array):
        if value.array is None:
            raise pickle.UnpicklingError("it holds an array without content")
        return value.array
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, tuple):
        done[id(value)] = value, tuple(_with_arrays(item, done) for item in value)
        return done[id(value)][1]
    if isinstance(value, list | dict | StandIn):
        done[id(value)] = value, value  # Before its items, which may hold it.
    if isinstance(value, list):
        value[:] = [_with_arrays(item, done) for item in value]
    elif isinstance(value, dict):
        value.update({key: _with_arrays(item, done) for key, item in value.items()})
    elif isinstance(value, StandIn):
        value.state = _with_arrays(value.state, done)
    return value


def load(path, stand_ins=()):
    """Returns what a pickle (of Python 2 or 3) of nothing but arrays and containers holds.

    Args:
        path: of the pickle.
        stand_ins: packages whose objects it may hold too. Nothing of them is imported or run: each
            object comes as a `StandIn`.

    Raises:
        InputError: unreadable, not a pickle, or one that asks for anything else, named.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
        return _with_arrays(_Unpickler(io.BytesIO(content), stand_ins).load(), {})
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror}); check the path.") from None
    except Exception as error:  # A broken pickle can raise anything.
        raise InputError(
            f"{path}: refused, not a pickle of numpy arrays and plain containers "
            f"({_why(path, error)}); use the original file."
        ) from None


def _why(path, error) -> str:
    """What the file is, where it is no pickle at all."""
    kind = named_kind(path)
    return kind if kind and "pickle" not in kind else str(error)
