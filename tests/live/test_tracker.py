"""Hands that are followed, by the shipped model, through rendered frames."""

import concurrent.futures
import json
import os
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

import dgn_tf
from dgn_tf.errors import InputError
from dgn_tf.live.synthetic import EXACT_SENSOR, SyntheticHands

RATE = 30.0
STREAM_S = float(os.environ.get("DGN_STREAM_S", "60"))  # of the long test


@pytest.fixture(scope="module")
def trackers(checkout):
    """A function that makes trackers of one loaded model."""
    model = dgn_tf.HandMeshPredictor(checkout / "saved_models" / "dgn")

    def make(**settings):
        return dgn_tf.HandTracker(model, **settings)

    make.template = model.template
    return make


@pytest.fixture(scope="module")
def one_hand(trackers):
    return list(SyntheticHands(trackers.template, "one", 45, RATE, seed=2, sides="r"))


def follow(tracker, frames, at=None):
    """The hands of each frame."""
    times = [frame.time_s for frame in frames] if at is None else at
    return [
        tracker(frame.depth, time_s, frame.intrinsics, frame.unit)
        for frame, time_s in zip(frames, times, strict=True)
    ]


def off_mm(hand, frame, number=0):
    away = hand.mesh.keypoints - frame.truth.keypoints[number]
    return np.linalg.norm(away, axis=1).mean()


def blank(frame):
    return frame._replace(depth=np.where(frame.depth < 900, 0, frame.depth))


def test_a_hand_is_followed_without_a_search(trackers, one_hand):
    tracker = trackers(max_hands=1)
    found = follow(tracker, one_hand)
    assert all(len(hands) == 1 and hands[0].valid for hands in found)
    assert {hands[0].identity for hands in found} == {0}
    errors = [off_mm(hands[0], frame) for hands, frame in zip(found, one_hand, strict=True)]
    assert np.mean(errors) < 8 and max(errors) < 20
    assert tracker.localised == 1
    assert found[-1][0].mesh.hand == "right" and found[-1][0].side_sure > 0.95


def test_steps_of_another_unit_give_the_same_hands(trackers, one_hand):
    frame = one_hand[0]
    steps = np.rint(frame.depth * 8).astype(np.uint16)
    tracker, other = trackers(max_hands=1), trackers(max_hands=1)
    first = tracker(steps / np.float32(8), 0.0, frame.intrinsics)[0]
    second = other(steps, 0.0, frame.intrinsics, unit=0.125)[0]
    np.testing.assert_array_equal(first.mesh.vertices, second.mesh.vertices)


def test_missing_depth_may_be_anything_that_is_no_number(trackers, one_hand):
    frame = one_hand[0]
    for missing in (np.nan, -1.0, np.inf):
        depth = np.where(frame.depth == 0, missing, frame.depth)
        depth[:, :100] = missing
        hand = trackers(max_hands=1)(depth, 0.0, frame.intrinsics)[0]
        assert hand.valid and off_mm(hand, frame) < 20


def test_two_hands_keep_their_identities_through_a_crossing(trackers):
    frames = list(SyntheticHands(trackers.template, "cross", 60, RATE, seed=5))
    found = follow(trackers(), frames)
    named = {}
    for hands, frame in zip(found, frames, strict=True):
        for hand in (one for one in hands if one.valid):
            away = [off_mm(hand, frame, number) for number in (0, 1)]
            if min(away) < 40:
                named.setdefault(hand.identity, set()).add(int(np.argmin(away)))
    assert named in ({0: {0}, 1: {1}}, {0: {1}, 1: {0}})
    last = {hand.identity: hand.mesh.hand for hand in found[-1]}
    assert sorted(last.values()) == ["left", "right"]
    assert all(hand.valid for hand in found[-1])


def test_no_hand_for_long_and_then_one_again(trackers, one_hand):
    tracker = trackers(max_hands=1)
    follow(tracker, one_hand[:20])
    empty = blank(one_hand[20])
    for number in range(30):  # a minute, two seconds a frame
        lost = tracker(empty.depth, 1.0 + 2.0 * number, empty.intrinsics)
        assert [hand.valid for hand in lost] == [False]
    back = tracker(one_hand[20].depth, 70.0, empty.intrinsics)
    assert back[0].valid and back[0].identity == 0 and off_mm(back[0], one_hand[20]) < 20


