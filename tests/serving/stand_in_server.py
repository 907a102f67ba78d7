"""A stand-in for TensorFlow Serving, for tests: its APIs before a plain TensorFlow session.

    python -m tests.serving.stand_in_server --model_base_path=saved_models/dgn

It is none: no batching, no warm-up, no TLS, and Python threads. What it shares with the server are
the official protos, the names of errors, and the C++ session below.
"""

import argparse
import concurrent.futures
import http.server
import json
import threading
import time

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format, wrappers_pb2
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from dgn_tf.serving.inference_only import assume_frozen_weights
from tests.serving.stand_in_model import StatusError, Version, Versions, array_of_json

_HTTP_OF_CODE = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class StandInServer:
    """Serves a model over gRPC and REST on loopback until `close`.

    Args:
        versions: what is served; closed by whoever made it.
        grpc_port, rest_port: 0: any free one; the attributes of that name have it.
        workers: threads that answer gRPC.
        before: called with each Predict request's transport ("grpc" or "rest") before it is
            looked at; may raise StatusError.
    """

    def __init__(self, versions: Versions, grpc_port=0, rest_port=0, workers=16, before=None):
        self.versions = versions
        self.before = before or (lambda transport: None)
        limit = [
            ("grpc.max_receive_message_length", 2**31 - 1),  # as the real server
            ("grpc.max_send_message_length", 2**31 - 1),
        ]
        self._grpc = grpc.server(concurrent.futures.ThreadPoolExecutor(workers), options=limit)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            _PredictionService(self), self._grpc
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(self), self._grpc)
        self.grpc_port = self._grpc.add_insecure_port(f"127.0.0.1:{grpc_port}")
        self._grpc.start()
        handler = type("Handler", (_RestHandler,), {"server_state": self})
        self._rest = _HttpServer(("127.0.0.1", rest_port), handler)
        self.rest_port = self._rest.server_address[1]
        self._thread = threading.Thread(target=self._rest.serve_forever, daemon=True)
        self._thread.start()

    def close(self):
        """Stops both services."""
        self._grpc.stop(None).wait()
        self._rest.shutdown()
        self._rest.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def find(self, spec) -> Version:
        """The version that a ModelSpec means."""
        number = spec.version.value if spec.HasField("version") else None
        return self.versions.get(spec.name, number, spec.version_label)

    def metadata(self, version):
        """GetModelMetadataResponse of a version."""
        reply = get_model_metadata_pb2.GetModelMetadataResponse()
        reply.model_spec.name = self.versions.name
        reply.model_spec.version.value = version.number
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, spec in version.signatures.items():
            signatures.signature_def[name].CopyFrom(spec)
        reply.metadata["signature_def"].Pack(signatures)
        return reply

    def status(self, numbers):
        """GetModelStatusResponse of versions, all of which are served."""
        reply = get_model_status_pb2.GetModelStatusResponse()
        for number in numbers:
            reply.model_version_status.add(
                version=number, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE
            ).status.SetInParent()
        return reply


