"""Damaged records: every program that reads or keeps them says so, and none reads other values."""

import random
import struct

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.config import Train
from dgn_tf.errors import InputError, input_error_within
from dgn_tf.records.batches import Batching
from dgn_tf.records.feature_scan import scan_feature
from dgn_tf.records.reader import RecordStore, masked_crc32c, record_dataset, record_offsets
from dgn_tf.records.record_folder import is_whole
from dgn_tf.records.views import open_views, step_dataset, view_dataset
from dgn_tf.training.datasets import records_are_readable
from experiments.cost_of_checks import unchecked_records
from tests.faults.mutations import HOW_MANY, mutated
from tests.tiny_template import tiny_template
from tests.view_records import write_view_records
from tests.written_records import write_records


def read_synthetic(folder):
    return list(
        record_dataset(
            str(folder),
            tiny_template(),
            batching=Batching(batch_size=4, shuffle=False, repeat=False),
        )
    )


def read_views(folder):
    return list(
        view_dataset(
            str(folder), size=16, batching=Batching(batch_size=4, shuffle=False, repeat=False)
        )
    )


def read_steps(folder):
    return list(
        step_dataset(
            str(folder), size=16, batching=Batching(batch_size=2, shuffle=False, repeat=False)
        )
    )


def told(read, folder) -> str:
    """The one line that a program would end with; empty where `read` goes through."""
    try:
        read(folder)
    except InputError as error:
        return str(error)
    except tf.errors.OpError as error:
        return input_error_within(error) or pytest.fail(f"no line of its own: {error}")
    return ""


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """{kind: (folder, how to read it)}"""
    folder = tmp_path_factory.mktemp("sets")
    views = write_view_records(folder / "views", steps=3, cameras=2, invalid={2: (1,)}, shards=1)
    synthetic = write_records(folder / "synthetic", tiny_template(), 3)
    return {"synthetic": (synthetic, read_synthetic), "views": (views, read_views)}


def shard_of(folder):
    return next(folder.glob("*.tfrecord"))


@pytest.mark.parametrize("count", HOW_MANY)
@pytest.mark.parametrize("kind", ["synthetic", "views"])
def test_no_damage_of_bytes_is_read_as_other_values(kind, count, sets):
    folder, read = sets[kind]
    shard = shard_of(folder)
    good, rng = shard.read_bytes(), random.Random(7)
    try:
        for _ in range(count):
            shard.write_bytes(mutated(good, rng))
            line = told(read, folder)
            assert shard.name in line and "\n" not in line
            assert not is_whole(shard, 3)
    finally:
        shard.write_bytes(good)
    assert told(read, folder) == "" and is_whole(shard, 3)


def test_the_checksum_is_tensorflows(tmp_path):
    rng = np.random.default_rng(0)
    records = [rng.bytes(length) for length in (1, 7, 8, 9, 63, 1000)]
    with tf.io.TFRecordWriter(str(tmp_path / "file")) as writer:
        for record in records:
            writer.write(record)
    content = (tmp_path / "file").read_bytes()
    for record, (offset, length) in zip(
        records, record_offsets(str(tmp_path / "file")), strict=True
    ):
        assert content[offset : offset + length] == record
        stored = content[offset + length : offset + length + 4]
        assert masked_crc32c(record) == int.from_bytes(stored, "little")
    assert list(RecordStore([str(tmp_path / "file")])) == records


def test_a_scan_that_leads_a_view_to_be_passed_over_is_verified(tmp_path):
    """A flipped flag would leave a view out, and nobody would read its record again."""
    folder = write_view_records(tmp_path, steps=3, cameras=2, shards=1)
    shard = shard_of(folder)
    offset, length = map(int, record_offsets(str(shard))[1])
    content = bytearray(shard.read_bytes())
    place = content.index(b"view_valid", offset)
    # key, then tag and length of the feature, of its list and of the packed values, then these
    values = content.index(bytes([1, 1]), place)
    assert values < offset + length
    content[values] = 0
    shard.write_bytes(content)
    with pytest.raises(InputError, match="record 1 is damaged"):
        scan_feature(RecordStore([str(shard)]), "view_valid")
    with pytest.raises(InputError, match="record 1 is damaged"):
        open_views(str(folder))


