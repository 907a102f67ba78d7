"""Reads multi-view records: single views, or the synchronised views of a time step.

Records are those of `data_prep.nyu_to_tfrecord`; what one holds is `view_schema`'s to say.
"""

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.records import schema, view_schema
from dgn_tf.records.batches import WHOLE, Batching
from dgn_tf.records.feature_scan import scan_feature
from dgn_tf.records.reader import (
    RecordStore,
    endless_order,
    read_description,
    record_files,
    unsharded,
)
from dgn_tf.records.view_crops import NONE, AugmentConfig, augmented_view

WRITER = "data_prep.nyu_to_tfrecord"
PARTS = ("all", "train", "held_out")
_BLOCKS = 10
# A view without a centre gets this one, mm: depth is missing there, and nothing divides by 0.
_NO_CENTRE = (0.0, 0.0, 1000.0)


@dataclasses.dataclass(frozen=True)
class ViewRecords:
    """A split's records, opened: what the two datasets have in common.

    cameras: [C] their numbers, from 1, in the records' order.
    keypoints: J.
    valid: [N, C] bool: the record's view has a usable frame and a centre.
    """

    store: RecordStore
    description: dict
    cameras: tuple[int, ...]
    keypoints: int
    valid: np.ndarray

    def places(self, cameras: Sequence[int]) -> list[int]:
        """Places of cameras, by number, in the records; none stands for all of them."""
        for camera in cameras:
            if camera not in self.cameras:
                known = ", ".join(map(str, self.cameras))
                raise InputError(
                    f"{self.folder}: no camera {camera} in these records, which have {known}; name "
                    f"one of them or convert it with {WRITER} --cameras."
                )
        return [self.cameras.index(camera) for camera in cameras or self.cameras]

    def parse(self, serialized, row) -> dict[str, tf.Tensor]:
        """Record `row` of `store`, see `view_schema.parse_step`; its values can be."""
        step = self.parse_unseen(serialized)
        return step | {"cube": self.checked(step["cube"], step, row)}

    def parse_unseen(self, serialized) -> dict[str, tf.Tensor]:
        """See `parse`; whether its values can be is left to `checked`, of many at once."""
        return view_schema.parse_step(serialized, len(self.cameras), self.keypoints)

    def checked(self, through, values, rows) -> tf.Tensor:
        """See `possible.checked`."""
        return schema.checked(through, values, rows, self.store.refuse_impossible)

    @property
    def folder(self) -> str:
        return os.path.dirname(self.store.files[0]) or "."


def view_description(folder: str) -> dict:
    """The description.json of multi-view records, as `data_prep.nyu_to_tfrecord` writes it.

    Raises:
        InputError: it is missing, damaged, or of records of another kind.
    """
    description = read_description(folder, view_schema.FORMAT_VERSION, WRITER)
    if description.get("kind") != view_schema.KIND:
        raise InputError(
            f"{folder}: records of another kind than {view_schema.KIND!r}; name a split's folder "
            f"of {WRITER}."
        )
    return description


def open_views(folder: str) -> ViewRecords:
    """Opens a split's folder, such as data/nyu_records/train.

    Raises:
        InputError: no records, not all of them, damaged ones or of another kind.
    """
    splits = [name for name in ("train", "test") if os.path.isdir(os.path.join(folder, name))]
    if splits:
        raise InputError(
            f"{folder}: the folder of several splits; name one, {os.path.join(folder, splits[0])}."
        )
    files = record_files(folder, f"python -m {WRITER} --nyu_dir=DIR --output_dir=OUT")
    description = view_description(folder)
    store = RecordStore(files, WRITER)
    store.check_files(description)
    for serialized, where in store.first_of_files():
        view_schema.check_example(serialized, where)
    cameras = tuple(int(camera) for camera in description["cameras"])
    valid = np.array(scan_feature(store, "view_valid"), np.int64)
    if valid.shape != (len(store), len(cameras)):
        raise InputError(f"{folder}: records of other cameras than {cameras}; write them again.")
    return ViewRecords(store, description, cameras, len(description["keypoints"]), valid > 0)


def steps_of_part(steps: int, part: str = "all", held_out: float = 0.1) -> np.ndarray:
    """Numbers of the time steps of a part, in order.

    What is held out are ten runs of neighbouring steps (or as many as there are), evenly spread:
    a step held out one by one would have its like in the rest, a frame before and after.

    Args:
        steps: how many there are.
        part: "all", "train" or "held_out".
        held_out: share that is held out.
    """
    if part not in PARTS or not 0 <= held_out < 1:
        raise ValueError(
            f"steps_of_part wants one of {PARTS} and a share of [0, 1), got {part!r}, {held_out}."
        )
    if part == "all":
        return np.arange(steps)
    out = np.zeros(steps, bool)
    total = round(held_out * steps)
    blocks = max(1, min(_BLOCKS, total))
    for block in range(blocks):
        start, stop = block * steps // blocks, (block + 1) * steps // blocks
        length = (block + 1) * total // blocks - block * total // blocks
        first = start + (stop - start - length) // 2
        out[first : first + length] = True
    return np.flatnonzero(out if part == "held_out" else ~out)


