"""Reads pickles of others: numpy arrays and plain containers, and nothing else."""

import io
import pickle

from dgn_tf.errors import InputError

# A pickle can call whatever its reader lets it find. These build arrays and scalars of numbers.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it wants {module}.{name}")
        return super().find_class(module, name)


def load(path):
    """Returns what a pickle (of Python 2 or 3) of nothing but arrays and containers holds.

    Raises:
        InputError: unreadable, not a pickle, or one that asks for anything else, named.
    """
    try:
        with open(path, "rb") as file:
            return _Unpickler(io.BytesIO(file.read()), encoding="latin1").load()
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror}); check the path.") from None
    except Exception as error:  # A broken pickle can raise anything.
        raise InputError(f"{path}: refused, not a pickle of numpy arrays and plain containers "
                         f"({error}); use the original file.") from None
