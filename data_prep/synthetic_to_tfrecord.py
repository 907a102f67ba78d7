"""Writes synthetic hands as sharded TFRecord files, in parallel, resumable and reproducible.

    python -m data_prep.synthetic_to_tfrecord --output_dir=OUT --config=configs/synthetic_test.json

A sample depends on the template, the config, the seed and its number alone; a shard holds a run of
numbers. So the same flags give the same bytes, whatever --workers is, and a run that was killed
goes on with the shards that are missing. Each is written beside its place and then renamed.

Records are written with tf.io, not with tensorflow-datasets: a builder of that library starts a
killed preparation from the beginning, and spreads examples over shards by a hash of their keys.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import platform
import threading

import tensorflow as tf
from absl import flags
from tqdm import tqdm

from dgn_tf import errors
from dgn_tf.data import SynthesisConfig, schema, synthesize_batch
from dgn_tf.data.reader import record_offsets
from dgn_tf.errors import InputError
from dgn_tf.template import load_template

PLAN_FILE = "plan.json"
_BATCH = 16

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the records.", required=True)
_CONFIG = flags.DEFINE_string(
    "config", "", "JSON file of a SynthesisConfig; empty for the training distribution."
)
_TEMPLATE = flags.DEFINE_string("template", "", "Hand template (.npz); empty for the one shipped.")
_COUNT = flags.DEFINE_integer("count", 2000, "Number of frames.", lower_bound=1)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of all random draws.", lower_bound=0, upper_bound=2**32 - 1
)
_SHARDS = flags.DEFINE_integer("shards", 8, "Number of files.", lower_bound=1, upper_bound=99999)
_WORKERS = flags.DEFINE_integer(
    "workers", 0, "Shards written at once; 0 for one per processor.", lower_bound=0
)


def shard_name(shard: int, shards: int) -> str:
    """File name of shard `shard` of `shards`."""
    return f"synthetic-{shard:05d}-of-{shards:05d}.tfrecord"


def shard_range(shard: int, shards: int, count: int) -> range:
    """Sample numbers of a shard; shards differ in length by one at most."""
    return range(shard * count // shards, (shard + 1) * count // shards)


def write_records(
    output_dir: str | os.PathLike,
    template,
    config: SynthesisConfig,
    count: int,
    seed: int,
    shards: int,
    workers: int = 0,
    progress: bool = True,
) -> dict:
    """Writes what is missing of a set of records, then their description.json.

    Args:
        output_dir: folder, made if need be.
        template: HandTemplate.
        config: what to sample from.
        count: frames.
        seed: of all random draws.
        shards: files.
        workers: shards written at once, 0 for one per processor.
        progress: show a bar.

    Returns:
        The description: counts, hashes, config.

    Raises:
        InputError: the folder holds other records or cannot be written, or shards > count.
    """
    if shards > count:
        raise InputError(f"--shards={shards}: more files than frames (--count={count}).")
    folder = pathlib.Path(output_dir)
    plan = {
        "format_version": schema.FORMAT_VERSION,
        "template_name": template.name,
        "template_hash": template.hash,
        "mesh_hash": schema.mesh_hash(template),
        "keypoints": len(template.keypoints),
        "seed": seed,
        "count": count,
        "shards": shards,
        "config": json.loads(config.to_json()),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _claim(folder, plan)
        missing = [s for s in range(shards) if not _is_done(folder, s, shards, count)]
        _write_shards(folder, template, config, plan, missing, workers, progress)
        return _describe(folder, plan)
    except OSError as error:
        raise InputError(
            f"{output_dir}: cannot be written ({error.strerror or error}); choose another "
            "--output_dir or make room, then run again: finished shards are kept."
        ) from error


def _claim(folder, plan):
    """Makes sure that the folder is empty or holds the beginning of this very set of records."""
    for name in (PLAN_FILE, schema.DESCRIPTION_FILE):
        path = folder / name
        if not path.exists():
            continue
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found = {}
        differing = [key for key, value in plan.items() if found.get(key) != value]
        if differing:
            raise InputError(
                f"{path}: the folder holds other records ({', '.join(differing)} differ); choose "
                "another --output_dir or delete it."
            )
        break
    else:
        strangers = sorted(path.name for path in folder.glob("*.tfrecord"))
        if strangers:
            raise InputError(
                f"{folder / strangers[0]}: records of unknown origin; choose another --output_dir "
                "or delete them."
            )
        _replace(folder / PLAN_FILE, json.dumps(plan, indent=2) + "\n")
    for path in folder.glob("*.partial"):
        path.unlink()


def _replace(path, text):
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _is_done(folder, shard, shards, count):
    path = folder / shard_name(shard, shards)
    if not path.exists():
        return False
    try:
        return len(record_offsets(str(path))) == len(shard_range(shard, shards, count))
    except InputError:
        return False  # Truncated, by a full disk say: written again.


def _write_shards(folder, template, config, plan, missing, workers, progress):
    count, shards, seed = plan["count"], plan["shards"], plan["seed"]
    total = sum(len(shard_range(s, shards, count)) for s in missing)
    bar = tqdm(
        total=count, initial=count - total, unit="frame", disable=not progress, smoothing=0.05
    )
    stop, lock = threading.Event(), threading.Lock()

    def write(shard):
        path = folder / shard_name(shard, shards)
        partial = path.with_name(path.name + ".partial")
        numbers = shard_range(shard, shards, count)
        with tf.io.TFRecordWriter(str(partial)) as writer:
            for first in range(numbers.start, numbers.stop, _BATCH):
                if stop.is_set():
                    return
                size = min(_BATCH, numbers.stop - first)
                batch = synthesize_batch(template, config, seed, first, size, threads=1)
                for row in range(size):
                    sample = {name: values[row] for name, values in batch.items()}
                    writer.write(schema.encode_example(sample, first + row))
                with lock:
                    bar.update(size)
        os.replace(partial, path)

    # Threads: the kernels and zlib run without the interpreter lock.
    with bar, concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        futures = [pool.submit(write, shard) for shard in missing]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            for future in futures:
                future.cancel()
            raise


def _describe(folder, plan):
    """Hashes all shards and writes description.json, which marks the set as complete."""
    content = hashlib.sha256()
    files = []
    for shard in range(plan["shards"]):
        path = folder / shard_name(shard, plan["shards"])
        data = path.read_bytes()
        spans = record_offsets(str(path))
        for offset, length in spans:
            content.update(hashlib.sha256(data[offset : offset + length]).digest())
        files.append(
            {
                "name": path.name,
                "records": len(spans),
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )
    description = {
        **plan,
        # Of the records in the order of their numbers: the same for any number of shards.
        "content_hash": content.hexdigest(),
        "depth_unit_mm": schema.DEPTH_UNIT_MM,
        "vertex_unit_mm": schema.VERTEX_UNIT_MM,
        "features": {
            name: f"{spec.dtype.name} {list(spec.shape)}"
            for name, spec in schema.feature_spec(plan["keypoints"]).items()
        },
        "files": files,
        "written_with": {"tensorflow": tf.__version__, "python": platform.python_version()},
    }
    _replace(folder / schema.DESCRIPTION_FILE, json.dumps(description, indent=2) + "\n")
    (folder / PLAN_FILE).unlink(missing_ok=True)
    return description


def main(_):
    template = load_template(_TEMPLATE.value or None)
    config = SynthesisConfig.load(_CONFIG.value) if _CONFIG.value else SynthesisConfig()
    description = write_records(
        _OUTPUT_DIR.value,
        template,
        config,
        _COUNT.value,
        _SEED.value,
        _SHARDS.value,
        _WORKERS.value,
    )
    print(
        f"{description['count']} frames in {description['shards']} files in {_OUTPUT_DIR.value}, "
        f"content {description['content_hash']}"
    )


if __name__ == "__main__":
    errors.run(main)
