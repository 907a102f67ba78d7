"""Speed of what feeds training: rasteriser, whole frames, synthesis, records, on-line batches.

Each is a job over a number of frames, for the timing and for the memory of a process of its own.
"""

import itertools
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks import inputs, machine, timing
from dgn_tf.config import Train
from dgn_tf.geometry.raster import render_mesh
from dgn_tf.records.batches import Batching
from dgn_tf.records.reader import record_dataset
from dgn_tf.synthesis.batches import synthesize_batch
from dgn_tf.synthesis.online import online_dataset
from dgn_tf.synthesis.settings import SynthesisConfig
from dgn_tf.synthesis.whole_frames import render_frame
from dgn_tf.template import DEFAULT_TEMPLATE_PATH, HandTemplate

RECORDS = 256  # frames in the records that are written where none are given
_WIDTH, _HEIGHT = 640, 480
_BATCHES = 16  # of a pipeline's run: several times what it keeps ready


class Settings(NamedTuple):
    """What is made, and how much at a time."""

    template: Any
    config: SynthesisConfig
    seed: int
    batch_size: int
    records: str  # folder


def from_flags(flags: Train, records: str = "") -> Settings:
    """Template, synthesis and batch size of `dgn_tf.train`'s flags."""
    template = HandTemplate.load(flags.template or DEFAULT_TEMPLATE_PATH, flags.embedding)
    file = flags.synthesis_config
    config = SynthesisConfig.load(file) if file else SynthesisConfig()
    return Settings(template, config, flags.seed, flags.batch_size, records)


class Work(NamedTuple):
    """A job, its frames a run, and the bytes that it gives a run."""

    job: Callable[[], object]
    frames: int
    bytes: int


def renderer(settings: Settings) -> Work:
    """Rasterises a hand into whole frames: depth, face and barycentric coordinates."""
    sample = render_frame(settings.template, settings.config, settings.seed, 0)
    vertices, faces = sample["vertices"], np.asarray(settings.template.faces)

    def job():
        for _ in range(settings.batch_size):
            found = render_mesh(vertices, faces, inputs.INTRINSICS, _WIDTH, _HEIGHT)
        return found

    return Work(job, settings.batch_size, settings.batch_size * _bytes(job()))


def whole_frames(settings: Settings) -> Work:
    """Draws, renders and observes whole frames of a hand and its person."""
    numbers = itertools.count()

    def job():
        for _ in range(settings.batch_size):
            found = render_frame(settings.template, settings.config, settings.seed, next(numbers))
        return found

    return Work(job, settings.batch_size, settings.batch_size * _bytes([job()["depth"]]))


def synthesis(settings: Settings) -> Work:
    """Synthesises batches of training crops."""
    numbers, size = itertools.count(), settings.batch_size

    def job():
        return synthesize_batch(
            settings.template, settings.config, settings.seed, next(numbers) * size, size
        )

    return Work(job, size, _bytes(job().values()))


def records(settings: Settings) -> Work:
    """Reads batches of records, shuffled, with the per-pixel targets."""
    return _batches_work(
        settings,
        iter(
            record_dataset(
                settings.records,
                settings.template,
                batching=Batching(batch_size=settings.batch_size, seed=settings.seed),
            )
        ),
    )


def online(settings: Settings) -> Work:
    """Takes batches from the on-line dataset: synthesis in the background, and targets."""
    return _batches_work(settings, online_batches(settings))


def online_batches(settings: Settings):
    """An iterator over the on-line dataset."""
    return iter(
        online_dataset(
            settings.template,
            settings.config,
            batching=Batching(seed=settings.seed, batch_size=settings.batch_size),
        )
    )


WORKS = {
    "renderer": renderer,
    "whole_frames": whole_frames,
    "synthesis": synthesis,
    "input_pipeline": records,
    "online_pipeline": online,
}


def measure_pipeline(settings: Settings, rounds: int) -> dict:
    """Frames a second of each of `WORKS`, in alternation.

    A pipeline works ahead while the others are timed, as far as it prefetches.

    Returns:
        The machine's rates, and work -> {`frames_per_s`, `ms_per_frame`, `mbytes` of a frame that
        it leaves in memory, `bound_ms` from these alone, and `share_of_bound`}. There is no graph
        to count operations in: most of them compare, branch and draw random numbers.
    """
    works = {name: make(settings) for name, make in WORKS.items()}
    probe = machine.memory_sweep()
    repeats = {name: _BATCHES if "pipeline" in name else 1 for name in works}
    seconds = timing.alternate(
        {
            "memory_sweep": probe.job,
            **{name: timing.repeated(work.job, repeats[name]) for name, work in works.items()},
        },
        rounds,
    )
    rate = probe.amount / seconds["memory_sweep"]
    result: dict = {
        "batch_size": settings.batch_size,
        "memory_gbytes_per_s": float(np.median(rate)) / 1e9,
    }
    for name, work in works.items():
        taken = seconds[name] / repeats[name]
        least = work.bytes / rate
        result[name] = {
            "frames_per_s": work.frames / float(np.median(taken)),
            "ms_per_frame": 1e3 * float(np.median(taken)) / work.frames,
            "mbytes": work.bytes / work.frames / 1e6,
            "bound_ms": 1e3 * float(np.median(least)) / work.frames,
            "share_of_bound": float(np.median(least / taken)),
        }
    return result


def write_records(settings: Settings, folder) -> Settings:
    """`settings` with records of `RECORDS` frames, written into `folder` by the writer itself."""
    folder = pathlib.Path(folder)
    settings.template.save(folder / "template.npz")
    (folder / "config.json").write_text(settings.config.to_json())
    subprocess.run(
        [
            sys.executable,
            "-m",
            "data_prep.synthetic_to_tfrecord",
            f"--output_dir={folder / 'records'}",
            f"--template={folder / 'template.npz'}",
            f"--config={folder / 'config.json'}",
            f"--count={RECORDS}",
            "--shards=1",
            f"--seed={settings.seed}",
        ],
        check=True,
        capture_output=True,
    )
    return settings._replace(records=str(folder / "records"))


def _batches_work(settings, batches) -> Work:
    example = next(batches)
    size = sum(int(np.prod(value.shape)) * value.dtype.size for value in example.values())
    return Work(lambda: next(batches), settings.batch_size, size)


def _bytes(arrays) -> int:
    return sum(np.asarray(array).nbytes for array in arrays)
