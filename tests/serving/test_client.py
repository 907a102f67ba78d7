import dataclasses
import io
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

import dgn_tf
from dgn_tf.errors import InputError
from dgn_tf.serving.client import encode_frame
from tests.exported_model import INTRINSICS, blob_frame, exported_model

pytest.importorskip("grpc")
pytest.importorskip("tensorflow_serving.apis")

TRANSPORTS = ("grpc", "rest")


@pytest.fixture(scope="module")
def predictor():
    return dgn_tf.HandMeshPredictor(exported_model(), INTRINSICS)


@pytest.fixture(scope="module")
def versions():
    from tests.serving.stand_in_model import Versions

    versions = Versions(exported_model(), labels={"stable": 1})
    yield versions
    versions.close()


@pytest.fixture(scope="module")
def server(versions):
    with start(versions) as server:
        yield server


def start(versions, **options):
    from tests.serving.stand_in_server import StandInServer

    return StandInServer(versions, **options)


def client_of(server, transport, **options):
    ports = {
        "grpc": f"127.0.0.1:{server.grpc_port}",
        "rest": f"http://127.0.0.1:{server.rest_port}",
    }
    return dgn_tf.HandMeshClient(
        intrinsics=INTRINSICS, **{transport: ports[transport], "timeout_s": 60, **options}
    )


def assert_same_mesh(actual, expected):
    for field in dataclasses.fields(expected):
        a, e = getattr(actual, field.name), getattr(expected, field.name)
        if isinstance(e, np.ndarray):
            assert a.dtype == e.dtype and a.shape == e.shape, field.name
            np.testing.assert_allclose(a, e, atol=1e-3, err_msg=field.name)
        else:
            assert a == e, field.name


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "frame", [blob_frame(), np.round(blob_frame()).astype(np.uint16)], ids=["float", "whole"]
)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"hand": "left"},
        {"centre_mm": (0, 0, 600)},
        {"intrinsics": (310, 310, 155, 118)},
    ],
)
def test_the_client_returns_what_the_predictor_returns(
    server, predictor, transport, frame, arguments
):
    with client_of(server, transport) as client:
        assert_same_mesh(client(frame, **arguments), predictor(frame, **arguments))


@pytest.mark.parametrize("unit", [1.0, 0.125, 0.1])
def test_a_frame_becomes_a_png_only_where_that_changes_nothing(unit):
    steps = np.random.default_rng(3).integers(0, 40_000, [20, 30])
    depth = steps.astype(np.float32) * np.float32(unit)
    image = encode_frame(depth, unit)
    with Image.open(io.BytesIO(image)) as picture:
        np.testing.assert_array_equal(np.asarray(picture), steps)
    depth[3, 4] += unit / 2
    assert encode_frame(depth, unit) is None
    assert encode_frame(np.full([4, 4], 65536 * unit, np.float32), unit) is None


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("chosen", [{"version": 1}, {"label": "stable"}])
def test_a_version_is_chosen_by_number_or_label(server, predictor, transport, chosen):
    with client_of(server, transport, **chosen) as client:
        assert_same_mesh(client(blob_frame()), predictor(blob_frame()))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("chosen", [{"version": 7}, {"label": "none"}, {"model_name": "else"}])
def test_what_the_server_does_not_have_is_said_in_one_line(server, transport, chosen):
    with client_of(server, transport, **chosen) as client:
        with pytest.raises(InputError, match="frame 7: the server refused it: .*label|Servable"):
            client(blob_frame(), name="frame 7")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_client_tries_again_until_the_server_is_ready(versions, predictor, transport):
    from tests.serving.stand_in_model import StatusError

    calls = []

    def before(_):
        calls.append(time.monotonic())
        if len(calls) <= 3:
            raise StatusError("UNAVAILABLE", "loading")

    with start(versions, before=before) as server, client_of(server, transport) as client:
        assert_same_mesh(client(blob_frame()), predictor(blob_frame()))
    assert len(calls) == 5  # three refused, one answered, and the hand's description
    pauses = np.diff(calls[:4])
    assert pauses.min() >= 0.05 and pauses[2] > pauses[0] * 1.01


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_client_waits_for_a_server_that_starts_late(versions, predictor, transport):
    with socket.socket() as taken:  # a port that is free and stays so until the server starts
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    servers = []
    late = threading.Timer(
        0.5, lambda: servers.append(start(versions, **{f"{transport}_port": port}))
    )
    late.start()
    address = (
        {"grpc": f"127.0.0.1:{port}"}
        if transport == "grpc"
        else {"rest": f"http://127.0.0.1:{port}"}
    )
    try:
        with dgn_tf.HandMeshClient(
            **address, intrinsics=INTRINSICS, timeout_s=60, retries=30
        ) as client:
            assert_same_mesh(client(blob_frame()), predictor(blob_frame()))
    finally:
        late.join()
        for server in servers:
            server.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_without_a_server_the_client_gives_up_and_says_where(transport):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    address = (
        {"grpc": f"127.0.0.1:{port}"}
        if transport == "grpc"
        else {"rest": f"http://127.0.0.1:{port}"}
    )
    with dgn_tf.HandMeshClient(**address, intrinsics=INTRINSICS, retries=1) as client:
        with pytest.raises(InputError, match=f"no server answers at .*{port}.*tried 2 times"):
            client(blob_frame())


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_late_answer_is_not_waited_for(versions, transport):
    waits = threading.Event()
    with start(versions, before=lambda _: waits.wait(5)) as server:
        with client_of(server, transport, timeout_s=0.3) as client:
            began = time.monotonic()
            with pytest.raises(InputError, match=r"no answer within the deadline of 0\.3 s"):
                client(blob_frame())
            assert time.monotonic() - began < 3
        waits.set()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_refused_request_is_not_sent_again(versions, transport):
    calls = []
    with start(versions, before=calls.append) as server, client_of(server, transport) as client:
        with pytest.raises(InputError, match="the server refused it"):
            client._run("serving_default", {"depth": np.ones([1, 4, 4], np.float32)}, "frame")
    assert calls == [transport]


def test_a_new_version_is_picked_up_without_a_gap(predictor, tmp_path):
    from tests.serving.stand_in_model import Versions

    shutil.copytree(exported_model() / "1", tmp_path / "1")
    versions = Versions(tmp_path, poll_s=0.1)
    with start(versions) as server, client_of(server, "grpc", retries=0) as client:
        client(blob_frame())
        shutil.copytree(exported_model() / "1", tmp_path / ".2.writing")
        (tmp_path / ".2.writing").rename(tmp_path / "2")  # as dgn_tf.export does
        end = time.monotonic() + 120
        while versions.numbers != [2] and time.monotonic() < end:
            client(blob_frame())
        assert versions.numbers == [2]
        assert_same_mesh(client(blob_frame()), predictor(blob_frame()))
        for transport in TRANSPORTS:
            with client_of(server, transport, version=1) as old:
                with pytest.raises(InputError, match="Servable not found"):
                    old(blob_frame())
    versions.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_model_without_a_description_wants_the_assets(server, predictor, transport, monkeypatch):
    version = server.versions.get("dgn")
    monkeypatch.delitem(version.signatures, "hand")
    with client_of(server, transport) as client:
        with pytest.raises(InputError, match="give its folder by --assets"):
            client(blob_frame())
    with client_of(server, transport, assets=exported_model()) as client:
        assert_same_mesh(client(blob_frame()), predictor(blob_frame()))


def test_assets_of_another_model_are_refused(server, tmp_path):
    shutil.copytree(exported_model() / "1", tmp_path / "1")
    file = tmp_path / "1" / "assets" / "hand.json"
    hand = json.loads(file.read_text())
    file.write_text(json.dumps({**hand, "keypoint_names": hand["keypoint_names"][:-1]}))
    with client_of(server, "grpc", assets=tmp_path) as client:
        with pytest.raises(InputError, match="another hand"):
            client(blob_frame())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "one of --grpc=host:port and --rest"),
        ({"grpc": "a:1", "rest": "http://a:2"}, "one of --grpc"),
        ({"rest": "localhost:8501"}, "is no URL; write http://host:port"),
        ({"grpc": "a:1", "version": 1, "label": "stable"}, "not both"),
    ],
)
def test_contradicting_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        dgn_tf.HandMeshClient(**arguments)


def test_the_client_checks_frames_as_the_predictor_does(versions):
    calls = []
    with start(versions, before=calls.append) as server, client_of(server, "grpc") as client:
        with pytest.raises(InputError, match="frame 7 has NaN"):
            client(blob_frame() * np.nan, name="frame 7")
    assert not calls


