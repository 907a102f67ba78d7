"""What the checks of files cost: reading with them against reading without, in one run.

    python -m experiments.cost_of_checks --json=runs/cost_of_checks.json

Records, synthetic and of views: read to the end once, as a pass of training does; without: no
checksum of any record, no look at its values. Depth PNGs: `depth_io.read_depth` of a 640x480 frame;
without: the header alone is read. Everything takes turns, and what counts is the process's own time
on the processors.
"""

import contextlib
import json
import pathlib
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
from absl import flags

from dgn_tf import errors

FLAGS = flags.FLAGS

flags.DEFINE_integer("rounds", 21, "Rounds; all take turns in each.", lower_bound=5)
flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")

# What reading with the checks may take, in times of reading without.
BARS = {"records": 1.05, "view_records": 1.05, "u16_frame": 1.1, "nyu_frame": 1.1}
_BATCH, _STEPS, _VIEWS, _TURN = 32, 64, 3, 16


def main(_):
    from dgn_tf.json_file import write_json

    with tempfile.TemporaryDirectory() as folder:
        result = measure(pathlib.Path(folder), FLAGS.rounds)
    for name, row in result.items():
        print(
            f"{name}: {row['median']:.3f} times ({row['low']:.3f} to {row['high']:.3f}), "
            f"bar {row['bar']}; {row['ms']:.2f} ms"
        )
    if FLAGS.json:
        write_json(result, FLAGS.json)


def measure(folder: pathlib.Path, rounds: int) -> dict[str, dict[str, float]]:
    """The ratios by name of `BARS`: `timing.spread`'s, `bar`, and `ms` of a turn with checks.

    Args:
        folder: where the files to be read are written.
        rounds: R.
    """
    from benchmarks import timing

    pairs = {
        "records": _records(folder),
        "view_records": _views(folder),
        "u16_frame": _frame(folder, "u16"),
        "nyu_frame": _frame(folder, "nyu"),
    }
    jobs: dict[str, Callable] = {}
    for name, (checked, unchecked) in pairs.items():
        jobs |= {name: checked, f"{name} without": unchecked}
    seconds = timing.alternate(jobs, rounds, time.process_time)
    return {
        name: {
            **timing.spread(seconds[name], seconds[f"{name} without"]),
            "bar": BARS[name],
            "ms": 1e3 * float(np.median(seconds[name])),
        }
        for name in pairs
    }


@contextlib.contextmanager
def unchecked_records() -> Iterator[None]:
    """Record datasets that are made within verify no checksum and look at no value."""
    from dgn_tf.records import reader, schema, views

    class Store(reader.RecordStore):
        def read(self, row: int) -> bytes:
            offset, length = self.spans[row]
            with open(self.files[self.owner[row]], "rb") as file:
                file.seek(offset)
                return file.read(length)

    # A length's checksum is compared with the stored one: `Any` is equal to it.
    with (
        mock.patch.object(reader, "RecordStore", Store),
        mock.patch.object(views, "RecordStore", Store),
        mock.patch.object(reader, "masked_crc32c", lambda _: mock.ANY),
        mock.patch.object(schema, "checked", lambda through, *_: through),
    ):
        yield


def _records(folder) -> tuple[Callable, Callable]:
    """A pass over synthetic records, with and without checks."""
    from benchmarks import pipeline
    from dgn_tf.records.batches import Batching
    from dgn_tf.records.reader import record_dataset
    from dgn_tf.synthesis.settings import SynthesisConfig
    from dgn_tf.template import DEFAULT_TEMPLATE_PATH, HandTemplate

    template = HandTemplate.load(DEFAULT_TEMPLATE_PATH)
    settings = pipeline.Settings(template, SynthesisConfig(), 1, _BATCH, "")
    records = pipeline.write_records(settings, folder).records
    return _passes(
        lambda: record_dataset(
            records, template, batching=Batching(batch_size=_BATCH, repeat=False)
        )
    )


