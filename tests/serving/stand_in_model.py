"""Versions of a SavedModel, loaded and run as TensorFlow Serving does: by a C++ session.

A session feeds what it is given: unlike a `ConcreteFunction` in Python it checks no shape against
the signature, so that what a request is refused with here is what the model's own checks say.
"""

import pathlib
import threading

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from benchmarks.memory import return_free_memory


class StatusError(Exception):
    """An error of the server: `code` is the name of gRPC's status."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


_CODES = {
    tf.errors.InvalidArgumentError: "INVALID_ARGUMENT",
    tf.errors.ResourceExhaustedError: "RESOURCE_EXHAUSTED",
    tf.errors.FailedPreconditionError: "FAILED_PRECONDITION",
    tf.errors.UnimplementedError: "UNIMPLEMENTED",
    tf.errors.DataLossError: "DATA_LOSS",
    tf.errors.NotFoundError: "NOT_FOUND",
    tf.errors.OutOfRangeError: "OUT_OF_RANGE",
}


class Version:
    """One version: its signatures, and a session that runs them."""

    def __init__(self, folder):
        self.number = int(pathlib.Path(folder).name)
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph)
        with graph.as_default():
            meta = tf.compat.v1.saved_model.load(self._session, ["serve"], str(folder))
        self.signatures = dict(meta.signature_def)
        self._callables: dict[tuple, object] = {}
        self._ran: set[tuple] = set()
        self._lock = threading.Lock()

    def run(self, signature: str, inputs: dict, output_filter=()) -> dict:
        """Outputs by name, numpy; raises StatusError as the server answers."""
        signature = signature or "serving_default"
        if signature not in self.signatures:
            raise StatusError(
                "FAILED_PRECONDITION", f'Serving signature key "{signature}" not found.'
            )
        spec = self.signatures[signature]
        if set(inputs) != set(spec.inputs):
            sent, wanted = sorted(inputs), sorted(spec.inputs)
            raise StatusError(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(sent)}!="
                f"{len(wanted)} len({{{','.join(sent)}}}) != len({{{','.join(wanted)}}}). Sent "
                f"extra: {{{','.join(sorted(set(sent) - set(wanted)))}}}. Missing but required: "
                f"{{{','.join(sorted(set(wanted) - set(sent)))}}}.",
            )
        outputs = tuple(output_filter) or tuple(sorted(spec.outputs))
        for name in outputs:
            if name not in spec.outputs:
                raise StatusError(
                    "INVALID_ARGUMENT", f"output tensor alias not found in signature: {name}"
                )
        try:
            values = self._callable(signature, outputs)(*(inputs[name] for name in spec.inputs))
        except tf.errors.OpError as error:
            raise StatusError(_CODES.get(type(error), "INTERNAL"), error.message) from None
        except (TypeError, ValueError) as error:  # numpy values that make no tensor
            raise StatusError("INVALID_ARGUMENT", str(error)) from None
        if (signature, outputs) not in self._ran:
            self._ran.add((signature, outputs))
            return_free_memory()  # what optimising the graph for its first run has left
        return dict(zip(outputs, values, strict=True))

    def _callable(self, signature, outputs):
        with self._lock:
            key = (signature, outputs)
            if key not in self._callables:
                spec = self.signatures[signature]
                options = config_pb2.CallableOptions(
                    feed=[info.name for info in spec.inputs.values()],
                    fetch=[spec.outputs[name].name for name in outputs],
                )
                # `make_callable` compares shapes, as `run` does; this one does not.
                self._callables[key] = self._session._make_callable_from_options(options)
            return self._callables[key]


class Versions:
    """The newest `keep` versions of a model folder, looked for again every `poll_s` seconds.

    Args:
        folder: holds the versions' folders.
        name: of the model.
        labels: label to version.
        keep: how many versions are served.
        poll_s: seconds between two looks.
    """

    def __init__(self, folder, name="dgn", labels=None, keep=1, poll_s=1.0):
        self.name, self.labels = name, dict(labels or {})
        self._folder, self._keep = pathlib.Path(folder), keep
        self._versions: dict[int, Version] = {}
        self._stop = threading.Event()
        self.look()
        self._thread = threading.Thread(target=self._poll, args=(poll_s,), daemon=True)
        self._thread.start()

    @property
    def numbers(self) -> list[int]:
        """Versions that are served, newest first."""
        return sorted(self._versions, reverse=True)

    def look(self):
        """Loads what is new, then drops what is too old: some version answers at any time."""
        found = sorted(
            (
                int(entry.name)
                for entry in self._folder.iterdir()
                if entry.name.isdigit() and (entry / "saved_model.pb").is_file()
            ),
            reverse=True,
        )[: self._keep]
        served = dict(self._versions)
        for number in found:
            if number not in served:
                served[number] = Version(self._folder / str(number))
                self._versions = dict(served)
        self._versions = {number: served[number] for number in found}

    def get(self, name, number=None, label=None) -> Version:
        """The version of a request; raises StatusError."""
        if label:
            if label not in self.labels:
                raise StatusError(
                    "INVALID_ARGUMENT", f"Unrecognized servable version label: {label}"
                )
            number = self.labels[label]
        versions = self._versions
        if name != self.name or (number is not None and number not in versions):
            wanted = f"Latest({name})" if number is None else f"Specific({name}, {number})"
            raise StatusError("NOT_FOUND", f"Servable not found for request: {wanted}")
        return versions[max(versions) if number is None else number]

    def close(self):
        """Stops looking."""
        self._stop.set()
        self._thread.join()

    def _poll(self, seconds):
        while not self._stop.wait(seconds):
            self.look()


def array_of_json(value, info) -> np.ndarray:
    """A JSON value as the array that a signature's input `info` wants; raises StatusError."""
    dtype = tf.dtypes.as_dtype(info.dtype).as_numpy_dtype
    try:
        return np.array(_decoded(value), dtype)
    except (TypeError, ValueError) as error:
        raise StatusError("INVALID_ARGUMENT", f"JSON Value can't be a tensor: {error}") from None


def _decoded(value):
    """`value` with each {"b64": ...} in it turned into bytes."""
    import base64

    if isinstance(value, dict):
        return base64.b64decode(value["b64"], validate=True)
    return (
        [_decoded(item) for item in value]
        if isinstance(value, list) and _holds_dict(value)
        else value
    )


def _holds_dict(value):
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, dict)