def test_what_answers_without_being_tensorflow_serving_is_named():
    import http.server

    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{page.server_address[1]}"
        with dgn_tf.HandMeshClient(rest=url, intrinsics=INTRINSICS) as client:
            with pytest.raises(InputError, match="did not answer in JSON"):
                client(blob_frame())
        page.shutdown()


def command(module, output, *arguments):
    return subprocess.run(
        [
            sys.executable,
            "-m",
            module,
            "--intrinsics=300,300,160,120",
            "--depth_unit=0.125",
            f"--output_dir={output}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
    )


def test_the_command_writes_what_predict_writes(server, tmp_path):
    steps = (blob_frame() * 8).astype(np.uint16)
    Image.fromarray(steps).save(tmp_path / "frame.png")
    depth = f"--depth={tmp_path}/*.png"
    command("dgn_tf.predict", tmp_path / "predict", depth, f"--saved_model={exported_model()}")
    addresses = (
        f"--grpc=127.0.0.1:{server.grpc_port}",
        f"--rest=http://127.0.0.1:{server.rest_port}",
    )
    for number, address in enumerate(addresses):
        output = tmp_path / str(number)
        done = command("dgn_tf.serving_client", output, depth, address, "--timeout_s=60")
        assert done.returncode == 0, done.stderr
        assert {file.name for file in output.iterdir()} == {"frame.ply", "frame.json", "frame.png"}
        actual, expected = (
            json.loads((folder / "frame.json").read_text())["keypoints_mm"]
            for folder in (output, tmp_path / "predict")
        )
        assert actual.keys() == expected.keys()
        np.testing.assert_allclose(list(actual.values()), list(expected.values()), atol=2e-3)


def test_which_model_and_hand_are_asked_for_is_said_by_flags(server, tmp_path):
    from tests.programs import run

    Image.fromarray((blob_frame() * 8).astype(np.uint16)).save(tmp_path / "frame.png")
    arguments = [
        "--intrinsics=300,300,160,120",
        "--depth_unit=0.125",
        f"--depth={tmp_path}/frame.png",
        f"--grpc=127.0.0.1:{server.grpc_port}",
        "--timeout_s=60",
    ]

    def hands_of(name, *chosen):
        run("dgn_tf.serving_client", *arguments, f"--output_dir={tmp_path / name}", *chosen)
        return json.loads((tmp_path / name / "frame.json").read_text())

    right, left = hands_of("a", "--label=stable"), hands_of("b", "--version=1", "--hand=left")
    assert (right["hand"], left["hand"]) == ("right", "left")
    for chosen in ("--label=none", "--version=7", "--model_name=else"):
        with pytest.raises(InputError, match="the server refused it: .*label|Servable"):
            hands_of("never", chosen)
    with pytest.raises(InputError, match="not both"):
        hands_of("never", "--label=stable", "--version=1")


def test_a_recording_goes_to_the_server_as_it_goes_to_predict(server, tmp_path):
    from tests.programs import run

    frame = blob_frame(width=640, height=480, u=330, v=230, focal=475.5)
    Image.fromarray((frame * 8).astype(np.uint16)).save(tmp_path / "frame.png")
    (tmp_path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    run(
        "dgn_tf.serving_client",
        *(f"--depth={tmp_path}/frame.png,{tmp_path}/Thumbs.db", "--camera=sr305"),
        *(f"--grpc=127.0.0.1:{server.grpc_port}", "--timeout_s=60", "--skip_bad_frames"),
        *("--pictures=none", "--min_confidence=0", f"--table={tmp_path}/t.npz"),
        f"--output_dir={tmp_path}/out",
    )
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"frame.ply", "frame.json"}
    assert list(np.load(tmp_path / "t.npz")["status"]) == ["found", "unreadable"]


def test_a_failed_command_prints_one_line_and_writes_nothing(tmp_path):
    Image.fromarray(blob_frame().astype(np.uint16)).save(tmp_path / "frame.png")
    done = command(
        "dgn_tf.serving_client",
        tmp_path / "out",
        f"--depth={tmp_path}/*.png",
        "--depth_unit=1",
        "--rest=http://127.0.0.1:1",
        "--retries=0",
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "no server answers" in done.stderr and not (tmp_path / "out").exists()
