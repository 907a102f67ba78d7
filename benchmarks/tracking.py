"""How well hands are followed: error, jitter, lag, losses, identities and time, with truth known.

    python -m benchmarks.tracking --json=runs/tracking.json
    python -m benchmarks.tracking --stream=600 --json=runs/stream.json

Two minutes of two hands that cross 60 times, a still hand with 1 mm of added noise and one that
moves at up to 0.5 m/s, all rendered; and a tracked frame beside the exported model's `crop` alone,
in turn within this run. The second follows a stream in real time, as of a camera, alone: how old
each frame is when its hands are known, and the process's memory.
"""

import json
import time

import numpy as np
from absl import flags

from dgn_tf import errors
from dgn_tf.serving.inference_only import assume_frozen_weights

FLAGS = flags.FLAGS
flags.DEFINE_string("saved_model", "", "Exported model (folder or version); empty: the shipped.")
flags.DEFINE_float("seconds", 120.0, "Of the recording of two hands.", lower_bound=4)
flags.DEFINE_integer("seed", 1, "Of the synthetic hands.")
flags.DEFINE_string("filter", "one_euro", "none or one_euro.")
flags.DEFINE_integer("rounds", 200, "Frames timed.", lower_bound=10)
flags.DEFINE_float("stream", 0.0, "Seconds of a stream, followed alone.", lower_bound=0)
flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")

_RATE = 30.0
_SEEN = 0.5  # of a hand: less is hidden, and not counted as lost
_NEAR_MM = 80.0  # a tracked hand so near to a true one's middle is taken for it
_MEETING_S = 2.0
_LOOP_S = 8.0  # of rendered frames, which a stream shows to and fro
_GONE_S = 1.0  # of them at the end, without a hand
_LATE_MS = 100.0  # no frame is to be older
_BEHIND_MM = 900.0  # nothing of a hand lies further away


def main(_):
    assume_frozen_weights()
    from benchmarks import machine
    from dgn_tf.json_file import write_json
    from dgn_tf.live.synthetic import EXACT_SENSOR, SyntheticHands
    from dgn_tf.live.tracker import HandTracker

    def tracker(filter=FLAGS.filter, **settings):
        return HandTracker(FLAGS.saved_model or None, filter=filter, **settings)

    def hands(motion, seconds, **settings):
        return SyntheticHands(template, motion, round(seconds * _RATE), _RATE, **settings)

    def tell(result):
        result["load_after"] = machine.describe()["load"]
        print(json.dumps(result, indent=1))
        if FLAGS.json:
            write_json(result, FLAGS.json)

    result = {"machine": machine.describe(), "filter": FLAGS.filter}
    first = tracker(background=bool(FLAGS.stream))
    template = first.template
    if FLAGS.stream:
        frames = list(hands("cross", _LOOP_S, seed=FLAGS.seed))
        tell({**result, "stream": stream(first, frames, FLAGS.stream)})
        return
    held = min(8.0, FLAGS.seconds)
    still = hands("still", held, seed=FLAGS.seed, sensor=EXACT_SENSOR, noise_mm=1.0, sides="r")
    wave = hands("wave", held, seed=FLAGS.seed, sensor=EXACT_SENSOR, noise_mm=1.0, sides="r")
    result["crossing"] = follow(first, hands("cross", FLAGS.seconds, seed=FLAGS.seed))
    one = {"hand": "right", "max_hands": 1}
    for name in dict.fromkeys(("none", FLAGS.filter)):
        result[f"steady_{name}"] = {
            "jitter_mm": jitter(tracker(name, **one), still),
            **lag(tracker(name, **one), wave),
        }
    result["time"] = frame_time(tracker(**one), wave, FLAGS.rounds)
    tell(result)


def follow(tracker, source) -> dict:
    """Follows two hands and holds what comes out to the truth.

    Returns:
        `error_mm` of the key points (mean, and that of 95 % of the hands), of valid hands;
        `in_view` hands, less than half hidden, and `lost`, those that nobody followed; `crossings`
        and how many of them `switched` an identity; `wrong_side` hands; `ms` and `ms_95` a frame.
    """
    errors_mm: list[float] = []
    milliseconds, switched = [], set()
    in_view, lost, wrong_side = 0, 0, 0
    identities: dict[int, int] = {}
    for frame in source:
        start = time.perf_counter()
        hands = tracker(frame.depth, frame.time_s, frame.intrinsics)
        tracked = [hand for hand in hands if hand.valid]
        milliseconds.append(1e3 * (time.perf_counter() - start))
        for number, side in enumerate(frame.truth.hands):
            hand = nearest(tracked, frame.truth.vertices[number])
            counts = frame.truth.seen[number] >= _SEEN
            in_view, lost = in_view + counts, lost + (counts and hand is None)
            if hand is None:
                continue
            if identities.setdefault(number, hand.identity) != hand.identity:
                switched.add(round(frame.time_s / _MEETING_S))
                identities[number] = hand.identity
            wrong_side += hand.mesh.hand != side
            away = hand.mesh.keypoints - frame.truth.keypoints[number]
            errors_mm.append(float(np.linalg.norm(away, axis=1).mean()))
    return {
        "error_mm": float(np.mean(errors_mm)),
        "error_95_mm": float(np.percentile(errors_mm, 95)),
        "in_view": int(in_view),
        "lost": int(lost),
        "crossings": int(len(source) / source.rate / _MEETING_S),
        "switched": len(switched),
        "wrong_side": int(wrong_side),
        "ms": float(np.median(milliseconds)),
        "ms_95": float(np.percentile(milliseconds, 95)),
    }


def nearest(tracked, vertices):
    """The tracked hand whose middle lies nearest to a true one's, within `_NEAR_MM`; or None."""
    middle = vertices.mean(axis=0)
    away = [np.linalg.norm(hand.mesh.vertices.mean(axis=0) - middle) for hand in tracked]
    if not away or min(away) > _NEAR_MM:
        return None
    return tracked[int(np.argmin(away))]


def jitter(tracker, source) -> float:
    """mm, root mean square over frames and vertices, of a still hand's vertices about their mean.

    The first two seconds, in which the bones settle, are left out.
    """
    places = []
    for frame in source:
        for hand in tracker(frame.depth, frame.time_s, frame.intrinsics):
            if hand.valid and frame.time_s >= 2.0:
                places.append(hand.mesh.vertices)
    vertices = np.stack(places)
    away = vertices - vertices.mean(axis=0)
    return float(np.sqrt((away**2).sum(axis=-1).mean()))


def lag(tracker, source) -> dict:
    """How many frames a moving hand's middle is behind the truth, and how far it is off then.

    Returns:
        `lag_frames`, by which the truth is moved to fit best, and `left_mm`, the root mean square
        of what remains.
    """
    times, found, true = [], [], []
    for frame in source:
        for hand in tracker(frame.depth, frame.time_s, frame.intrinsics):
            times.append(frame.time_s)
            found.append(hand.mesh.keypoints.mean(axis=0)[0])
            true.append(frame.truth.keypoints[0].mean(axis=0)[0])
    clock, path, wanted = np.array(times), np.array(found), np.array(true)
    inside = (clock > 1.0) & (clock < clock[-1] - 0.5)

    def off(frames):
        moved = np.interp(clock - frames / source.rate, clock, wanted)
        return float(np.std((path - moved)[inside]))

    tried = np.arange(-2.0, 6.0, 0.02)
    left = [off(frames) for frames in tried]
    return {"lag_frames": float(tried[int(np.argmin(left))]), "left_mm": min(left)}


def frame_time(tracker, source, rounds: int) -> dict:
    """Times a tracked frame, from memory to the mesh, and the exported model on its crop, in turn.

    Returns:
        `tracked_ms` and `crop_ms`, medians, and `tracked_to_crop`, of `timing.spread`.
    """
    from benchmarks import timing

    frames = iter(list(source) * (1 + (rounds + 10) // len(source)))
    clock = iter(np.arange(rounds + 10) / source.rate)
    mesh = tracker(next(frames).depth, next(clock), source.intrinsics)[0].mesh
    crop = {
        "depth": np.where(mesh.valid, mesh.centre[2], 0).astype(np.float32)[np.newaxis],
        "intrinsics": mesh.crop_intrinsics[np.newaxis],
        "centre": mesh.centre[np.newaxis],
        "cube": np.array([mesh.cube_mm], np.float32),
        "left": np.array([False]),
    }

    def tracked():
        tracker(next(frames).depth, next(clock), source.intrinsics)

    seconds = timing.alternate(
        {"tracked": tracked, "crop": lambda: tracker.model.run("crop", crop)}, rounds
    )
    return {
        "tracked_ms": 1e3 * float(np.median(seconds["tracked"])),
        "crop_ms": 1e3 * float(np.median(seconds["crop"])),
        "tracked_to_crop": timing.spread(seconds["tracked"], seconds["crop"]),
    }


def stream(tracker, made, seconds: float) -> dict:
    """Follows hands in real time by the newest frame each time, as of a camera.

    Args:
        tracker: a `HandTracker`.
        made: frames, which are shown to and fro; in the last second of them no hand is shown.
        seconds: for which they are.

    Returns:
        `frames` tracked and `skipped`; `first_ten_s`, of frames before them; `age_ms`, from when
        the source gave a frame to its result: `median`, `p99` and `largest`; `waited_ms`, its part
        before tracking: `median` and `p99`; `late`, share of the frames older than 100 ms;
        `cpu_ms`, which all threads used of a frame: on busy machines it tells more;
        `hands`, mean number of valid ones; `memory_mb`, resident: at the `start`, after a `minute`
        (or a tenth, if that is less) and at the `end`, after each of the `minutes`, and `growth`,
        MB an hour by a line through what came after the first.
    """
    import psutil

    from dgn_tf.live.sources import Newest, Ordered

    shown = [_as_sensed(frame, frame.time_s > made[-1].time_s - _GONE_S) for frame in made]
    shown += shown[-2:0:-1]
    process, rate = psutil.Process(), 1 / (made[1].time_s - made[0].time_s)
    start = time.monotonic()
    for frame in shown[:10]:  # the first ones compile
        tracker(frame.depth, time.monotonic(), frame.intrinsics, frame.unit)
    first, start = time.monotonic() - start, time.monotonic()

    def camera():
        for number in range(round(seconds * rate)):
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
            yield shown[number % len(shown)]._replace(time_s=time.monotonic())

    newest = Newest(Ordered(camera(), "stream"))
    ages: list[float] = []
    busy: list[float] = []
    waited: list[float] = []
    held: list[int] = []
    memory: list[tuple[float, float]] = []
    for frame in newest:
        taken, before = time.monotonic(), time.process_time()
        hands = tracker(frame.depth, frame.time_s, frame.intrinsics, frame.unit)
        done = time.monotonic()
        busy.append(1e3 * (time.process_time() - before))
        ages.append(1e3 * (done - frame.time_s))
        waited.append(1e3 * (taken - frame.time_s))
        held.append(sum(hand.valid for hand in hands))
        if not memory or done - start - memory[-1][0] >= 1.0:
            memory.append((done - start, process.memory_info().rss / 1e6))
    clock, resident = np.array(memory).T
    settled = clock >= min(60.0, seconds / 10)
    return {
        "frames": len(ages),
        "skipped": newest.skipped,
        "first_ten_s": first,
        "age_ms": {
            "median": float(np.median(ages)),
            "p99": float(np.percentile(ages, 99)),
            "largest": float(max(ages)),
        },
        "late": float(np.mean(np.array(ages) > _LATE_MS)),
        "cpu_ms": {"median": float(np.median(busy)), "p99": float(np.percentile(busy, 99))},
        "waited_ms": {
            "median": float(np.median(waited)),
            "p99": float(np.percentile(waited, 99)),
        },
        "hands": float(np.mean(held)),
        "memory_mb": {
            "start": resident[0],
            "minute": resident[settled][0],
            "end": resident[-1],
            "minutes": [resident[clock >= begun][0] for begun in np.arange(60, clock[-1], 60)],
            "growth": 3600 * float(np.polyfit(clock[settled], resident[settled], 1)[0]),
        },
    }


def _as_sensed(frame, without_hands: bool):
    """A rendered frame in steps of an eighth of a millimetre, as a camera counts them."""
    depth = frame.depth
    if without_hands:
        depth = np.where(depth < _BEHIND_MM, 0, depth)
    steps = np.rint(depth * 8).clip(0, 65535).astype(np.uint16)
    return frame._replace(depth=steps, unit=0.125, truth=None)


if __name__ == "__main__":
    errors.run(main)
