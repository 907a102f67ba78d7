"""Exported forms of a model, SavedModels and LiteRT files, loaded to be timed."""

import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from dgn_tf.errors import InputError

CROP, FRAME = "crop", "frame"  # what goes in; a mesh comes out


def check_form(path: str, flag: str = "--forms") -> pathlib.Path:
    """The file or version's folder behind `path`: a model folder, a version or a .tflite file.

    Raises:
        InputError: there is none, or it has ops that are not allowed; the message names the flag.
    """
    file = pathlib.Path(path)
    if file.suffix == ".tflite":
        if not file.is_file():
            raise InputError(
                f"{flag}: {path} does not exist; python -m dgn_tf.export --litert "
                "writes such files."
            )
        return file
    from dgn_tf.serving.allow_list import find_version, read_saved_model

    try:
        version = find_version(path)
        read_saved_model(version)
    except InputError as error:
        raise InputError(str(error).replace("--saved_model", flag, 1)) from None
    return version


def load_form(path: str, flag: str = "--forms"):
    """The form at `path`, loaded; see `check_form`."""
    found = check_form(path, flag)
    return LiteRTForm(found) if found.suffix == ".tflite" else SavedModelForm(found)


class SavedModelForm:
    """A SavedModel that `dgn_tf.export` made."""

    kinds = (CROP, FRAME)
    batches = True

    def __init__(self, folder):
        self._model = tf.saved_model.load(str(folder))
        self._signatures = {
            CROP: self._model.signatures["crop"],
            FRAME: self._model.signatures["serving_default"],
        }
        self.megabytes = _megabytes(folder)

    def job(self, kind: str, inputs: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
        """What turns a batch of that kind, in memory as numpy, into vertices [B, V, 3] mm."""
        signature = self._signatures[kind]
        left = np.zeros([len(inputs["depth"])], bool)

        def run():
            given = {name: tf.constant(value) for name, value in inputs.items()}
            return signature(**given, left=tf.constant(left))["vertices"].numpy()

        return run


class LiteRTForm:
    """A LiteRT file that `dgn_tf.export --litert` made: one crop at a time."""

    kinds = (CROP,)
    batches = False

    def __init__(self, file, threads: int | None = None):
        from dgn_tf.conversion import litert

        threads = threads or tf.config.threading.get_intra_op_parallelism_threads() or 2
        self._run = litert.runner(pathlib.Path(file).read_bytes(), threads)
        self.megabytes = _megabytes(file)

    def job(self, kind: str, inputs: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
        """See `SavedModelForm.job`; of one crop."""
        return lambda: self._run(**inputs)["vertices"]


def _megabytes(path) -> float:
    path = pathlib.Path(path)
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files) / 2**20
