"""Reads records back, shuffled as a whole and restartable at any step."""

import functools
import glob
import os
import struct
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from dgn_tf.compiled import kernel
from dgn_tf.errors import InputError
from dgn_tf.json_file import read_json
from dgn_tf.records import schema
from dgn_tf.records.batches import Batching, targets

SYNTHETIC_WRITER = "data_prep.synthetic_to_tfrecord"


def record_files(pattern: str, writer: str = SYNTHETIC_WRITER) -> list[str]:
    """Files of a pattern, or of a folder's shards, sorted; InputError if there are none.

    `writer` is the module that makes such records: errors name it.
    """
    if os.path.isdir(pattern):
        pattern = os.path.join(pattern, "*.tfrecord")
    files = sorted(glob.glob(pattern))
    if not files:
        raise InputError(f"{pattern}: no record files; write some with {writer}.")
    return files


def record_offsets(path: str, writer: str = SYNTHETIC_WRITER) -> np.ndarray:
    """[N, 2] int64 byte offset and length of each record's data, by walking the file's framing.

    The lengths' checksums are verified here, the data's where they are read (`RecordStore`).

    Raises:
        InputError: the file is unreadable, damaged, or ends within a record; names the `writer`
            to run.
    """
    spans: list[tuple[int, int]] = []
    try:
        end = os.path.getsize(path)
        with open(path, "rb") as file:
            position = 0
            while position < end:
                header = file.read(12)  # length, its checksum
                length, checksum = (
                    struct.unpack("<QI", header) if len(header) == 12 else (end, None)
                )
                if checksum is not None and masked_crc32c(header[:8]) != checksum:
                    raise InputError(
                        f"{path}: record {len(spans)} is damaged (the checksum of its length is "
                        f"wrong); {_remedy(writer)}."
                    )
                if position + 16 + length > end:
                    raise InputError(
                        f"{path}: truncated within record {len(spans)} (byte {position} of {end}); "
                        f"{_remedy(writer)}."
                    )
                spans.append((position + 12, length))
                position += 16 + length
                file.seek(position)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    if not spans:
        raise InputError(f"{path}: holds no record; {_remedy(writer)}.")
    return np.array(spans, np.int64)


def _remedy(writer):
    return f"delete it and run {writer} again, which resumes"


def read_description(
    folder: str, version: int = schema.FORMAT_VERSION, writer: str = SYNTHETIC_WRITER
) -> dict:
    """The description.json beside records of a format; InputError if missing or damaged."""
    path = os.path.join(folder, schema.DESCRIPTION_FILE)
    try:
        description = read_json(path)
        if description["format_version"] != version:
            raise InputError(
                f"{path}: records of format {description['format_version']}, wanted {version}; "
                "write them again."
            )
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); the writer makes it when all shards are "
            f"done: let {writer} finish."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: damaged ({error}); {_remedy(writer)}.") from error
    return description


class RecordStore:
    """Records of several files by their number, in the order of the files.

    Args:
        files: paths.
        writer: the module that makes such records: errors name it.

    Raises:
        InputError: a file is unreadable, empty, damaged or truncated.
    """

    def __init__(self, files: Sequence[str], writer: str = SYNTHETIC_WRITER):
        spans = [record_offsets(path, writer) for path in files]
        self.files = list(files)
        self.writer = writer
        self.counts = [len(span) for span in spans]
        self.owner = np.repeat(np.arange(len(spans)), self.counts)  # [N] number of the file
        self.spans = np.concatenate(spans)  # [N, 2] byte offset, length

    def __len__(self) -> int:
        return len(self.spans)

    def where(self, row: int) -> str:
        """Where record `row` stands, for messages: its file and its number there, from 0."""
        owner = int(self.owner[row])
        return f"{self.files[owner]}: record {int(row) - sum(self.counts[:owner])}"

    def read(self, row: int) -> bytes:
        """The data of record `row`; InputError where they are not what was written."""
        offset, length = self.spans[row]
        path = self.files[self.owner[row]]
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                data, checksum = file.read(length), file.read(4)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
        if masked_crc32c(data).to_bytes(4, "little") != checksum:
            raise InputError(
                f"{self.where(row)} is damaged (the checksum of its data is wrong); "
                f"{_remedy(self.writer)}."
            )
        return data

    def __iter__(self) -> Iterator[bytes]:
        """The data of all records, in their order."""
        return map(self.read, range(len(self)))

    def first_of_files(self) -> Iterator[tuple[bytes, str]]:
        """Data of each file's first record, and where it stands: what a format is checked on."""
        for row in np.cumsum([0, *self.counts[:-1]]):
            yield self.read(row), self.where(row)

    def check_files(self, description: dict) -> None:
        """Raises InputError where the files are not those of a description.json.

        A file that the description has is missing, one has another count of records than it says,
        or there is one more.
        """
        folder = os.path.dirname(self.files[0])
        found = dict(zip(map(os.path.basename, self.files), self.counts, strict=True))
        try:
            wanted = {file["name"]: file["records"] for file in description["files"]}
        except (KeyError, TypeError):
            path = os.path.join(folder, schema.DESCRIPTION_FILE)
            raise InputError(f"{path}: does not list its files; {_remedy(self.writer)}.") from None
        if found != wanted:
            name = sorted(set(found.items()) ^ set(wanted.items()))[0][0]
            raise InputError(
                f"{os.path.join(folder, name)}: {found.get(name, 0)} records, description.json "
                f"says {wanted.get(name, 0)}; {_remedy(self.writer)}."
            )

    def refuse_impossible(self, row: int, values: dict) -> None:
        """Raises InputError that names record `row` where one of its values can't be."""
        schema.refuse_impossible(values, self.where(row), self.writer)