def _views(folder) -> tuple[Callable, Callable]:
    """A pass over records of views, with and without checks."""
    from dgn_tf.records import views
    from dgn_tf.records.batches import Batching

    _write_views(folder / "views")
    return _passes(
        lambda: views.step_dataset(
            str(folder / "views"),
            batching=Batching(batch_size=_BATCH // 4, repeat=False, threads=1),
        )
    )


def _passes(dataset) -> tuple[Callable, Callable]:
    checked = dataset()
    with unchecked_records():
        unchecked = dataset()
    return lambda: list(checked), lambda: list(unchecked)


def _write_views(folder) -> None:
    """`_STEPS` time steps of `_VIEWS` cameras; each camera's frame is a hand of its own."""
    import tensorflow as tf

    from benchmarks.inputs import INTRINSICS
    from dgn_tf.records import schema, view_schema

    folder.mkdir()
    name = "views-00000-of-00001.tfrecord"
    frames = [_hand(index) for index in range(_VIEWS)]
    width = height = 200
    with tf.io.TFRecordWriter(str(folder / name)) as writer:
        for index in range(_STEPS):
            step: dict[str, Any] = {
                "index": index + 1,
                "cameras": np.arange(_VIEWS) + 1,
                "frames": [f"depth_{camera}.png" for camera in range(_VIEWS)],
                "depth": [],
                "depth_unit": 1.0,
                "window": [],
                "intrinsics": np.tile(INTRINSICS, [_VIEWS, 1]),
                "camera_from_rig": np.tile(np.eye(4), [_VIEWS, 1, 1]),
                "rig_known": 1,
                "centre": [sample["keypoints"].mean(axis=0) for sample in frames],
                "view_valid": np.ones(_VIEWS),
                "cube": 300.0,
                "keypoints": [sample["keypoints"] for sample in frames],
                "keypoints_valid": np.ones([_VIEWS, len(frames[0]["keypoints"])]),
            }
            for sample in frames:
                centre = sample["keypoints"].mean(axis=0)
                middle = centre[:2] / centre[2] * INTRINSICS[:2]
                left, top = np.rint(middle + INTRINSICS[2:] - 100).astype(int)
                left, top = np.clip([left, top], 0, np.subtract([640, 480], [width, height]))
                window = sample["depth"][top : top + height, left : left + width]
                step["window"].append([left, top, width, height])
                step["depth"].append(np.rint(window).astype(np.uint16))
            writer.write(view_schema.encode_step(step))
    description = {
        "format_version": view_schema.FORMAT_VERSION,
        "kind": view_schema.KIND,
        "cameras": list(range(1, _VIEWS + 1)),
        "keypoints": [str(number) for number in range(len(frames[0]["keypoints"]))],
        "files": [{"name": name, "records": _STEPS}],
    }
    (folder / schema.DESCRIPTION_FILE).write_text(json.dumps(description))


def _frame(folder, encoding) -> tuple[Callable, Callable]:
    """Reads one depth frame `_TURN` times, with and without check sums."""
    from PIL import Image

    from benchmarks.timing import repeated
    from dgn_tf import depth_io, png_file

    depth = np.rint(_hand(0)["depth"]).astype(np.uint16)
    if encoding == "nyu":
        depth[depth == 0] = 2001  # as in the data set
        depth = np.stack([0 * depth, depth >> 8, depth & 255], axis=-1).astype(np.uint8)
    file, unit = folder / f"{encoding}.png", None if encoding == "nyu" else 1.0
    Image.fromarray(depth).save(file)

    def header(content):
        return png_file.Header(*struct.unpack_from(">IIBB", content, 16))

    def read():
        return depth_io.read_depth(file, encoding, unit)

    def unchecked():
        with mock.patch.object(png_file, "read_header", header):
            return read()

    return repeated(read, _TURN), repeated(unchecked, _TURN)


def _hand(index) -> dict:
    """A whole frame of a hand with noise, and its truth."""
    from benchmarks.inputs import INTRINSICS
    from dgn_tf.synthesis.settings import SynthesisConfig
    from dgn_tf.synthesis.whole_frames import render_frame
    from dgn_tf.template import DEFAULT_TEMPLATE_PATH, HandTemplate

    template = HandTemplate.load(DEFAULT_TEMPLATE_PATH)
    return render_frame(template, SynthesisConfig(), 1, index, intrinsics=INTRINSICS)


if __name__ == "__main__":
    errors.run(main)
