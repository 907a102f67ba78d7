"""TensorFlow Serving's PredictionService over gRPC, numpy arrays in and out."""

import math
from typing import Any

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.serving.client_deadline import (
    Refused,
    RequestError,
    Unavailable,
    too_late,
    with_retries,
)

# gRPC takes 4 MiB unless told otherwise: three float frames of 640 x 480. The largest frame that
# the model takes has 2**23 pixels, 32 MiB of float32.
MAX_MESSAGE_BYTES = 64 * 2**20
_OPTIONS = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # How soon gRPC itself looks again for a server that was away; the default second is longer
    # than the first pauses between retries, which would all fail without a look.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]

_PACKED = {"float_val": np.dtype("<f4"), "bool_val": np.dtype(np.bool_)}  # as in an array's bytes


class GrpcTransport:
    """One connection to a model.

    Args:
        target: host:port.
        model_name: the server's name of the model.
        version: of the model; None: the label's, or the newest.
        label: of a version, such as "stable"; None: none.
        timeout_s: of a call, its retries included.
        retries: after UNAVAILABLE.
    """

    prefers_png = False  # raw float32 costs bytes, a PNG time: serving/README.md has both

    def __init__(
        self,
        target: str,
        model_name: str,
        version=None,
        label=None,
        timeout_s: float = 10,
        retries: int = 5,
    ):
        try:
            import grpc
            from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
        except ImportError as error:
            raise InputError(
                f"gRPC wants the extra serving ({error}): "
                "python -m pip install 'dgn_tf[serving]', or use --rest."
            ) from None
        self._grpc, self._request = grpc, predict_pb2.PredictRequest
        self._model: dict[str, Any] = {"name": model_name}
        if version is not None:
            self._model["version"] = {"value": version}
        elif label:
            self._model["version_label"] = label
        self._target, self._timeout_s, self._retries = target, timeout_s, retries
        self._channel = grpc.insecure_channel(target, _OPTIONS)
        self._predict = prediction_service_pb2_grpc.PredictionServiceStub(self._channel).Predict

    def predict(self, signature: str, inputs: dict, version: int | None = None):
        """Runs a signature.

        Args:
            signature: its name.
            inputs: name to array, or to a list of bytes.
            version: overrides the transport's.

        Returns:
            Outputs, name to array; and the version that answered.

        Raises:
            RequestError: refused, too late, or still unavailable after the retries.
        """
        model = (
            self._model
            if version is None
            else {"name": self._model["name"], "version": {"value": version}}
        )
        request = self._request(
            model_spec={**model, "signature_name": signature},
            inputs={name: _tensor(value) for name, value in inputs.items()},
        )
        reply = with_retries(
            lambda remaining: self._attempt(request, remaining), self._retries, self._timeout_s
        )
        try:
            outputs = {name: _array(name, value) for name, value in reply.outputs.items()}
        except ValueError as error:
            raise RequestError(f"the server's answer can't be used: {error}") from None
        return outputs, reply.model_spec.version.value

    def close(self):
        """Closes the connection."""
        self._channel.close()

    def _attempt(self, request, remaining):
        try:
            return self._predict(request, timeout=remaining)
        except self._grpc.RpcError as error:
            code, status = error.code(), self._grpc.StatusCode
            details = " ".join((error.details() or "").split())[:300]
            if code == status.UNAVAILABLE:
                raise Unavailable(f"no server answers at {self._target} ({details})") from None
            if code == status.DEADLINE_EXCEEDED:
                raise too_late(self._timeout_s) from None
            raise Refused(f"the server refused it: {code.name}: {details}") from None


def _array(name, value) -> np.ndarray:
    """The array of a TensorProto that holds as many values as its shape says.

    TensorFlow lets one value stand for any number of them, which a few bytes of an answer would
    turn into all of the memory. A server spells them out.
    """
    from tensorflow.core.framework import types_pb2

    shape = [dim.size for dim in value.tensor_shape.dim]
    kind, field = {
        types_pb2.DT_FLOAT: (np.float32, "float_val"),
        types_pb2.DT_BOOL: (np.bool_, "bool_val"),
        types_pb2.DT_INT32: (np.int32, "int_val"),
        types_pb2.DT_STRING: (object, "string_val"),
    }.get(value.dtype, (None, ""))
    if kind is None:
        raise ValueError(f"{name} is of the type {value.dtype}")
    if value.tensor_content and kind is not object:
        if len(value.tensor_content) % np.dtype(kind).itemsize:
            raise ValueError(f"{name} is cut")
        values = np.frombuffer(value.tensor_content, kind)
    elif field in _PACKED:
        values = _packed(value, field)
    else:
        values = getattr(value, field)
    if value.tensor_shape.unknown_rank or min(shape, default=1) < 0:
        raise ValueError(f"{name} has no shape")
    if math.prod(shape) != len(values):
        raise ValueError(f"{name} {shape} has {len(values)} values")
    return np.array(values, kind).reshape(shape)


def _packed(value, field: str) -> np.ndarray:
    """What a field of floats or bools holds, which is how TensorFlow Serving answers.

    Its numbers lie in a message's bytes as they do in an array; to ask for one after the other
    takes a millisecond for each answer.
    """
    alone = type(value)()
    alone.CopyFrom(value)
    alone.DiscardUnknownFields()
    for other, _ in alone.ListFields():
        if other.name != field:
            alone.ClearField(other.name)
    content = alone.SerializeToString()  # a tag, how many bytes follow, and those
    kind, count = _PACKED[field], len(getattr(value, field))
    return np.frombuffer(content, kind, count, len(content) - count * kind.itemsize)


def _tensor(value):
    """A TensorProto whose values are raw bytes, which is the quickest to encode."""
    from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2

    def shape(*sizes):
        dim = tensor_shape_pb2.TensorShapeProto.Dim
        return tensor_shape_pb2.TensorShapeProto(dim=[dim(size=size) for size in sizes])

    if isinstance(value, list):
        return tensor_pb2.TensorProto(
            dtype=types_pb2.DT_STRING, tensor_shape=shape(len(value)), string_val=value
        )
    dtype = types_pb2.DT_BOOL if value.dtype == bool else types_pb2.DT_FLOAT
    content = np.ascontiguousarray(value, None if value.dtype == bool else np.float32).tobytes()
    return tensor_pb2.TensorProto(
        dtype=dtype, tensor_shape=shape(*value.shape), tensor_content=content
    )
