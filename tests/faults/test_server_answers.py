"""A client and hostile servers: an InputError in one line, in time, or the right mesh."""

import gzip
import json
import random
import time

import numpy as np
import pytest

import dgn_tf
from dgn_tf.errors import InputError
from tests.exported_model import INTRINSICS, blob_frame, exported_model
from tests.faults.hostile_server import HostileServer, send
from tests.faults.mutations import HOW_MANY, mutated

pytest.importorskip("requests")
FRAME = blob_frame().round()


@pytest.fixture(scope="module")
def predictor():
    return dgn_tf.HandMeshPredictor(exported_model(), INTRINSICS)


@pytest.fixture(scope="module")
def good(predictor):
    """Outputs [1, ...] of the model, as lists, and its signature `hand`."""
    inputs = {"depth": FRAME[None], "intrinsics": INTRINSICS[None], "left": np.array([False])}
    outputs, description = predictor._run("serving_default", inputs, "frame")
    faces = description.faces
    hand = {
        "description": [json.dumps(description.info)] * 2,
        "faces": [faces["right"].tolist(), faces["left"].tolist()],
    }
    return {name: value.tolist() for name, value in outputs.items()}, hand


@pytest.fixture(scope="module")
def server():
    with HostileServer() as server:
        yield server


def reply(outputs) -> bytes:
    return json.dumps({"outputs": outputs}).encode()


@pytest.fixture
def ask(server, good):
    """Asks with the answers given; others are the right ones. Returns the mesh."""

    def ask(png=None, hand=None, timeout_s=20.0):
        whole = {"png": reply(good[0]), "hand": reply(good[1])}
        given = {name: value for name, value in (("png", png), ("hand", hand)) if value is not None}
        server.answers = {**whole, **given}
        client = dgn_tf.HandMeshClient(
            rest=server.url, intrinsics=INTRINSICS, timeout_s=timeout_s, retries=0
        )
        with client:
            return client(FRAME, name="frame 7")

    return ask


def refused(ask, **answers):
    with pytest.raises(InputError, match="^frame 7: ") as error:
        ask(**answers)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_right_answer_is_the_predictors(ask, predictor):
    np.testing.assert_allclose(ask().vertices, predictor(FRAME).vertices, atol=1e-3)


