"""One small feature of every record, without reading the records' images.

A tf.train.Example is a message of (tag, length, data) fields; those that are not wanted are
skipped by their length. Of records of 100 KB each, that reads a thousandth.

So little proves no checksum. Records whose feature leads somebody to pass them over, in part at
least, are read whole here; the others are when they are used.
"""

from collections.abc import Sequence
from typing import BinaryIO

import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.records.reader import RecordStore

_BYTES_FIELD_1 = 0x0A  # Example.features, Features.feature and its key: all are field 1, of bytes


def scan_feature(store: RecordStore, name: str) -> list[Sequence[int]]:
    """The integers of feature `name` of every record; of one with a 0 the checksum is verified.

    Raises:
        InputError: a record lacks the feature, is damaged, or no tf.train.Example at all.
    """
    found: list[Sequence[int]] = []
    row = 0
    for path, count in zip(store.files, store.counts, strict=True):
        with open(path, "rb") as file:
            for offset, length in store.spans[row : row + count].tolist():
                values = _values(file, offset, offset + length, name)
                if not values or 0 in values:
                    store.read(len(found))  # damaged rather than without
                if not values:
                    raise InputError(
                        f"{path}: record {len(found) - row} lacks the feature {name!r}; write the "
                        "records again."
                    )
                found.append(values)
        row += count
    return found


def _values(file, start, end, name) -> tuple[int, ...]:
    """The integers of feature `name`; none where it is not there, or where bytes mean nothing."""
    try:
        entry = _entry(file, start, end, name.encode())
    except IndexError:  # beyond the file's end: lengths that mean nothing
        return ()
    try:
        features = tf.train.Features.FromString(entry or b"")
    except Exception:  # protobuf's DecodeError differs between its implementations
        return ()
    return tuple(features.feature[name].int64_list.value)


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
        if after > end:
            return None
        if length > len(key) + 2 and file.read(len(key) + 2) == bytes([10, len(key)]) + key:
            file.seek(position)
            return file.read(after - position)
        file.seek(after)
        position = after
    return None


def _varint(file: BinaryIO) -> int:
    """The next number in protocol buffers' base-128 form."""
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise IndexError("longer than any number")
