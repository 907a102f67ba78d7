"""Sets of sharded TFRecord files: written in parallel, resumable and reproducible.

A record depends on its number and the set's plan alone; a shard holds a run of numbers. So the same
plan gives the same bytes, whatever the number of workers is, and a run that was killed goes on with
the shards that are missing. Each is written beside its place and then renamed. description.json is
written last: where it lies, the set is complete.

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
from collections.abc import Callable, Iterable

import tensorflow as tf
from tqdm import tqdm

from dgn_tf import writing
from dgn_tf.errors import InputError
from dgn_tf.records.reader import RecordStore
from dgn_tf.records.record_folder import PLAN_FILE, claim, is_whole
from dgn_tf.records.schema import DESCRIPTION_FILE


def shard_name(prefix: str, shard: int, shards: int) -> str:
    """File name of shard `shard` of `shards`."""
    return f"{prefix}-{shard:05d}-of-{shards:05d}.tfrecord"


def shard_range(shard: int, shards: int, count: int) -> range:
    """Record numbers of a shard; shards differ in length by one at most."""
    return range(shard * count // shards, (shard + 1) * count // shards)


def write_set(
    output_dir: str | os.PathLike,
    plan: dict,
    prefix: str,
    batches: Callable[[range], Iterable[list[bytes]]],
    details: Callable[[Callable[[], Iterable[bytes]]], dict],
    workers: int = 0,
    progress: bool = True,
    frames_per_record: int = 1,
) -> dict:
    """Writes what is missing of a set of records, then its description.json.

    Args:
        output_dir: folder, made if need be.
        plan: what the records depend on, as JSON values; `count` records in `shards` files.
        prefix: of the files' names.
        batches: gives the serialised records of the numbers, in their order, a few at a time; it
            runs in several threads at once.
        details: gives further entries of the description when all shards are there; its argument
            goes through all records, in the order of their numbers.
        workers: shards written at once, 0 for one per processor.
        progress: show a bar.
        frames_per_record: what the bar counts.

    Returns:
        The description.

    Raises:
        InputError: the folder holds other records, another run is writing there, it cannot be
            written, or the run was interrupted. Finished shards are kept, half ones removed.
    """
    folder = pathlib.Path(output_dir)
    count, shards = plan["count"], plan["shards"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with writing.alone(folder):
            claim(folder, plan)
            for pattern in (".*.writing.*", "*.partial"):  # of runs that were killed, and old ones
                for path in folder.glob(pattern):
                    path.unlink()
            missing = [
                shard
                for shard in range(shards)
                if not is_whole(
                    folder / shard_name(prefix, shard, shards),
                    len(shard_range(shard, shards, count)),
                )
            ]
            _write_shards(
                folder, prefix, plan, batches, missing, workers, progress, frames_per_record
            )
            return _describe(folder, prefix, plan, details)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", None) or error
        raise InputError(
            f"{output_dir}: cannot be written ({reason}); choose another --output_dir or make "
            "room, then run again: finished shards are kept."
        ) from error
    except KeyboardInterrupt:
        raise InputError(
            f"{output_dir}: interrupted; run the same command again to go on: finished shards are "
            "kept."
        ) from None


def _write_shards(folder, prefix, plan, batches, missing, workers, progress, frames):
    count, shards = plan["count"], plan["shards"]
    total = sum(len(shard_range(s, shards, count)) for s in missing)
    bar = tqdm(
        total=count * frames,
        initial=(count - total) * frames,
        unit="frame",
        desc=folder.name,
        disable=not progress,
        smoothing=0.05,
    )
    stop, lock = threading.Event(), threading.Lock()

    def write(shard):
        path = folder / shard_name(prefix, shard, shards)
        with writing.whole_file(path) as beside, tf.io.TFRecordWriter(str(beside)) as writer:
            for batch in batches(shard_range(shard, shards, count)):
                if stop.is_set():
                    raise concurrent.futures.CancelledError
                for serialized in batch:
                    writer.write(serialized)
                with lock:
                    bar.update(len(batch) * frames)

    # Threads: decoders, kernels and zlib run without the interpreter lock.
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


def _describe(folder, prefix, plan, details):
    """Hashes all shards and writes description.json, which marks the set as complete."""
    content = hashlib.sha256()
    paths = [folder / shard_name(prefix, s, plan["shards"]) for s in range(plan["shards"])]
    files = []
    for path in paths:
        shard = RecordStore([str(path)])
        for record in shard:
            content.update(hashlib.sha256(record).digest())
        data = path.read_bytes()
        files.append(
            {
                "name": path.name,
                "records": len(shard),
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )

    def records():
        return iter(RecordStore(list(map(str, paths))))

    description = {
        **plan,
        # Of the records in the order of their numbers: the same for any number of shards.
        "content_hash": content.hexdigest(),
        **details(records),
        "files": files,
        "written_with": {"tensorflow": tf.__version__, "python": platform.python_version()},
    }
    with writing.whole_file(folder / DESCRIPTION_FILE) as beside:
        beside.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    (folder / PLAN_FILE).unlink(missing_ok=True)
    return description