def test_a_frame_without_depth_is_no_error(trackers, one_hand):
    tracker = trackers()
    nothing = np.zeros_like(one_hand[0].depth)
    assert tracker(nothing, 0.0, one_hand[0].intrinsics) == []
    follow(tracker, one_hand[1:4])
    lost = tracker(nothing, 0.2, one_hand[0].intrinsics)
    assert lost and not any(hand.valid for hand in lost)


def test_a_wall_and_clothes_are_no_hands(trackers):
    taken = 0
    for seed in range(31, 36):
        source = SyntheticHands(trackers.template, "two", 240, RATE, seed=seed)
        for number in range(0, 240, 60):
            frame = blank(source.frame(number))
            taken += len(trackers()(frame.depth, 0.0, frame.intrinsics))
    assert taken == 0


def test_a_hand_that_comes_back_mirrored_is_another(trackers, one_hand):
    tracker = trackers(max_hands=1)
    follow(tracker, one_hand[:25])
    empty = blank(one_hand[25])
    follow(tracker, [empty] * 10, at=0.9 + np.arange(10) / 2)
    mirrored = [frame._replace(depth=frame.depth[:, ::-1]) for frame in one_hand[25:]]
    found = follow(tracker, mirrored, at=9 + np.arange(20) / RATE)
    assert found[-1][0].valid
    assert found[-1][0].mesh.hand == "left" and found[-1][0].identity == 1


def test_time_stamps_that_jump_or_stand_still_lose_no_hand(trackers, one_hand):
    at = [0, 0.03, 0.03, 900.0, 900.03, 5.0, 5.03, 5.06]
    found = follow(trackers(max_hands=1), one_hand[: len(at)], at)
    assert all(hands[0].valid and hands[0].identity == 0 for hands in found)


def test_a_still_hand_is_quieter_with_the_filter(trackers):
    source = SyntheticHands(
        trackers.template, "still", 80, RATE, seed=1, sensor=EXACT_SENSOR, noise_mm=1.0, sides="r"
    )
    frames, spread = list(source), {}
    for name in ("none", "one_euro"):
        found = follow(trackers(max_hands=1, hand="right", filter=name), frames)
        # Not before the mean of the bones has come to rest.
        vertices = np.stack([hands[0].mesh.vertices for hands in found[45:]])
        spread[name] = np.sqrt(vertices.var(axis=0).sum(axis=-1).mean())
    assert spread["one_euro"] < 0.6 * spread["none"] and spread["one_euro"] < 0.8  # mm


def test_wrong_arguments_end_in_one_line(trackers, one_hand):
    tracker = trackers()
    with pytest.raises(InputError, match="intrinsics are missing"):
        tracker(one_hand[0].depth, 0.0)
    with pytest.raises(InputError, match=r"float32 \[1, 480, 640\]; numbers \[H, W\]"):
        tracker(one_hand[0].depth[np.newaxis], 0.0, one_hand[0].intrinsics)
    for wrong in ({"max_hands": 3}, {"hand": "both"}, {"filter": "median"}):
        with pytest.raises(InputError, match="wanted"):
            trackers(**wrong)


class Search:
    """A model whose localiser takes its time, fails, or finds one place."""

    def __init__(self, model, seconds=0.0, error=None, place=None):
        self._model, self._seconds, self._error, self._place = model, seconds, error, place

    def run(self, signature, inputs, name="the frame"):
        if signature != "locate":
            return self._model.run(signature, inputs, name)
        time.sleep(self._seconds)
        if self._error is not None:
            raise self._error
        if self._place is None:
            return self._model.run(signature, inputs, name)
        return {"centre": self._place[np.newaxis, np.newaxis], "score": np.ones([1, 1])}

    def __getattr__(self, name):
        return getattr(self._model, name)


def searching_thread_rests(tracker):
    if tracker._searching is not None:
        concurrent.futures.wait([tracker._searching])


