"""Reads records back, shuffled as a whole and restartable at any step."""

import functools
import glob
import json
import os
import struct

import numpy as np
import tensorflow as tf

from dgn_tf.data import schema
from dgn_tf.data.pixel_targets import targets
from dgn_tf.errors import InputError

_REMEDY = "delete it and run data_prep.synthetic_to_tfrecord again, which resumes"


def record_files(pattern: str) -> list[str]:
    """Files of a pattern, or of a folder's shards, sorted; InputError if there are none."""
    if os.path.isdir(pattern):
        pattern = os.path.join(pattern, "*.tfrecord")
    files = sorted(glob.glob(pattern))
    if not files:
        raise InputError(
            f"{pattern}: no record files; write some with data_prep.synthetic_to_tfrecord."
        )
    return files


def record_offsets(path: str) -> np.ndarray:
    """[N, 2] int64 byte offset and length of each record's data, by walking the file's framing.

    Raises:
        InputError: the file is unreadable, or ends within a record.
    """
    spans: list[tuple[int, int]] = []
    try:
        end = os.path.getsize(path)
        with open(path, "rb") as file:
            position = 0
            while position < end:
                header = file.read(12)  # length, its checksum
                length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else end
                if position + 16 + length > end:
                    raise InputError(
                        f"{path}: truncated within record {len(spans)} (byte {position} of {end}); "
                        f"{_REMEDY}."
                    )
                spans.append((position + 12, length))
                position += 16 + length
                file.seek(position)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    if not spans:
        raise InputError(f"{path}: holds no record; {_REMEDY}.")
    return np.array(spans, np.int64)


def read_description(folder: str) -> dict:
    """The description.json beside records; InputError if it is missing or damaged."""
    path = os.path.join(folder, schema.DESCRIPTION_FILE)
    try:
        with open(path, encoding="utf-8") as file:
            description = json.load(file)
        if description["format_version"] != schema.FORMAT_VERSION:
            raise InputError(
                f"{path}: records of format {description['format_version']}, wanted "
                f"{schema.FORMAT_VERSION}; write them again."
            )
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); the writer makes it when all shards are "
            "done: let data_prep.synthetic_to_tfrecord finish."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: damaged ({error}); {_REMEDY}.") from error
    return description


def record_dataset(
    pattern: str,
    template,
    batch_size: int,
    shuffle: bool = True,
    seed: int = 0,
    start_step: int = 0,
    repeat: bool = True,
    prefetch: int = 4,
) -> tf.data.Dataset:
    """Batches of records, with the embedding's per-pixel targets.

    The order is a permutation of all records per pass, drawn from (seed, pass) alone: batch k is
    the same whether the run began at 0 or resumed at k, and no state needs saving.

    Args:
        pattern: folder or glob of record files; description.json lies beside them.
        template: HandTemplate that they were rendered with, any embedding.
        batch_size: B.
        shuffle: permute each pass; else the order of files and records.
        seed: of the permutations.
        start_step: number of the first batch.
        repeat: go on for ever, batches running over the ends of passes; else one pass, the last
            batch may be smaller.
        prefetch: batches kept ready.

    Returns:
        Batches with the keys of `synthesize_batch`, index [B] int64 and those of `targets`.

    Raises:
        InputError: no files, a truncated one, records that lack a feature or belong to another
            template.
    """
    files = record_files(pattern)
    description = read_description(os.path.dirname(files[0]) or ".")
    if description["mesh_hash"] != schema.mesh_hash(template):
        raise InputError(
            f"{os.path.dirname(files[0])}: records were rendered with another template "
            f"({description['template_name']}, {description['template_hash'][:12]}); write them "
            "again or pass that template."
        )
    size = description["config"]["size"]
    spans = [record_offsets(path) for path in files]
    for path, span in zip(files, spans, strict=True):
        schema.check_example(_read(path, *span[0]), f"{path}: record 0")
    owner = np.repeat(np.arange(len(files)), [len(span) for span in spans])
    spans = np.concatenate(spans)
    total = len(spans)

    @functools.lru_cache(maxsize=2)
    def order(number):
        if not shuffle:
            return np.arange(total)
        return np.random.default_rng([seed, number]).permutation(total)

    def load(step):
        first = int(step) * batch_size
        numbers = np.arange(first, first + batch_size)
        if not repeat:
            numbers = numbers[numbers < total]
        rows = np.empty(len(numbers), np.int64)
        for number in np.unique(numbers // total):
            here = numbers // total == number
            rows[here] = order(int(number))[numbers[here] % total]
        return np.array([_read(files[owner[row]], *spans[row]) for row in rows], object)

    def parse(step):
        serialized = tf.numpy_function(load, [step], tf.string)
        serialized.set_shape([batch_size if repeat or total % batch_size == 0 else None])
        return targets(schema.decode_batch(serialized, template, size), template)

    last = tf.int64.max if repeat else -(-total // batch_size)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    steps = tf.data.Dataset.range(start_step, last)
    return steps.map(parse).prefetch(prefetch).with_options(options)


def _read(path: str, offset: int, length: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(length)
