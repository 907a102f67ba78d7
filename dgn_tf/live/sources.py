"""Sources of frames by their names: files, recordings, cameras, synthetic hands; and their faults.

A source is any iterable of `LiveFrame`.
"""

import glob
import itertools
import math
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from dgn_tf.errors import InputError, reason
from dgn_tf.frame_files import find_frames
from dgn_tf.live.frames import LiveFrame

SYNTHETIC, REALSENSE = "synthetic", "realsense"
_RECORDINGS = (".db3", ".bag")
_CLOCK_SET_S = 1.0  # a time stamp that goes back by more is a clock that was set, else a late frame
_LATE = 10  # frames in a row that lie before the newest: the clock was set too


def is_device(named: str) -> bool:
    """Whether --source names a camera: never where it could be a file's name."""
    return named.partition(":")[0] == REALSENSE and not os.path.lexists(named)


def open_source(
    named: str,
    read: Callable[[pathlib.Path], tuple[np.ndarray, np.ndarray]],
    template: Callable[[], object],
    rate: float = 30.0,
    seconds: float = 0.0,
) -> Iterable[LiveFrame]:
    """The source that --source names.

    Args:
        named: depth frames as `find_frames` takes them; a RealSense recording (.db3, .bag);
            "realsense" or "realsense:SERIAL", a camera; "synthetic:MOTION", see `SyntheticHands`.
        read: of a depth file [H, W] mm and the intrinsics [4].
        template: gives the synthetic hands' template.
        rate: frames a second of depth files and synthetic hands.
        seconds: after which the source ends; 0: when it ends by itself.

    Raises:
        InputError: no such source, a package is missing, no camera is connected.
    """
    ending = pathlib.Path(named).suffix.lower()
    if is_device(named) or (ending in _RECORDINGS and not glob.has_magic(named)):
        from dgn_tf.live import realsense

        frames: Iterable[LiveFrame]
        if is_device(named):
            frames = realsense.camera(named.partition(":")[2])
        else:
            frames = realsense.recording(named)
    elif named.partition(":")[0] == SYNTHETIC and not os.path.lexists(named):
        frames = _synthetic(named.partition(":")[2] or "one", template, rate, seconds)
    else:
        frames = _files(find_frames(named, "--source"), read, rate)
    return _first_seconds(frames, seconds) if seconds else frames


def _synthetic(motion, template, rate, seconds) -> Iterable[LiveFrame]:
    from dgn_tf.live.synthetic import MOTIONS, SyntheticHands

    if motion not in MOTIONS:
        raise InputError(f"--source=synthetic:{motion}: wanted one of {', '.join(MOTIONS)}.")
    return SyntheticHands(template(), motion, round(rate * (seconds or 10.0)), rate)


def _files(files, read, rate) -> Iterator[LiveFrame]:
    for number, file in enumerate(files):
        depth, intrinsics = read(file)
        yield LiveFrame(depth, intrinsics, 1.0, number / rate)


def _first_seconds(frames, seconds) -> Iterator[LiveFrame]:
    start = None
    for frame in frames:
        start = frame.time_s if start is None else start
        if frame.time_s - start >= seconds:
            return
        yield frame


class Ordered:
    """Frames of a source in the order of their time stamps; those that come late are left out.

    A clock that was set back, by more than a second or for good, is believed. What a source raises
    but InputError becomes one, in one line.

    Args:
        frames: a source.
        named: it, for messages.

    Attributes:
        late: how many frames were left out.
    """

    def __init__(self, frames: Iterable[LiveFrame], named: str):
        self._frames, self._named, self.late = frames, named, 0

    def __iter__(self) -> Iterator[LiveFrame]:
        newest, in_a_row = -np.inf, 0
        frames = iter(self._frames)
        for number in itertools.count():
            try:
                frame = next(frames)
            except StopIteration:
                return
            except InputError:
                raise
            except Exception as error:  # whatever a driver raises
                raise InputError(
                    f"--source={self._named} ended after {number} frames: {reason(error)}; check "
                    "the camera's cable or copy the recording again."
                ) from None
            behind = newest - frame.time_s
            if 0 <= behind < _CLOCK_SET_S and in_a_row < _LATE:
                self.late, in_a_row = self.late + 1, in_a_row + 1
                continue
            newest, in_a_row = frame.time_s, 0
            yield frame


def paced(frames: Iterable[LiveFrame]) -> Iterator[LiveFrame]:
    """Frames no sooner than their time stamps say; gaps of more than a second are cut."""
    start, first, last = time.monotonic(), 0.0, math.inf
    for frame in frames:
        if not 0 <= frame.time_s - last < 1.0:
            start, first = time.monotonic(), frame.time_s
        last = frame.time_s
        time.sleep(max(0.0, start + frame.time_s - first - time.monotonic()))
        yield frame


class Newest:
    """The newest frame of a source each time, read by a thread: of a slow reader none is old.

    Args:
        frames: a source that gives frames as they happen.

    Attributes:
        skipped: how many frames nobody took.
    """

    def __init__(self, frames: Iterable[LiveFrame]):
        self._frames, self.skipped = frames, 0
        self._change = threading.Condition()
        self._waiting: LiveFrame | None = None
        self._ended, self._left = False, False
        self._error: BaseException | None = None

    def __iter__(self) -> Iterator[LiveFrame]:
        threading.Thread(target=self._read, daemon=True, name="frames").start()
        try:
            while True:
                with self._change:
                    self._change.wait_for(lambda: self._waiting is not None or self._ended)
                    frame, self._waiting = self._waiting, None
                if frame is None:
                    if self._error is not None:
                        raise self._error
                    return
                yield frame
        finally:
            self._left = True

    def _read(self) -> None:
        try:
            for frame in self._frames:
                with self._change:
                    self.skipped += self._waiting is not None
                    self._waiting = frame
                    self._change.notify()
                if self._left:
                    return
        except BaseException as error:  # raised again where the frames are taken
            self._error = error
        finally:
            with self._change:
                self._ended = True
                self._change.notify()