def runs_of_steps(steps: np.ndarray, fraction: float, seed: int = 0) -> np.ndarray:
    """A share of `steps` [N] as ten runs of neighbouring ones; at least one step.

    That is what less recording leaves: `labelled_steps` would keep the like of every step. Each
    tenth of the steps (or so) has its run, at a place drawn by `seed`: the same place in each
    would lie beside the steps held out, or never. Of a seed, a larger share has all of a smaller
    one of ten steps or more.

    Raises:
        ValueError: `fraction` is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"runs_of_steps wants a fraction of (0, 1], got {fraction}.")
    total = max(1, round(fraction * len(steps)))
    blocks = min(_BLOCKS, total)
    drawn = np.random.default_rng(seed).random(blocks)
    bounds = np.arange(blocks + 1) * len(steps) // blocks
    # A step's order: how long the run of its block must be to have it, as a share of the block.
    order = np.concatenate(
        [
            _run_order(length, place) / length
            for length, place in zip(np.diff(bounds), drawn, strict=True)
        ]
    )
    return steps[np.sort(np.argsort(order, kind="stable")[:total])]


def _run_order(length: int, place: float) -> np.ndarray:
    """[length] how long a run must be to have each step; shorter runs lie within longer ones."""
    longs = np.arange(1, length + 1)
    first = (place * (length - longs + 1)).astype(int)
    leftwards = np.diff(first, prepend=first[0]) < 0
    order = np.empty(length, int)
    order[np.where(leftwards, first, first + longs - 1)] = longs
    return order


def labelled_steps(steps: np.ndarray, fraction: float) -> np.ndarray:
    """The part of `steps` [N] that keeps its labels: evenly spread, at least one.

    Raises:
        ValueError: `fraction` is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"labelled_steps wants a fraction of (0, 1], got {fraction}.")
    kept = max(1, round(fraction * len(steps)))
    return steps[(2 * np.arange(kept) + 1) * len(steps) // (2 * kept)]


@dataclasses.dataclass(frozen=True)
class StepChoice:
    """Which of a split's time steps are read.

    Attributes:
        part: "all", "train" or "held_out", see `steps_of_part`.
        held_out: share of the time steps that is held out.
        fraction: share of the part's time steps that is used at all, see `runs_of_steps`.
        labelled_fraction: share of these that keep their labels, evenly spread.
    """

    part: str = "all"
    held_out: float = 0.1
    fraction: float = 1.0
    labelled_fraction: float = 1.0

    def steps(self, records: ViewRecords, seed: int) -> np.ndarray:
        """Numbers of the time steps, in order."""
        part = steps_of_part(len(records.store), self.part, self.held_out)
        return runs_of_steps(part, self.fraction, seed)


def view_dataset(
    folder: str,
    batching: Batching,
    camera: int | Sequence[int] = 0,
    augment: AugmentConfig | None = None,
    choice: StepChoice = StepChoice(),
    size: int = 64,
) -> tf.data.Dataset:
    """Batches of single views; views without a usable frame or centre are left out.

    Args:
        folder: of a split's records.
        batching: which batches.
        camera: number of the camera, from 1, or several; 0 for all. Each view of several is an
            example of its own; in order, a time step's views follow each other.
        augment: None for none.
        choice: of the time steps; those without labels are not read.
        size: S, side of the crops, pixels.

    Returns:
        Batches of depth [B, S, S] mm (0 = missing), intrinsics [B, 4] of the crop,
        frame_intrinsics [B, 4] of the whole frame, centre [B, 3], cube [B] mm, keypoints
        [B, J, 3] mm, keypoints_valid [B, J] float32, camera_from_rig [B, 4, 4] mm, rig_known [B]
        float32, camera [B] int64, index [B] int64, left [B] and frame_width [B] int64. Everything
        is in the (augmented) camera's frame, mirrored where `left` is 1, see `view_schema`;
        frame_intrinsics remain those of the frame, which a roll and a scale keep.

    Raises:
        InputError: no such camera; no, unfinished or damaged records; nothing left to read.
    """
    records = open_views(folder)
    steps = labelled_steps(choice.steps(records, batching.seed), choice.labelled_fraction)
    places = np.array(records.places(_numbers(camera)))
    rows, columns = np.nonzero(records.valid[steps][:, places])
    _check_any(records, len(rows), choice.part)
    steps, places = steps[rows], places[columns]

    def load(example):
        return records.store.read(steps[example]), steps[example], places[example]

    def make(number, serialized, row, place):
        step = records.parse_unseen(serialized)
        view = augmented_view(
            _one_view(step, place), augment or NONE, batching.seed, number, 0, size
        )
        example = {
            **view,
            "rig_known": tf.cast(step["rig_known"], tf.float32),
            "camera": step["cameras"][place],
            **{name: step[name] for name in ("index", "left", "frame_width")},
        }
        return example, schema.limited(step), row

    types = (tf.string, tf.int64, tf.int64)
    return _batches(len(steps), load, types, make, records.checked, batching)


def step_dataset(
    folder: str,
    batching: Batching,
    cameras: Sequence[int] = (),
    augment: AugmentConfig | None = None,
    choice: StepChoice = StepChoice(),
    size: int = 64,
) -> tf.data.Dataset:
    """Batches of time steps with their synchronised views; steps without any view are left out.

    Augmented views have a roll and a jitter each; a step's views share the scale, so that their
    rig frames agree.

    Args:
        cameras: numbers of the cameras, from 1, in the order wanted; none for all.
        choice: of the time steps; in those without labels keypoints and keypoints_valid are 0.
        others: as in `view_dataset`.

    Returns:
        Batches of `view_dataset`'s keys, [B, C, ...] but for cube, rig_known, index, left and
        frame_width [B]; and view_valid [B, C] float32. Where it is 0, depth and key points are 0
        and the centre is a stand-in.

    Raises:
        InputError: see `view_dataset`.
    """
    records = open_views(folder)
    places = records.places(tuple(cameras))
    steps = choice.steps(records, batching.seed)
    labelled = np.isin(steps, labelled_steps(steps, choice.labelled_fraction))
    seen = records.valid[steps][:, places].any(axis=1)
    _check_any(records, int(seen.sum()), choice.part)
    steps, labelled = steps[seen], labelled[seen]

    def load(example):
        row = steps[example]
        return records.store.read(row), row, labelled[example].astype(np.float32)

    def make(number, serialized, row, has_labels):
        step = records.parse_unseen(serialized)
        views = [
            augmented_view(
                _one_view(step, place), augment or NONE, batching.seed, number, turn, size
            )
            for turn, place in enumerate(places)
        ]
        batch = {name: tf.stack([view[name] for view in views]) for name in views[0]}
        example = {
            **batch,
            "cube": step["cube"],
            "keypoints": batch["keypoints"] * has_labels,
            "keypoints_valid": batch["keypoints_valid"] * has_labels,
            "view_valid": tf.cast(tf.gather(step["view_valid"], places), tf.float32),
            "rig_known": tf.cast(step["rig_known"], tf.float32),
            "camera": tf.gather(step["cameras"], places),
            **{name: step[name] for name in ("index", "left", "frame_width")},
        }
        return example, schema.limited(step), row

    types = (tf.string, tf.int64, tf.float32)
    return _batches(len(steps), load, types, make, records.checked, batching)


def _one_view(step, place):
    """What `augmented_view` wants, of a parsed record's view."""
    valid = step["view_valid"][place] > 0
    window = view_schema.decode_window(step["depth"][place]) * step["depth_unit"]
    return {
        "window": tf.where(valid, window, 0.0),
        "left_top": step["window"][place, :2],
        "intrinsics": step["intrinsics"][place],
        "centre": tf.where(valid, step["centre"][place], _NO_CENTRE),
        "cube": step["cube"],
        "camera_from_rig": step["camera_from_rig"][place],
        "keypoints": step["keypoints"][place],
        "keypoints_valid": step["keypoints_valid"][place],
    }


def _numbers(camera):
    """(number, ...) of one camera or several; () for 0, which is all."""
    if isinstance(camera, Sequence):
        return tuple(camera)
    return (camera,) if camera else ()


def _check_any(records, count, part):
    if not count:
        raise InputError(
            f"{records.folder}: no usable view in part {part!r} of {len(records.store)} records; "
            "hold out another share or convert more frames."
        )


def _batches(
    total: int,
    load: Callable[[int], tuple],
    types: tuple[tf.DType, ...],
    make: Callable[..., tuple],
    checked: Callable[..., tf.Tensor],
    batching: Batching,
) -> tf.data.Dataset:
    """Batches of `make`(number, *`load`(row)) for the run's examples, from a batch on.

    `make` gives an example, what of its record is to be looked at, and the record's number.
    """

    batch_size, repeat, rows = batching.batch_size, batching.repeat, batching.rows
    rows_of = endless_order(total, batching.shuffle, batching.seed)

    def read(number):
        return load(int(rows_of(np.array([number]))[0]))

    def example(number):
        loaded = tf.numpy_function(read, [number], types)
        for tensor in loaded:
            tensor.set_shape([])
        return make(number, *loaded)

    def seen(batch, values, rows):
        return batch | {"cube": checked(batch["cube"], values, rows)}

    last = sys.maxsize if repeat else total
    numbers = tf.data.Dataset.range(batching.start_step * batch_size, last)
    if batching.share != WHOLE:
        numbers = numbers.batch(batch_size).map(lambda batch: batch[rows.start : rows.stop])
        numbers = numbers.unbatch()
    examples = numbers.map(example, num_parallel_calls=batching.threads)
    whole = repeat or total % batch_size == 0
    batches = examples.batch(len(rows), drop_remainder=whole).map(seen)
    return batches.prefetch(batching.prefetch).with_options(unsharded())