def test_a_search_in_the_background_finds_the_same_hands(trackers):
    frames = list(SyntheticHands(trackers.template, "two", 30, RATE, seed=5))
    found = {}
    for background in (False, True):
        tracker = trackers(background=background)
        found[background] = []
        for number, frame in enumerate(frames):  # the second hand is seen from the tenth on
            place = frame.truth.vertices[int(number >= 10)].mean(axis=0)
            tracker._look._model = Search(tracker.model, place=place)
            found[background].append(tracker(frame.depth, frame.time_s, frame.intrinsics))
            searching_thread_rests(tracker)
    assert [len(hands) for hands in found[False]] == [1] * 10 + [2] * 20
    assert [len(hands) for hands in found[True]] == [1] * 11 + [2] * 19  # a frame later
    for one, other in zip(found[False][-1], found[True][-1], strict=True):
        assert one.valid and other.valid and one.identity == other.identity
        assert one.mesh.hand == other.mesh.hand
        assert np.abs(one.mesh.vertices - other.mesh.vertices).max() < 10  # mm


def test_a_tracked_frame_does_not_wait_for_the_search_in_the_background(trackers, one_hand):
    tracker = trackers(background=True)
    follow(tracker, one_hand[:5])  # held, and the functions compiled
    searching_thread_rests(tracker)
    tracker._look._model = Search(tracker.model, seconds=5.0)
    start = time.monotonic()
    found = follow(tracker, one_hand[5:15])
    assert tracker._searching is not None and not tracker._searching.done()
    assert time.monotonic() - start < 5.0
    assert all(hands[0].valid for hands in found)
    # Without a hand it is waited for: there is nothing else to do.
    nothing = np.zeros_like(one_hand[15].depth)
    hands = tracker(nothing, one_hand[15].time_s, one_hand[15].intrinsics)
    assert not hands[0].valid and time.monotonic() - start > 5.0


def test_a_fault_of_the_search_in_the_background_is_one_line_at_the_next_frame(trackers, one_hand):
    tracker = trackers(background=True)
    follow(tracker, one_hand[:5])
    searching_thread_rests(tracker)
    model = tracker._look._model
    tracker._look._model = Search(model, error=MemoryError("no memory\nfor it"))
    with pytest.raises(InputError, match="a further hand failed: no memory; track") as raised:
        for number in range(5, 8):
            searching_thread_rests(tracker)
            follow(tracker, one_hand[number : number + 1])
    assert "\n" not in str(raised.value)
    tracker._look._model = model
    assert follow(tracker, one_hand[8:9])[0][0].valid  # and one may go on


def memory_grows(trackers, frames: int) -> float:
    """MB by which the second half of a stream makes the process grow."""
    source = list(SyntheticHands(trackers.template, "cross", 120, RATE, seed=5))
    tracker, process, sizes = trackers(), psutil.Process(os.getpid()), []
    for number in range(frames):
        frame = source[number % len(source)]
        tracker(frame.depth, number / RATE, frame.intrinsics)
        if number in (frames // 2, frames - 1):
            sizes.append(process.memory_info().rss / 1e6)
    return sizes[1] - sizes[0]


def test_memory_stays_flat(trackers):
    assert memory_grows(trackers, 200) < 30


@pytest.mark.long
def test_memory_stays_flat_over_ten_minutes(trackers):
    assert memory_grows(trackers, 18_000) < 30


def test_a_short_stream_stays_young_and_small(trackers):
    from benchmarks.tracking import stream

    made = list(SyntheticHands(trackers.template, "cross", 60, RATE, seed=5))
    figures = stream(trackers(background=True), made, 6.0)
    assert figures["frames"] + figures["skipped"] == 180
    # It waits for its turn until the next frame comes at most; on whatever machine, so the median.
    assert figures["waited_ms"]["median"] < 1000 / RATE
    assert figures["age_ms"]["largest"] < 2000  # of a slow machine, too: a queue would grow
    assert figures["memory_mb"]["end"] - figures["memory_mb"]["minute"] < 30
    assert figures["hands"] > 0.5


@pytest.mark.long
def test_no_frame_of_a_long_stream_is_old_and_memory_is_flat(checkout, tmp_path):
    file = tmp_path / "stream.json"
    threads = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    subprocess.run(
        [sys.executable, "-m", "benchmarks.tracking", f"--stream={STREAM_S}", f"--json={file}"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), **threads},
        check=True,
        timeout=STREAM_S + 300,
    )
    result = json.loads(file.read_text())
    memory = result["stream"]["memory_mb"]
    assert memory["end"] - memory["minute"] < 20
    if result["machine"]["load"] > 0.75 * len(os.sched_getaffinity(0)):
        pytest.skip("others use the processors: times tell nothing; memory is flat")
    assert result["stream"]["age_ms"]["largest"] < 100