def _aborting(method):
    """Turns a StatusError into the call's gRPC status."""

    def guarded(self, request, context):
        try:
            return method(self, request)
        except StatusError as error:
            context.abort(grpc.StatusCode[error.code], str(error))

    return guarded


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, server):
        self._server = server

    @_aborting
    def Predict(self, request, context=None):
        self._server.before("grpc")
        version = self._server.find(request.model_spec)
        try:
            inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        except (TypeError, ValueError) as error:
            raise StatusError("INVALID_ARGUMENT", f"tensor parsing error: {error}") from None
        outputs = version.run(request.model_spec.signature_name, inputs, request.output_filter)
        reply = predict_pb2.PredictResponse(model_spec=request.model_spec)
        reply.model_spec.version.value = version.number
        for name, value in outputs.items():
            reply.outputs[name].CopyFrom(tensor_proto(value))
        return reply

    @_aborting
    def GetModelMetadata(self, request, context=None):
        return self._server.metadata(self._server.find(request.model_spec))


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, server):
        self._server = server

    @_aborting
    def GetModelStatus(self, request, context=None):
        version = self._server.find(request.model_spec)
        chosen = request.model_spec.HasField("version") or request.model_spec.version_label
        return self._server.status([version.number] if chosen else self._server.versions.numbers)


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _RestHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: StandInServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer(self._get)

    def do_POST(self):
        self._answer(self._post)

    def _answer(self, method):
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            reply, code = method(content), 200
        except StatusError as error:
            reply, code = {"error": str(error)}, _HTTP_OF_CODE.get(error.code, 500)
        body = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _get(self, _):
        path, state = self.path, self.server_state
        if path.endswith("/metadata"):
            version = self._find(path.removesuffix("/metadata"))
            return json_format.MessageToJson(
                state.metadata(version), preserving_proto_field_name=True
            )
        version = self._find(path)
        chosen = "/versions/" in path or "/labels/" in path
        status = state.status([version.number] if chosen else state.versions.numbers)
        return json_format.MessageToJson(
            status, preserving_proto_field_name=True, including_default_value_fields=True
        )

    def _post(self, content):
        state = self.server_state
        state.before("rest")
        path, _, verb = self.path.rpartition(":")
        if verb != "predict":
            raise StatusError("INVALID_ARGUMENT", f"Malformed request: POST {self.path}")
        version = self._find(path)
        try:
            body = json.loads(content)
            signature = body.get("signature_name", "serving_default")
            rows = "instances" in body
            given = body["instances"] if rows else body["inputs"]
            if rows:
                given = {name: [row[name] for row in given] for name in given[0]}
            given = dict(given.items())
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise StatusError("INVALID_ARGUMENT", f"JSON Parse error: {error!r}") from None
        spec = version.signatures.get(signature)
        wanted = spec.inputs if spec else {}
        inputs = {
            name: array_of_json(value, wanted[name]) if name in wanted else np.array(0)
            for name, value in given.items()
        }
        outputs = {name: _jsonable(value) for name, value in version.run(signature, inputs).items()}
        if not rows:
            return {"outputs": outputs}
        count = len(next(iter(outputs.values())))
        return {
            "predictions": [
                {name: value[row] for name, value in outputs.items()} for row in range(count)
            ]
        }

    def _find(self, path) -> Version:
        parts = path.strip("/").split("/")
        if parts[:2] != ["v1", "models"] or len(parts) not in (3, 5):
            raise StatusError("INVALID_ARGUMENT", f"Malformed request: {path}")
        number = label = None
        if len(parts) == 5:
            kind, value = parts[3:]
            if kind == "labels":
                label = value
            elif kind == "versions" and value.isdigit():
                number = int(value)
            else:
                raise StatusError("INVALID_ARGUMENT", f"Malformed request: {path}")
        return self.server_state.versions.get(parts[2], number, label)


def tensor_proto(array: np.ndarray):
    """A TensorProto as the server writes it: floats and bools in fields, not as raw content.

    Written as the fields' bytes, since number by number it would take longer than the server's
    whole answer.
    """
    tag = {"float32": b"\x2a", "bool": b"\x5a"}.get(array.dtype.name)  # of float_val, bool_val
    if tag is None or not array.size:
        return tf.make_tensor_proto(array)
    made = tensor_pb2.TensorProto(dtype=tf.as_dtype(array.dtype).as_datatype_enum)
    made.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
    sized = wrappers_pb2.BytesValue(value=array.tobytes()).SerializeToString()  # behind its own tag
    made.MergeFromString(tag + sized[1:])
    return made


def _jsonable(value):
    if value.dtype == object:
        return [item.decode() for item in value.ravel()]
    return value.tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_base_path", required=True)
    parser.add_argument("--model_name", default="dgn")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rest_api_port", type=int, default=0)
    parser.add_argument("--workers", type=int, default=8)
    arguments = parser.parse_args()
    assume_frozen_weights()  # as serving/compose.yaml does
    versions = Versions(arguments.model_base_path, arguments.model_name)
    with StandInServer(
        versions, arguments.port, arguments.rest_api_port, arguments.workers
    ) as server:
        print(json.dumps({"grpc": server.grpc_port, "rest": server.rest_port}), flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