def drip_headers(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(100):
        handler.wfile.write(b"X-%d: a\r\n" % number)
        handler.wfile.flush()
        time.sleep(0.1)


def drip_body(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)


def silent(_):
    time.sleep(5)


@pytest.mark.parametrize("answer", [drip_headers, drip_body, silent])
def test_a_slow_server_does_not_outlast_the_deadline(answer, ask):
    start = time.monotonic()
    assert "deadline of 0.5 s" in refused(ask, png=answer, timeout_s=0.5)
    assert time.monotonic() - start < 2.0


@pytest.fixture
def proxied(server, monkeypatch):
    """The server is a proxy that the environment names, between the client and another host."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, server.url)
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def ask(scheme="http", timeout_s=20.0):
        client = dgn_tf.HandMeshClient(
            rest=f"{scheme}://models.test:8501",
            intrinsics=INTRINSICS,
            timeout_s=timeout_s,
            retries=0,
        )
        with client:
            return client(FRAME, name="frame 7")

    return ask


@pytest.mark.parametrize("answer", [drip_headers, drip_body, silent])
def test_a_slow_proxy_of_the_environment_does_not_outlast_the_deadline(
    answer, proxied, server, good, predictor
):
    server.answers = {"png": reply(good[0]), "hand": reply(good[1])}
    np.testing.assert_allclose(proxied().vertices, predictor(FRAME).vertices, atol=1e-3)
    for signature in ("png", "hand"):
        server.answers = {"png": reply(good[0]), "hand": reply(good[1]), signature: answer}
        start = time.monotonic()
        assert "deadline of 0.5 s" in refused(proxied, timeout_s=0.5)
        assert time.monotonic() - start < 2.0


@pytest.mark.parametrize("answer", [drip_headers, silent])
def test_a_slow_tunnel_through_a_proxy_does_not_outlast_the_deadline(answer, proxied, server):
    server.tunnel = answer
    start = time.monotonic()
    assert "deadline of 0.5 s" in refused(proxied, scheme="https", timeout_s=0.5)
    assert time.monotonic() - start < 2.0


def test_no_connection_is_opened_or_used_after_the_deadline(server):
    from dgn_tf.serving import client_deadline

    with client_deadline.session() as session, client_deadline.deadline(60) as limit:
        limit.end()
        with pytest.raises(OSError, match="deadline has passed"):
            session.post(server.url, json={"signature_name": "png"})


def endless(handler):
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(2000):
        handler.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")


def packed(handler):
    send(handler, gzip.compress(bytes(2**28)), Content_Encoding="gzip")


def elsewhere(handler):
    send(handler, b"", 307, Location="http://127.0.0.1:1/")


def not_http(handler):
    handler.wfile.write(bytes(range(256)))
    handler.close_connection = True


def cut(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    handler.close_connection = True


@pytest.mark.parametrize(
    "answer",
    [
        *(endless, packed, elsewhere, not_http, cut),
        *(b"", b"null", b"[1]", b"<html>", b'{"outputs": 5}', b'{"outputs": {}}'),
        *(b"[" * 10**6, b'{"outputs":' * 10**5, b'{"outputs":{"found":' + b"9" * 10**4 + b"}}"),
        lambda handler: send(handler, b"[" * 10**6, 500),
    ],
)
def test_what_is_no_answer_is_refused(answer, ask):
    refused(ask, png=answer)


CHANGES = {
    "vertices": lambda v: [
        *(5, None, "abc", [], [[]], v * 2, [[[1, 2, 3], [1]]], [v[0][:-1]], (np.array(v) * np.nan)),
        *(np.array(v)[:, :, :2], np.array(v) * 1e300, [[[True] * 3] * len(v[0])]),
    ],
    "keypoints": lambda v: [5, [1, 2], np.array(v) + np.inf, [v[0][:5]]],
    "transforms": lambda v: [np.array(v)[:, :, :3, :3], [v[0][0]], np.array(v) * np.nan],
    "joint_angles": lambda v: [[[[0, 0, 0]] * 3], np.array(v) * np.nan],
    "confidence": lambda v: [[[0.5] * 3], np.array(v) * np.nan, np.array(v) + 7],
    "valid": lambda v: [[[[True] * 3] * 3], np.array(v).astype(int), "x"],
    "mesh_coords": lambda _: [[[[0, 0]]]],
    "centre": lambda _: [[[np.nan] * 3], [[1e9] * 3], [1, 2, 3]],
    "found": lambda _: ["yes", ["yes"], None, [None], [1], True, [[True]], []],
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_outputs_of_another_shape_kind_or_size_are_refused(name, ask, good):
    for value in CHANGES[name](good[0][name]):
        value = value.tolist() if isinstance(value, np.ndarray) else value
        refused(ask, png=reply({**good[0], name: value}))
    refused(ask, png=reply({key: value for key, value in good[0].items() if key != name}))


def test_a_description_is_not_believed(ask, good):
    hand, info = good[1], json.loads(good[1]["description"][0])
    for faces in (
        *([], [[], []], [[[0, 1, 10**9]]] * 2, [[[0, 1, -5]]] * 2, [[[0, 1]]] * 2, None, "abc"),
        [hand["faces"][0]] * 2,
        [[[0.5, 1, 2]]] * 2,
    ):
        refused(ask, hand=reply({**hand, "faces": faces}))
    for text in ("[1]", "<a>", "[" * 10**5, "", None, 5):
        refused(ask, hand=reply({**hand, "description": [text] * 2}))
    for change in ({"cube_mm": 0}, {"keypoint_names": 5}, {"grid_size": 0}, {"part_names": ["a"]}):
        refused(ask, hand=reply({**hand, "description": [json.dumps({**info, **change})] * 2}))
    refused(ask, hand=reply({}))


@pytest.mark.parametrize("count", HOW_MANY)
@pytest.mark.parametrize("signature", ["png", "hand"])
def test_damaged_answers_never_crash(signature, count, ask, good):
    rng = random.Random(41)
    content = reply(good[0] if signature == "png" else good[1])
    for _ in range(count):
        try:
            mesh = ask(**{signature: mutated(content, rng)})
        except InputError as error:
            assert str(error).startswith("frame 7: ") and "\n" not in str(error)
            continue
        # JSON has no check sum: a digit may differ, and nothing else.
        assert np.isfinite(mesh.vertices).all() and mesh.faces.max() < len(mesh.vertices)


def tensor(value):
    import tensorflow as tf

    return tf.make_tensor_proto(value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: setattr(t, "dtype", 999), "type"),
        (lambda t: setattr(t, "tensor_content", b"abc"), "cut"),
        (lambda t: setattr(t, "tensor_content", b"abcd"), "values"),
        (lambda t: t.tensor_shape.dim.add(size=200_000), "values"),
        (lambda t: t.tensor_shape.dim.add(size=-1), "shape"),
        (lambda t: (t.ClearField("tensor_content"), t.float_val.append(1.0)), "values"),
        (lambda t: setattr(t.tensor_shape, "unknown_rank", True), "shape"),
        (lambda t: t.CopyFrom(tensor(["a"])), ""),
    ],
)
def test_a_tensor_has_as_many_values_as_its_shape_says(edit, message):
    from dgn_tf.serving.client_grpc import _array

    value = tensor(np.zeros([1, 5, 3], np.float32))
    np.testing.assert_array_equal(_array("vertices", value), np.zeros([1, 5, 3]))
    edit(value)
    if message:
        with pytest.raises(ValueError, match=message):
            _array("vertices", value)
    else:
        assert _array("vertices", value).dtype == object  # refused by its type later


@pytest.mark.parametrize("kind", [np.float32, bool, np.int32])
@pytest.mark.parametrize("shape", [(1,), (2, 64, 3), (0, 3)])
def test_a_tensor_in_fields_has_the_numbers_of_one_in_raw_content(kind, shape):
    pytest.importorskip("tensorflow_serving.apis")
    import tensorflow as tf

    from dgn_tf.serving.client_grpc import _array
    from tests.serving.stand_in_server import tensor_proto

    values = np.random.default_rng(5).integers(-3, 3, shape).astype(kind)
    fields = tensor_proto(values)
    for value in (fields, tensor(values)):
        np.testing.assert_array_equal(tf.make_ndarray(value), values)
        found = _array("vertices", value)
        np.testing.assert_array_equal(found, values)
        assert found.dtype == kind and found.flags.writeable
    fields.double_val.append(3.0)  # a later field, which does not belong there
    fields.MergeFromString(b"\xfa\x3e\x02ab")  # one that TensorFlow does not know
    np.testing.assert_array_equal(_array("vertices", fields), values)


@pytest.mark.parametrize("count", HOW_MANY)
def test_damaged_tensors_are_refused_or_of_their_size(count):
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import tensor_pb2

    from dgn_tf.serving.client_grpc import _array

    rng = random.Random(43)
    content = tensor(np.ones([1, 5, 3], np.float32)).SerializeToString()
    for _ in range(10 * count):
        value = tensor_pb2.TensorProto()
        try:
            value.ParseFromString(mutated(content, rng))
            assert _array("vertices", value).nbytes < 1000
        except (DecodeError, ValueError):
            pass