def changed(shard, row, feature, place, value):
    """Writes the shard anew, checksums and all, with one number of a record another."""
    records = list(RecordStore([str(shard)]))
    example = tf.train.Example.FromString(records[row])
    example.features.feature[feature].float_list.value[place] = value
    records[row] = example.SerializeToString(deterministic=True)
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for record in records:
            writer.write(record)


IMPOSSIBLE = [
    ("cube", 0, 0.0),
    ("cube", 0, np.nan),
    ("intrinsics", 0, 0.0),
    ("intrinsics", 1, np.inf),
    ("keypoints", 5, np.nan),
    ("keypoints", 7, 10_001.0),
    ("centre", 2, np.inf),
]


@pytest.mark.parametrize("kind", ["synthetic", "views"])
def test_values_that_cannot_be_are_refused_by_name_and_number(kind, sets):
    folder, read = sets[kind]
    shard = shard_of(folder)
    good = shard.read_bytes()
    try:
        for feature, place, value in IMPOSSIBLE:
            shard.write_bytes(good)
            changed(shard, 2, feature, place, value)
            line = told(read, folder)
            assert f"{shard.name}: record 2: " in line
            assert f"{value:g}, wanted between" in line
            if kind == "views":
                assert told(read_steps, folder) == line
    finally:
        shard.write_bytes(good)


def test_missing_and_short_shards_are_noticed(tmp_path):
    folder = write_records(tmp_path, tiny_template(), 3)
    shard = shard_of(folder)
    records = list(RecordStore([str(shard)]))
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for record in records[:2]:
            writer.write(record)
    assert "2 records, description.json says 3" in told(read_synthetic, folder)
    shard.rename(tmp_path / "synthetic-00001-of-00002.tfrecord")
    assert "records, description.json says" in told(read_synthetic, folder)


def test_the_cost_of_checks_is_measured_against_reading_without_any(sets):
    folder, read = sets["synthetic"]
    shard = shard_of(folder)
    good = shard.read_bytes()
    try:
        changed(shard, 2, "cube", 0, -1.0)
        assert "record 2: " in told(read, folder)
        with unchecked_records():
            assert told(read, folder) == ""
        place = good.rindex(struct.pack("<f", 300.0))  # the last record's cube
        shard.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert "record 2 is damaged" in told(read, folder)
        with unchecked_records():
            assert told(read, folder) == ""
    finally:
        shard.write_bytes(good)


class Reader(tf.keras.Model):
    """Takes batches as training does."""

    def train_step(self, batch):
        return {"cube": tf.reduce_mean(batch["cube"])}


def without_picture(shard):
    """Right check sums around a depth map that is none."""
    records = list(RecordStore([str(shard)]))
    example = tf.train.Example.FromString(records[2])
    example.features.feature["depth"].bytes_list.value[0] = b"no PNG"
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for record in [*records[:2], example.SerializeToString()]:
            writer.write(record)


def flipped(shard):
    offset, length = map(int, record_offsets(str(shard))[2])
    content = bytearray(shard.read_bytes())
    content[offset + length // 2] ^= 1
    shard.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "line"), [(flipped, "record 2 is damaged"), (without_picture, "can't be read")]
)
def test_training_on_damaged_records_ends_in_a_line_that_names_them(damage, line, tmp_path):
    folder = write_records(tmp_path, tiny_template(), 3)
    damage(shard_of(folder))
    dataset = record_dataset(
        str(folder), tiny_template(), batching=Batching(batch_size=1, shuffle=False, repeat=False)
    )
    model = Reader()
    model.compile()
    settings = Train(synthetic_records=str(folder))
    with pytest.raises(InputError, match=line) as error, records_are_readable(settings):
        model.fit(dataset, verbose=0)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)