def endless_order(total: int, shuffle: bool, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """The order in which examples come, pass after pass.

    Each pass is a permutation drawn from (seed, pass) alone, or the order itself without
    `shuffle`: example k is the same whether a run began at 0 or resumed at k.

    Returns:
        A function from numbers of examples, [B] int64 >= 0, to their rows [B] in 0 .. total - 1.
    """

    @functools.lru_cache(maxsize=2)
    def order(number):
        if not shuffle:
            return np.arange(total)
        return np.random.default_rng([seed, number]).permutation(total)

    def rows_of(numbers):
        rows = np.empty(len(numbers), np.int64)
        for number in np.unique(numbers // total):
            here = numbers // total == number
            rows[here] = order(int(number))[numbers[here] % total]
        return rows

    return rows_of


def unsharded() -> tf.data.Options:
    """Options of a dataset with Python state: the graph must not be sharded or sent elsewhere."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options


def record_dataset(pattern: str, template, batching: Batching) -> tf.data.Dataset:
    """Batches of records, with the embedding's per-pixel targets.

    Args:
        pattern: folder or glob of record files; description.json lies beside them.
        template: HandTemplate that they were rendered with, any embedding.
        batching: which batches; `threads` says nothing here.

    Returns:
        Batches with the keys of `synthesize_batch`, index [B] and left [B] int64 and those of
        `targets`. All show right hands: where `left` is 1, the mirror images of left ones.

    Raises:
        InputError: no files, not all of them, a damaged one, records that lack a feature or belong
            to another template. What is found damaged while batches are read ends them with an
            error of TensorFlow whose text has the InputError's: see `errors.run`.
    """
    files = record_files(pattern)
    description = read_description(os.path.dirname(files[0]) or ".")
    if description["mesh_hash"] != schema.mesh_hash(template):
        raise InputError(
            f"{os.path.dirname(files[0])}: records were rendered with another template "
            f"({description['template_name']}, {description['template_hash'][:12]}) than "
            f"{template.name}, {template.hash[:12]}; write them again or pass that template."
        )
    size = description["config"]["size"]
    store = RecordStore(files)
    for serialized, where in store.first_of_files():
        schema.check_example(serialized, where)
    if os.path.isdir(pattern):  # a glob may well leave some out
        store.check_files(description)
    total, rows = len(store), batching.rows
    batch_size, repeat = batching.batch_size, batching.repeat
    rows_of = endless_order(total, batching.shuffle, batching.seed)

    def load(step):
        numbers = int(step) * batch_size + np.arange(rows.start, rows.stop)
        if not repeat:
            numbers = numbers[numbers < total]
        found = rows_of(numbers)
        return np.array([store.read(row) for row in found], object), found

    def parse(step):
        serialized, found = tf.numpy_function(load, [step], (tf.string, tf.int64))
        serialized.set_shape([len(rows) if repeat or total % batch_size == 0 else None])
        decoded = schema.decode_batch(serialized, template, size)
        cube = schema.checked(decoded["cube"], decoded, found, store.refuse_impossible)
        return targets(decoded | {"cube": cube}, template)

    last = tf.int64.max if repeat else -(-total // batch_size)
    steps = tf.data.Dataset.range(batching.start_step, last)
    return steps.map(parse).prefetch(batching.prefetch).with_options(unsharded())


# The checksum that TFRecord files hold of each record's length and data: CRC-32C, masked.


_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_MASK = 0xA282EAD8  # a checksum of data that hold checksums would be a weak one


@functools.cache
def _tables() -> np.ndarray:
    """[8, 256] uint32: row k is what a byte does to the checksum k bytes later."""
    tables = np.zeros([8, 256], np.uint32)
    row = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        row = np.where(row & 1, (row >> 1) ^ np.uint32(_POLYNOMIAL), row >> 1)
    tables[0] = row
    for k in range(1, 8):
        tables[k] = (tables[k - 1] >> 8) ^ tables[0, tables[k - 1] & 0xFF]
    return tables


@kernel
def _crc32c(data, tables):
    """CRC-32C of data [N] uint8: eight bytes at a time, the rest one by one."""
    byte = np.uint32(0xFF)
    crc = np.uint32(0xFFFFFFFF)
    eights = len(data) // 8 * 8
    for i in range(0, eights, 8):
        low = np.uint32(data[i]) | np.uint32(data[i + 1]) << np.uint32(8)
        high = np.uint32(data[i + 2]) | np.uint32(data[i + 3]) << np.uint32(8)
        crc = np.uint32(crc ^ low ^ (high << np.uint32(16)))
        first = tables[7, crc & byte] ^ tables[6, (crc >> np.uint32(8)) & byte]
        second = tables[5, (crc >> np.uint32(16)) & byte] ^ tables[4, crc >> np.uint32(24)]
        third = tables[3, data[i + 4]] ^ tables[2, data[i + 5]]
        crc = first ^ second ^ third ^ tables[1, data[i + 6]] ^ tables[0, data[i + 7]]
    for i in range(eights, len(data)):
        crc = tables[0, (crc ^ np.uint32(data[i])) & byte] ^ (crc >> np.uint32(8))
    return crc ^ np.uint32(0xFFFFFFFF)


def masked_crc32c(data: bytes) -> int:
    """The masked CRC-32C of `data`, as it stands behind them in a TFRecord file."""
    crc = int(_crc32c(np.frombuffer(data, np.uint8), _tables()))
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF
