"""Requests as others may send them, by the official protos and over HTTP."""

import concurrent.futures
import io
import json
import re
import struct
import subprocess
import urllib.error
import urllib.request
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.exported_model import INTRINSICS, SIZE, blob_frame, exported_model, signatures

grpc = pytest.importorskip("grpc")
apis = pytest.importorskip("tensorflow_serving.apis")

FRAME = blob_frame()[None]
GOOD = {"depth": FRAME, "intrinsics": INTRINSICS[None], "left": np.array([False])}


def png_of(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


GREY = png_of(blob_frame().astype(np.uint16))
PNG = {
    "png": np.array([GREY], object),
    "intrinsics": INTRINSICS[None],
    "depth_unit": np.float32([1]),
    "left": np.array([False]),
}


@pytest.fixture(scope="module")
def server():
    from tests.serving.stand_in_model import Versions
    from tests.serving.stand_in_server import StandInServer

    versions = Versions(exported_model(), labels={"stable": 1})
    with StandInServer(versions) as server:
        yield server
    versions.close()


@pytest.fixture(scope="module")
def stub(server):
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    limit = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", limit) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def predict(stub, signature, inputs):
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest(
        model_spec={"name": "dgn", "signature_name": signature},
        inputs={name: tf.make_tensor_proto(value) for name, value in inputs.items()},
    )
    reply = stub.Predict(request, timeout=120)
    return {name: tf.make_ndarray(value) for name, value in reply.outputs.items()}


def in_process(signature, inputs):
    outputs = signatures()[signature](**{name: tf.constant(v) for name, v in inputs.items()})
    return {name: value.numpy() for name, value in outputs.items()}


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(
            np.asarray(actual[name], float), expected[name].astype(float), atol=1e-3, err_msg=name
        )


def rest(server, path, body=None):
    """(HTTP status, JSON) of a request."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{server.rest_port}/v1/models/{path}", data)
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_file(width, height, data):
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


BAD = [
    ("serving_default", {"depth": FRAME[0]}, "depth.*not compatible with expected shape"),
    ("serving_default", {"depth": FRAME[..., None]}, "depth.*not compatible with expected shape"),
    ("serving_default", {"depth": FRAME.astype(np.float64)}, "double vs. expect float(?s:.)*depth"),
    ("serving_default", {"depth": FRAME.astype(np.uint16)}, "uint16 vs. expect float(?s:.)*depth"),
    ("serving_default", {"depth": FRAME.astype(str)}, "string vs. expect float(?s:.)*depth"),
    ("serving_default", {"depth": FRAME * np.nan}, "depth: NaN or infinite"),
    ("serving_default", {"depth": FRAME + np.float32(np.inf)}, "depth: NaN or infinite"),
    ("serving_default", {"depth": -FRAME}, "depth: negative"),
    (
        "serving_default",
        {"depth": FRAME[:0], "intrinsics": INTRINSICS[None][:0], "left": np.zeros(0, bool)},
        "batch is empty",
    ),
    ("serving_default", {"intrinsics": np.float32([[0, 300, 160, 120]])}, "fx and fy must be pos"),
    ("serving_default", {"intrinsics": np.float32([[300, -300, 160, 120]])}, "fx and fy must be"),
    ("serving_default", {"intrinsics": np.float32([[np.nan, 1, 1, 1]])}, "intrinsics: NaN"),
    ("serving_default", {"intrinsics": INTRINSICS}, "intrinsics.*not compatible with expected"),
    ("serving_default", {"intrinsics": INTRINSICS[None, :3]}, "intrinsics.*not compatible"),
    ("serving_default", {"left": np.array([[False]])}, "left.*not compatible with expected shape"),
    ("serving_default", {"left": None}, "Missing but required: {left}"),
    ("serving_default", {"right": np.array([True])}, "Sent extra: {right}"),
    ("centred", {"centre": np.float32([[0, 0]])}, "centre.*not compatible with expected shape"),
    (
        "crop",
        {
            "depth": FRAME[:, : SIZE + 8, :SIZE],
            "centre": np.float32([[0, 0, 600]]),
            "cube": np.float32([300]),
        },
        "depth.*not compatible with expected shape",
    ),
    ("hand", {"depth": None, "intrinsics": None, "left": np.array(False)}, "left.*not compatible"),
    ("png", {"png": np.array([[GREY]], object)}, "png.*not compatible with expected shape"),
    ("png", {"png": np.array([b"\x00" * 10**8], object)}, "not a PNG"),  # 100 MB
    ("png", {"png": np.array([png_file(640, 480, bytes(10**8))], object)}, "PNG"),
    (
        "png",
        {"png": np.array([png_file(60_000, 60_000, zlib.compress(bytes(10**7)))], object)},
        "width and height must be",
    ),  # a bomb by its header
    (
        "png",
        {"png": np.array([png_file(8192, 1025, zlib.compress(bytes(10**7)))], object)},
        "product at most",
    ),
    ("png", {"png": np.array([np.random.default_rng(0).bytes(5000)], object)}, "not a PNG"),
    ("png", {"png": np.array([GREY[:40] + np.random.default_rng(1).bytes(5000)], object)}, "PNG"),
]


def bad_request(signature, change):
    base = PNG if signature == "png" else GOOD
    inputs = {**base, **change}
    return {name: value for name, value in inputs.items() if value is not None}


@pytest.mark.parametrize(("signature", "change", "message"), BAD)
def test_a_bad_request_is_refused_in_words_and_the_next_one_answered(
    stub, signature, change, message
):
    with pytest.raises(grpc.RpcError, match=message) as error:
        predict(stub, signature, bad_request(signature, change))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert predict(stub, "serving_default", GOOD)["found"] == [True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": FRAME[0].tolist()}, "depth.*not compatible with expected shape"),
        ({"depth": [[[1, 2], [3]]]}, "can't be a tensor"),
        ({"depth": "deep"}, "can't be a tensor"),
        ({"depth": [[[float("nan")] * 320] * 240]}, "depth: NaN"),
        ({"intrinsics": [[0, 300, 160, 120]]}, "fx and fy must be positive"),
        ({"left": []}, "left: first dimension differs"),
    ],
)
def test_a_bad_rest_request_is_refused_in_words_and_the_next_one_answered(server, change, message):
    inputs = {name: value.tolist() for name, value in GOOD.items()}
    code, reply = rest(server, "dgn:predict", {"inputs": {**inputs, **change}})
    assert code == 400 and re.search(message, reply["error"]), reply
    assert rest(server, "dgn:predict", {"inputs": inputs})[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\xff" * 1000,
        b"[]",
        b"{}",
        b'{"instances": []}',
        b'{"instances": [{}]}',
        b'{"inputs": 3}',
    ],
)
def test_what_is_no_request_is_refused(server, body):
    code, reply = rest(server, "dgn:predict", body)
    assert code == 400 and reply["error"]


def test_rows_and_columns_of_json_give_the_same(server):
    from base64 import b64encode

    encoded = {"b64": b64encode(GREY).decode()}
    row = {"png": encoded, "intrinsics": INTRINSICS.tolist(), "depth_unit": 1.0, "left": False}
    body = {"signature_name": "png", "instances": [row, {**row, "left": True}]}
    code, reply = rest(server, "dgn/versions/1:predict", body)
    assert code == 200 and len(reply["predictions"]) == 2
    two = {name: np.concatenate([value, value]) for name, value in PNG.items()}
    expected = in_process("png", {**two, "left": np.array([False, True])})
    assert_same({name: [row[name] for row in reply["predictions"]] for name in expected}, expected)
    columns = {name: [each[name] for each in body["instances"]] for name in row}
    code, reply = rest(
        server, "dgn/labels/stable:predict", {"signature_name": "png", "inputs": columns}
    )
    assert code == 200
    assert_same(reply["outputs"], expected)


def test_health_and_readiness_are_those_of_the_kit(server):
    code, status = rest(server, "dgn")
    assert code == 200 and status["model_version_status"][0]["state"] == "AVAILABLE"
    code, metadata = rest(server, "dgn/metadata")
    named = metadata["metadata"]["signature_def"]["signature_def"]
    assert code == 200 and {"serving_default", "centred", "crop", "png", "hand"} <= set(named)
    assert rest(server, "other")[0] == 404


def test_the_composes_health_check_tells_a_served_model_from_none(server, checkout):
    text = (checkout / "serving" / "compose.yaml").read_text()
    script = " ".join(re.search(r">-\n(.+?)\n    interval", text, re.S)[1].split())
    assert script.count("8501") == 1
    script = script.replace("8501", str(server.rest_port))
    run = [
        subprocess.run(
            ["bash", "-c", script.replace("models/dgn", f"models/{name}")], capture_output=True
        ).returncode
        for name in ("dgn", "other")
    ]
    assert run[0] == 0 and run[1] != 0


def test_status_and_metadata_over_grpc(server):
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
        prediction_service_pb2_grpc,
    )

    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(
            get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "dgn"})
        )
        reply = prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata(
            get_model_metadata_pb2.GetModelMetadataRequest(
                model_spec={"name": "dgn"}, metadata_field=["signature_def"]
            )
        )
    assert [(v.version, v.state) for v in status.model_version_status] == [(1, 30)]
    signature_map = get_model_metadata_pb2.SignatureDefMap()
    assert reply.metadata["signature_def"].Unpack(signature_map)
    assert signature_map.signature_def["crop"].inputs["depth"].dtype == tf.float32.as_datatype_enum


def test_many_requests_at_once_are_all_answered_and_none_gets_anothers_answer(stub):
    frames = [blob_frame(u=120 + 10 * i, v=90 + 5 * i, z=500 + 30 * i) for i in range(8)]
    expected = [in_process("serving_default", {**GOOD, "depth": frame[None]}) for frame in frames]

    def client(number):
        for turn in range(30):
            index = (number + turn) % len(frames)
            actual = predict(stub, "serving_default", {**GOOD, "depth": frames[index][None]})
            assert_same(actual, expected[index])
        return 30

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(client, range(8))) == 240
