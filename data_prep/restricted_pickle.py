"""Reads pickles of others: numpy arrays and plain containers, and nothing else."""

import io
import pickle

import numpy as np

from dgn_tf.errors import InputError

# A pickle can call whatever its reader lets it find. These build arrays and scalars of numbers.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
_LARGEST_SIDE = 20_000  # Of a sparse matrix.
# How pickles of protocols 0 and 1 make an object of a class.
_RECONSTRUCTOR = {("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor")}
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
    if max(rows_by_columns) > _LARGEST_SIDE:
        raise ValueError(f"the sparse matrix is {rows_by_columns}, larger than a hand's")
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


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, stand_ins):
        super().__init__(file, encoding="latin1")
        self._stand_ins = stand_ins

    def find_class(self, module, name):
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        if any(module == package or module.startswith(package + ".")
               for package in self._stand_ins):
            return type(name, (StandIn,), {"kind": f"{module}.{name}"})
        if self._stand_ins and (module, name) in _RECONSTRUCTOR:
            return _reconstruct
        if self._stand_ins and (module, name) in _OBJECT:
            return object
        raise pickle.UnpicklingError(f"it wants {module}.{name}")


def _reconstruct(kind, *_):
    if not (isinstance(kind, type) and issubclass(kind, StandIn)):
        raise pickle.UnpicklingError(f"it reconstructs {kind!r}")
    return kind()


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
            return _Unpickler(io.BytesIO(file.read()), stand_ins).load()
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror}); check the path.") from None
    except Exception as error:  # A broken pickle can raise anything.
        raise InputError(f"{path}: refused, not a pickle of numpy arrays and plain containers "
                         f"({error}); use the original file.") from None
