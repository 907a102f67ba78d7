"""Follows hands through the frames of a depth camera, a recording, depth files or a rendering.

    python -m dgn_tf.live --source=synthetic:cross --viewer=viser
    python -m dgn_tf.live --source='frames/*.png' --camera=sr305 --viewer=none
    python -m dgn_tf.live --source=realsense --record=hands.html

Prints a line a second, and with --viewer=viser shows the hands in a page of a browser. Ends when
the source does.
"""

import contextlib
import time
from collections.abc import Iterable

from absl import flags

from dgn_tf import errors
from dgn_tf.cameras.known import SENSORS
from dgn_tf.errors import InputError
from dgn_tf.serving.inference_only import assume_frozen_weights, one_thread
from dgn_tf.serving.runtimes import BACKENDS
from dgn_tf.shipped import shipped_model

_SOURCE = flags.DEFINE_string(
    "source",
    None,
    "Depth frames (files, folders, quoted patterns, with commas between), a RealSense recording "
    "(.db3, .bag), a camera (realsense, realsense:SERIAL), or rendered hands "
    "(synthetic:one|two|cross|still|wave).",
    required=True,
)
_SAVED_MODEL = flags.DEFINE_string(
    "saved_model",
    "",
    "Folder of an exported model or of one version of it; empty: the shipped one.",
)
_BACKEND = flags.DEFINE_enum(
    "backend",
    "tensorflow",
    BACKENDS,
    "What runs the model; onnxruntime and openvino run the files of export --onnx beside it.",
)
_INTRINSICS = flags.DEFINE_list(
    "intrinsics",
    None,
    "Of depth frames: fx,fy,cx,cy in pixels, or a calibration file; empty: --camera's. Recordings "
    "and cameras tell their own.",
)
_CAMERA = flags.DEFINE_enum(
    "camera", None, sorted(SENSORS), "Of depth frames: the sensor, its usual unit and intrinsics."
)
_DEPTH_UNIT = flags.DEFINE_float(
    "depth_unit", None, "Of depth frames: mm for one step of integers; empty: the file's own."
)
_ENCODING = flags.DEFINE_enum(
    "encoding", "u16", ["u16", "nyu"], "Of depth frames: u16, or nyu: NYU's 8-bit RGB."
)
_RATE = flags.DEFINE_float(
    "rate", 30.0, "Of depth frames and rendered hands: frames a second.", lower_bound=0.1
)
_SECONDS = flags.DEFINE_float(
    "seconds", 0.0, "Of the source, after which it ends; 0: when it does itself.", lower_bound=0
)
_VIEWER = flags.DEFINE_enum(
    "viewer",
    "viser",
    ["viser", "none"],
    "viser: a page for a browser, at the pace of the time stamps; none: as fast as can be.",
)
_HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "Where the page is; 0.0.0.0 shows it to the whole network."
)
_PORT = flags.DEFINE_integer(
    "port",
    8080,
    "Of the page; the next free one where it is taken.",
    lower_bound=1,
    upper_bound=65535,
)
_RECORD = flags.DEFINE_string(
    "record",
    "",
    "An .html file that shows the hands moving without this program, or a .viser one; empty: none. "
    "It is kept in memory until the end: for minutes, not hours.",
)
_KEEP_OPEN = flags.DEFINE_bool(
    "keep_open", False, "Leave the page there after the source has ended, until Ctrl-C."
)
_FILTER = flags.DEFINE_enum(
    "filter", "one_euro", ["none", "one_euro"], "What holds hands still: see docs/live.md."
)
_MAX_HANDS = flags.DEFINE_integer("max_hands", 2, "1 or 2.", lower_bound=1, upper_bound=2)
_HAND = flags.DEFINE_enum(
    "hand",
    "auto",
    ["right", "left", "auto"],
    "Which hands they are; auto: decided over time, each.",
)

_SAY_S = 1.0


def main(_):
    from dgn_tf.live import sources
    from dgn_tf.live.tracker import HandTracker
    from dgn_tf.live.viewer import Viewer, check_recording
    from dgn_tf.model_folder import load_template_of
    from dgn_tf.predictor import HandMeshPredictor

    check_recording(_RECORD.value)
    if _VIEWER.value == "none" and (_RECORD.value or _KEEP_OPEN.value):
        raise InputError("--record and --keep_open want --viewer=viser.")
    named, saved_model = _SOURCE.value, _SAVED_MODEL.value or shipped_model()
    # The source comes first: no model is loaded for a camera that is not there.
    frames = sources.open_source(
        named, _read, lambda: load_template_of(saved_model), _RATE.value, _SECONDS.value
    )
    tracker = HandTracker(
        HandMeshPredictor(saved_model, backend=_BACKEND.value),
        max_hands=_MAX_HANDS.value,
        hand=_HAND.value,
        filter=_FILTER.value,
        background=sources.is_device(named),  # files stay reproducible
    )
    ordered = sources.Ordered(frames, named)
    stream: Iterable = sources.Newest(ordered) if sources.is_device(named) else ordered
    with contextlib.ExitStack() as held:
        viewer = None
        if _VIEWER.value == "viser":
            viewer = Viewer(_HOST.value, _PORT.value, _RECORD.value)
            held.callback(viewer.close)
            print(f"open {viewer.address} in a browser", flush=True)
            stream = sources.paced(stream) if stream is ordered else stream
        with contextlib.suppress(KeyboardInterrupt):
            _follow(tracker, stream, viewer)
            if _KEEP_OPEN.value:
                print("the source has ended; Ctrl-C ends the page too", flush=True)
                while True:
                    time.sleep(3600)
    if ordered.late:
        print(f"left out {ordered.late} frames that came after later ones")
    if _RECORD.value:
        print(f"wrote {_RECORD.value}")


def _read(file):
    """Depth [H, W] mm and intrinsics [4] of a depth file, as the flags say."""
    from dgn_tf.frame_source import named_source

    frame = named_source(
        *(_ENCODING.value, _DEPTH_UNIT.value),
        *(",".join(_INTRINSICS.value or ()), _CAMERA.value or ""),
    ).read(file)
    return frame.depth, frame.intrinsics


def _follow(tracker, stream, viewer) -> None:
    """Tracks all frames; says each second what there is."""
    count, busy, said, begun = 0, 0.0, time.monotonic(), time.monotonic()
    hands: list = []
    for frame in stream:
        start = time.monotonic()
        hands = tracker(frame.depth, frame.time_s, frame.intrinsics, frame.unit)
        busy, count = busy + time.monotonic() - start, count + 1
        if viewer is not None:
            viewer.show(frame, hands)
        if time.monotonic() - said >= _SAY_S:
            said = time.monotonic()
            _say(frame.time_s, count, busy, hands)
    if not count:
        raise InputError(f"--source={_SOURCE.value} has no frames.")
    _say(frame.time_s, count, busy, hands)
    taken = time.monotonic() - begun
    print(
        f"{count} frames in {taken:.1f} s, the whole frame searched in {tracker.localised} of them"
    )


def _say(time_s: float, count: int, busy: float, hands) -> None:
    parts = [
        f"{hand.identity}: {hand.mesh.hand} hand at {hand.mesh.centre[2]:.0f} mm, confidence "
        f"{hand.confidence:.2f}"
        if hand.valid
        else f"{hand.identity}: lost"
        for hand in hands
    ]
    told = "; ".join(parts) or "no hand"
    print(f"{time_s:.1f} s, frame {count}, {1e3 * busy / count:.1f} ms a frame; {told}", flush=True)


if __name__ == "__main__":
    assume_frozen_weights()
    one_thread()
    errors.run(main)
