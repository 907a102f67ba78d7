"""The program `dgn_tf.live`, and its page in a real browser where there is one."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dgn_tf.errors import InputError
from dgn_tf.live.frames import LiveFrame
from tests import programs

MODEL = "--saved_model=saved_models/dgn"
SAMPLES = ("--source=samples/*.png", "--intrinsics=475,475,319.5,239.5", "--depth_unit=1")


def run(*arguments):
    programs.run("dgn_tf.live.__main__", MODEL, *arguments)


@pytest.fixture(autouse=True)
def in_checkout(checkout, monkeypatch):
    monkeypatch.chdir(checkout)


def test_depth_files_are_followed_and_the_program_ends(capsys):
    run(*SAMPLES, "--viewer=none", "--rate=2", "--filter=none")
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"2\.5 s, frame 6, .* ms a frame; 0: right hand at 5\d\d mm, conf", lines[-2])
    assert lines[-1].startswith("6 frames in ")


def test_rendered_hands_one_at_most_of_a_given_side(capsys):
    run("--source=synthetic:two", "--seconds=0.5", "--viewer=none", "--max_hands=1", "--hand=left")
    out = capsys.readouterr().out
    assert "0: left hand" in out and "1: " not in out and "15 frames in" in out


def test_usual_intrinsics_of_a_sensor_and_its_coding(tmp_path, capsys):
    from PIL import Image

    depth = np.asarray(Image.open("samples/00_flat.png")).astype(int)
    pixels = np.stack([0 * depth, depth // 256, depth % 256], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "nyu.png")
    run(f"--source={tmp_path}", "--camera=kinect1", "--encoding=nyu", "--viewer=none")
    assert "1 frames in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--source=nowhere/*.png"], r"--source=nowhere/\*.png matches no file"),
        (["--source=samples/*.png"], "--intrinsics is missing"),
        (["--source=synthetic", "--viewer=none", "--backend=onnxruntime"], "crop.onnx is missing"),
        (["--source=synthetic:dance"], "--source=synthetic:dance: wanted one of"),
        (["--source=synthetic", "--record=hands.mp4"], "--record=hands.mp4: wanted a name"),
        (["--source=synthetic", "--record=h.html"], "--record and --keep_open want"),
        (["--source=synthetic", "--keep_open"], "--record and --keep_open want"),
    ],
)
def test_a_wrong_call_ends_in_one_line(arguments, line):
    with pytest.raises(InputError, match=line):
        run("--viewer=none", *arguments)


def test_a_viewer_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(InputError, match="wants viser: install the extra `live`"):
        run("--source=synthetic", "--seconds=0.1", "--viewer=viser", "--host=127.0.0.1")


def test_a_camera_is_searched_in_the_background_and_a_file_is_not(monkeypatch, capsys):
    from dgn_tf.live import realsense, tracker

    settings = []

    class Noted(tracker.HandTracker):
        def __init__(self, *arguments, **named):
            settings.append(named["background"])
            super().__init__(*arguments, **named)

    frames = [drawn_frame()._replace(time_s=time_s) for time_s in (0.0, 0.1)]
    monkeypatch.setattr(tracker, "HandTracker", Noted)
    monkeypatch.setattr(realsense, "camera", lambda serial: iter(frames))
    run("--source=realsense", "--viewer=none")
    run("--source=samples/00_flat.png", *SAMPLES[1:], "--viewer=none")
    assert settings == [True, False] and "frames in" in capsys.readouterr().out


def test_a_source_that_breaks_off_ends_in_one_line(monkeypatch, capsys):
    from dgn_tf.live import sources

    def broken(*_):
        yield LiveFrame(np.zeros([48, 64], np.uint16), np.float32([60, 60, 32, 24]), 1.0, 0.0)
        raise OSError("No such device")

    monkeypatch.setattr(sources, "open_source", broken)
    with pytest.raises(InputError, match="ended after 1 frames: No such device"):
        run("--source=synthetic", "--viewer=none")


def test_help_is_there_at_once(checkout):
    start = time.monotonic()
    command = [sys.executable, "-m", "dgn_tf.live", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=checkout, timeout=60)
    assert done.returncode == 0 and "--source" in done.stdout
    assert time.monotonic() - start < 5
    done = subprocess.run(command[:-1], capture_output=True, text=True, cwd=checkout, timeout=60)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("live: error: ")


# The page.


def drawn_frame(depth=600.0):
    return LiveFrame(
        np.full([240, 320], depth, np.float32), np.float32([240, 240, 160, 120]), 1.0, 0.0
    )


def test_points_are_metres_of_the_camera_and_as_many_each_time():
    from dgn_tf.live.viewer import drawn

    full, empty = drawn(drawn_frame(), []), drawn(drawn_frame(0.0), [])
    assert full.points.shape == empty.points.shape
    np.testing.assert_allclose(full.points[:, 2], 0.6, atol=1e-3)
    assert np.abs(full.points[:, 0]).max() == pytest.approx(0.4, abs=0.02)
    assert empty.points[:, 2].min() > 1000 and full.hands == (None, None)
    assert full.frustum[1] == pytest.approx(4 / 3)


def test_confidences_go_from_red_to_green():
    from dgn_tf.live.viewer import confidence_colours

    red, yellow, green = confidence_colours(np.array([0.0, 0.5, 1.0]))
    assert red[0] == 255 and red[1] == 0 and green[0] == 0 and green[1] == 255
    assert yellow[0] == yellow[1] == 255


def test_a_recording_is_written_without_a_browser(tmp_path, capsys):
    pytest.importorskip("viser", reason="wants viser, the extra `live`")
    file = tmp_path / "hands.html"
    run("--source=synthetic", "--seconds=0.3", "--port=8342", f"--record={file}")
    out = capsys.readouterr().out
    assert "open http://127.0.0.1:" in out and f"wrote {file}" in out
    text = file.read_text()
    assert "__VISER_EMBED_DATA__" in text and text.lstrip().lower().startswith("<!doctype html")
    assert "http://127.0.0.1" not in text


def chromium():
    """A headless browser; the test skips where there is none."""
    pytest.importorskip("viser", reason="wants viser, the extra `live`")
    webdriver = pytest.importorskip("selenium.webdriver", reason="wants selenium")
    from selenium.webdriver.chrome.service import Service

    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("no browser: install the system's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=900,640"),
        *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
    ):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=Service(driver))


def picture(browser) -> np.ndarray:
    """What the page shows left of its controls, [H, W, 3]."""
    import io

    from PIL import Image

    image = np.asarray(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB"))
    return image[120:-60].astype(int)


def green(image) -> np.ndarray:
    """Columns' and rows' mean of the pixels that a sure hand colours; empty without one."""
    places = np.argwhere(
        (image[..., 1] > image[..., 0] + 40) & (image[..., 1] > image[..., 2] + 40)
    )
    return places.mean(axis=0) if len(places) > 60 else np.empty(0)


def wait_for(condition, seconds=60):
    for _ in range(int(seconds * 4)):
        if condition():
            return True
        time.sleep(0.25)
    return False


@pytest.mark.long
def test_a_page_shows_hands_that_move_and_a_recording_plays_alone(checkout, tmp_path):
    browser = chromium()
    record, out = tmp_path / "hands.html", tmp_path / "out.txt"
    command = [
        *(sys.executable, "-m", "dgn_tf.live", MODEL, "--source=synthetic:cross", "--seconds=14"),
        *("--rate=15", "--port=8352", f"--record={record}", "--keep_open"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    with out.open("w") as stream:
        program = subprocess.Popen(
            command, stdout=stream, stderr=stream, cwd=checkout, env=environment
        )
    try:
        assert wait_for(lambda: "open http" in out.read_text(), 120), out.read_text()
        browser.get(re.search(r"open (http://\S+)", out.read_text())[1])
        assert wait_for(lambda: green(picture(browser)).size)
        places = []
        for _ in range(6):
            places.append(green(picture(browser)))
            time.sleep(0.5)
        places = [place for place in places if place.size]
        assert len(places) > 3 and np.ptp(places, axis=0).max() > 3  # pixels
        assert "2 hands" in browser.page_source
        browser.save_screenshot(str(tmp_path / "page.png"))
        assert wait_for(lambda: "the source has ended" in out.read_text(), 120)
        severe = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
        assert not severe
        program.send_signal(signal.SIGINT)
        assert program.wait(60) == 0, out.read_text()
        browser.get(record.as_uri())
        assert wait_for(lambda: green(picture(browser)).size)
        first = green(picture(browser))
        assert wait_for(lambda: np.abs(green(picture(browser)) - first).max() > 3, 15)
    finally:
        program.kill()
        browser.quit()


@pytest.mark.long
def test_a_browser_that_closes_stops_nothing(checkout, tmp_path):
    browser, out = chromium(), tmp_path / "out.txt"
    command = [
        *(sys.executable, "-m", "dgn_tf.live", MODEL, "--source=synthetic", "--seconds=8"),
        "--port=8362",
    ]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    with out.open("w") as stream:
        program = subprocess.Popen(
            command, stdout=stream, stderr=stream, cwd=checkout, env=environment
        )
    try:
        assert wait_for(lambda: "open http" in out.read_text(), 120), out.read_text()
        browser.get(re.search(r"open (http://\S+)", out.read_text())[1])
        time.sleep(2)
        browser.quit()
        assert program.wait(120) == 0, out.read_text()
        assert "240 frames in" in out.read_text() and "Traceback" not in out.read_text()
    finally:
        program.kill()
        browser.quit()


def test_a_pages_latency_is_of_the_frames_that_were_shown():
    from benchmarks.page_latency import latencies

    given = {"3.00": 100.0, "3.03": 100.033, "3.07": 100.067}
    found = latencies(given, {"3.00": 100.040, "3.07": 100.127, "9.99": 109.0})
    assert found["frames"] == 3 and found["drawn"] == 2
    assert found["latency_ms"] == pytest.approx(50.0)
    with pytest.raises(InputError, match="the page showed no frame"):
        latencies(given, {})
