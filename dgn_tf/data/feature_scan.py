"""One small feature of every record, without reading the records' images.

A tf.train.Example is a message of (tag, length, data) fields; those that are not wanted are
skipped by their length. Of records of 100 KB each, that reads a thousandth.
"""

from collections.abc import Sequence
from typing import BinaryIO

import tensorflow as tf

from dgn_tf.data.reader import RecordStore
from dgn_tf.errors import InputError

_BYTES_FIELD_1 = 0x0A  # Example.features, Features.feature and its key: all are field 1, of bytes


def scan_feature(store: RecordStore, name: str) -> list[Sequence[int]]:
    """The integers of feature `name` of every record.

    Raises:
        InputError: a record lacks the feature, or is no tf.train.Example at all.
    """
    found: list[Sequence[int]] = []
    row = 0
    for path, count in zip(store.files, store.counts, strict=True):
        with open(path, "rb") as file:
            for offset, length in store.spans[row : row + count].tolist():
                try:
                    entry = _entry(file, offset, offset + length, name.encode())
                except IndexError:  # beyond the file's end: lengths that mean nothing
                    entry = None
                if entry is None:
                    raise InputError(
                        f"{path}: record {len(found) - row} lacks the feature {name!r}; write the "
                        "records again."
                    )
                features = tf.train.Features.FromString(entry)
                found.append(tuple(features.feature[name].int64_list.value))
        row += count
    return found


def _entry(file: BinaryIO, start: int, end: int, key: bytes) -> bytes | None:
    """The field of a record's Features that holds `key`, tag and length included; None if none."""
    file.seek(start + 1)  # Example.features is all there is in an Example
    _varint(file)
    position = file.tell()
    while position < end:
        if file.read(1)[0] != _BYTES_FIELD_1:
            return None
        length = _varint(file)
        after = file.tell() + length
        if length > len(key) + 2 and file.read(len(key) + 2) == bytes([10, len(key)]) + key:
            file.seek(position)
            return file.read(after - position)
        file.seek(after)
        position = after
    return None


def _varint(file: BinaryIO) -> int:
    """The next number in protocol buffers' base-128 form."""
    value = shift = 0
    while True:
        byte = file.read(1)[0]
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value
