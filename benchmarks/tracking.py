"""How well hands are followed: error, jitter, lag, losses, identities and time, with truth known.

    python -m benchmarks.tracking --json=runs/tracking.json

Two minutes of two hands that cross 60 times, a still hand with 1 mm of added noise and one that
moves at up to 0.5 m/s, all rendered; and a tracked frame beside the exported model's `crop` alone,
in turn within this run.
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
flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")

_RATE = 30.0
_SEEN = 0.5  # of a hand: less is hidden, and not counted as lost
_NEAR_MM = 80.0  # a tracked hand so near to a true one's middle is taken for it
_MEETING_S = 2.0


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

    first = tracker()
    template = first.template
    held = min(8.0, FLAGS.seconds)
    still = hands("still", held, seed=FLAGS.seed, sensor=EXACT_SENSOR, noise_mm=1.0, sides="r")
    wave = hands("wave", held, seed=FLAGS.seed, sensor=EXACT_SENSOR, noise_mm=1.0, sides="r")
    result = {"machine": machine.describe(), "filter": FLAGS.filter}
    result["crossing"] = follow(first, hands("cross", FLAGS.seconds, seed=FLAGS.seed))
    one = {"hand": "right", "max_hands": 1}
    for name in dict.fromkeys(("none", FLAGS.filter)):
        result[f"steady_{name}"] = {
            "jitter_mm": jitter(tracker(name, **one), still),
            **lag(tracker(name, **one), wave),
        }
    result["time"] = frame_time(tracker(**one), wave, FLAGS.rounds)
    result["load_after"] = machine.describe()["load"]
    print(json.dumps(result, indent=1))
    if FLAGS.json:
        write_json(result, FLAGS.json)


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


if __name__ == "__main__":
    errors.run(main)
