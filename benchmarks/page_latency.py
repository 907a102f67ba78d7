"""How long a frame takes from its source to the picture in a browser's page, on this machine.

    python -m benchmarks.page_latency --json=runs/page.json

Follows a rendered hand at camera rate and shows it in a headless Chromium (Debian's `chromium` and
`chromium-driver`), which draws in software: a graphics card is faster. A frame's time ends when
the page has its new text and two of the browser's drawing turns are over: at the end of the first
the scene of the same message is drawn, at the second's begin it is shown.
"""

import json
import shutil
import time

import numpy as np
from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError
from dgn_tf.serving.inference_only import assume_frozen_weights, one_thread

FLAGS = flags.FLAGS
flags.DEFINE_string("saved_model", "", "Exported model (folder or version); empty: the shipped.")
flags.DEFINE_float("seconds", 20.0, "Of the recording.", lower_bound=2)
flags.DEFINE_float("rate", 30.0, "Frames a second.", lower_bound=1)
flags.DEFINE_string("window", "900,640", "Width and height of the browser's window, pixels.")
flags.DEFINE_integer("port", 8390, "Of the page.")
flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")

_SKIPPED_S = 3.0  # of the recording: the page opens, the browser compiles
# Notes when which frame's text was shown; milliseconds since 1970.
_WATCH = """
window.shown = [];
let last = "";
new MutationObserver(() => {
  const found = document.body.innerText.match(/(\\d+\\.\\d\\d) s, \\d hands/);
  if (!found || found[1] === last) return;
  last = found[1];
  const frame = last;
  requestAnimationFrame(() => requestAnimationFrame(() =>
    window.shown.push([frame, performance.timeOrigin + performance.now()])));
}).observe(document.body, {subtree: true, childList: true, characterData: true});
"""


def main(_):
    assume_frozen_weights()
    one_thread()
    from benchmarks import machine
    from dgn_tf.json_file import write_json
    from dgn_tf.live.synthetic import SyntheticHands
    from dgn_tf.live.tracker import HandTracker
    from dgn_tf.live.viewer import Viewer

    tracker = HandTracker(FLAGS.saved_model or None, max_hands=1, hand="right")
    count = round(FLAGS.seconds * FLAGS.rate)
    frames = list(SyntheticHands(tracker.template, "one", count, FLAGS.rate, sides="r"))
    tracker(frames[0].depth, -1.0, frames[0].intrinsics)
    viewer = Viewer("127.0.0.1", FLAGS.port)
    browser = headless_browser(FLAGS.window)
    try:
        browser.get(viewer.address)
        viewer.show(frames[0], [])
        _wait_for_page(browser)
        browser.execute_script(_WATCH)
        given, tracked_ms = _play(frames, tracker, viewer)
        time.sleep(1.0)
        shown = {text: at / 1e3 for text, at in browser.execute_script("return window.shown")}
    finally:
        browser.quit()
        viewer.close()
    result = {
        "machine": machine.describe(),
        "window": FLAGS.window,
        "rate": FLAGS.rate,
        "tracked_ms": float(np.median(tracked_ms)),
        **latencies(given, shown),
    }
    print(json.dumps(result, indent=1))
    if FLAGS.json:
        write_json(result, FLAGS.json)


def _play(frames, tracker, viewer) -> tuple[dict[str, float], list[float]]:
    """Follows and shows frames at their pace: when each was given, by its text, and ms to track."""
    given, tracked_ms, begun = {}, [], time.time()
    for frame in frames:
        time.sleep(max(0.0, begun + frame.time_s - time.time()))
        now = time.time()
        hands = tracker(frame.depth, frame.time_s, frame.intrinsics)
        tracked_ms.append(1e3 * (time.time() - now))
        viewer.show(frame, hands)
        if frame.time_s >= _SKIPPED_S or len(frames) < 2 * _SKIPPED_S * FLAGS.rate:
            given[f"{frame.time_s:.2f}"] = now
    return given, tracked_ms


def latencies(given: dict[str, float], shown: dict[str, float]) -> dict:
    """Milliseconds from when frames were given to when they were shown, seconds of one clock each.

    Returns:
        `frames` given, `drawn` of them that the page showed, and of these `latency_ms`, the median,
        and `latency_95_ms`; InputError where none was.
    """
    both = [1e3 * (shown[text] - at) for text, at in given.items() if text in shown]
    if not both:
        raise InputError("the page showed no frame; give it longer by --seconds.")
    return {
        "frames": len(given),
        "drawn": len(both),
        "latency_ms": float(np.median(both)),
        "latency_95_ms": float(np.percentile(both, 95)),
    }


def headless_browser(window: str):
    """A headless Chromium that draws in software; InputError where selenium or it is missing."""
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        raise InputError("this wants selenium: install the extra `dev`.") from None
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        raise InputError("no browser: install the system's packages chromium and chromium-driver.")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={window}"),
        *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
    ):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=Service(driver))


def _wait_for_page(browser, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while " hands" not in browser.find_element("tag name", "body").text:
        if time.monotonic() > deadline:
            raise InputError("the page did not open within a minute.")
        time.sleep(0.2)


if __name__ == "__main__":
    errors.run(main)
