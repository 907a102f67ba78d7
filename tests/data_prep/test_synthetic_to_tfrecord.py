"""Records: same flags same bytes, runs that go on, round trips, and errors that name the file."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.geometry import mirror
from dgn_tf.records import schema
from dgn_tf.records.batches import Batching
from dgn_tf.records.reader import record_dataset, record_offsets
from dgn_tf.synthesis.batches import synthesize_batch
from dgn_tf.synthesis.settings import SynthesisConfig
from dgn_tf.template import load_template

COUNT, SEED = 10, 6


@pytest.fixture(scope="module")
def template():
    return load_template()


@pytest.fixture(scope="module")
def write(template):
    # conftest forgets modules with flags after each test: imported here, kept by the closure.
    from data_prep.synthetic_to_tfrecord import Frames, write_records

    def write(folder, shards=3, workers=1, config=None, count=COUNT, seed=SEED, **settings):
        config = config or SynthesisConfig()
        frames = Frames(config, count, seed, **settings)
        return write_records(folder, template, frames, shards, workers, False)

    return write


@pytest.fixture(scope="module")
def records(write, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records") / "set"
    write(folder)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_any_number_of_workers_writes_the_same_bytes(write, records, tmp_path):
    write(tmp_path / "two", workers=2)
    assert contents(tmp_path / "two") == contents(records)
    assert len(contents(records)) == 4  # three shards and their description


def test_the_content_hash_ignores_how_records_are_sharded(write, records, tmp_path):
    first = json.loads((records / schema.DESCRIPTION_FILE).read_text())
    other = write(tmp_path / "one", shards=1)
    assert first["content_hash"] == other["content_hash"]
    assert first["files"] != other["files"]
    assert sum(file["records"] for file in first["files"]) == COUNT
    different = write(tmp_path / "seed", shards=1, seed=SEED + 1)
    assert different["content_hash"] != first["content_hash"]


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(write, records, tmp_path):
    folder = tmp_path / "set"
    write(folder)
    before = contents(folder)
    # As kill -9 leaves it: plan, one shard done, one half written beside its place.
    description = json.loads((folder / schema.DESCRIPTION_FILE).read_text())
    plan = {
        k: v
        for k, v in description.items()
        if k
        not in (
            "content_hash",
            "depth_unit_mm",
            "vertex_unit_mm",
            "features",
            "files",
            "written_with",
        )
    }
    (folder / schema.DESCRIPTION_FILE).unlink()
    (folder / "plan.json").write_text(json.dumps(plan))
    names = [file["name"] for file in description["files"]]
    (folder / names[1]).rename(folder / (names[1] + ".partial"))
    with open(folder / (names[1] + ".partial"), "r+b") as file:
        file.truncate(100)
    (folder / names[2]).unlink()
    kept = (folder / names[0]).stat().st_mtime_ns
    write(folder, workers=2)
    assert contents(folder) == before
    assert (folder / names[0]).stat().st_mtime_ns == kept  # not written again


def test_a_shard_cut_short_by_a_full_disk_is_written_again(write, records, tmp_path):
    folder = tmp_path / "set"
    write(folder)
    shard = sorted(folder.glob("*.tfrecord"))[0]
    with open(shard, "r+b") as file:
        file.truncate(shard.stat().st_size - 5)
    write(folder)
    assert contents(folder) == contents(records)


def test_a_finished_shard_that_was_damaged_is_written_again(write, records, tmp_path):
    folder = tmp_path / "set"
    write(folder)
    shard = sorted(folder.glob("*.tfrecord"))[1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(content)
    write(folder)
    assert contents(folder) == contents(records)


def test_a_folder_of_other_records_is_refused(write, records, tmp_path):
    with pytest.raises(InputError, match="other records .seed differ"):
        write(records, seed=SEED + 1)
    with pytest.raises(InputError, match="other records .config differ"):
        write(records, config=SynthesisConfig(cube_mm=200.0))
    (tmp_path / "x.tfrecord").write_bytes(b"")
    with pytest.raises(InputError, match="x.tfrecord: records of unknown origin"):
        write(tmp_path)


def test_unwritable_places_and_too_many_shards_are_named(write, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/set: cannot be written"):
        write(tmp_path / "file" / "set")
    with pytest.raises(InputError, match="--shards=30"):
        write(tmp_path / "set", shards=30)
    assert not (tmp_path / "set").exists()


def test_records_return_what_was_rendered(template, records):
    dataset = record_dataset(
        str(records), template, batching=Batching(batch_size=4, shuffle=False, repeat=False)
    )
    batches = list(dataset.as_numpy_iterator())
    assert [len(batch["depth"]) for batch in batches] == [4, 4, 2]
    read = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    truth = synthesize_batch(template, SynthesisConfig(), SEED, 0, COUNT, 1)
    np.testing.assert_array_equal(read["index"], np.arange(COUNT))
    for name in ("face", "intrinsics", "centre", "cube", "keypoints"):
        np.testing.assert_array_equal(read[name], truth[name], name)
    np.testing.assert_allclose(read["vertices"], truth["vertices"], atol=0.0051)
    np.testing.assert_allclose(read["barycentric"], truth["barycentric"], atol=1e-5)
    near = truth["depth"] < 6000
    np.testing.assert_allclose(read["depth"][near], truth["depth"][near], atol=0.051)
    assert {"mesh_coords", "mesh_layer", "correspondence_mask"} <= set(read)


def test_left_hands_are_the_same_right_ones_marked(template, write, records, tmp_path):
    description = write(tmp_path / "left", hand="left")
    assert description["hand"] == "left" and description["features"]["left"] == "int64 []"
    sets = [
        record_dataset(
            str(folder), template, batching=Batching(batch_size=COUNT, shuffle=False, repeat=False)
        )
        for folder in (tmp_path / "left", records)
    ]
    left, right = (next(data.as_numpy_iterator()) for data in sets)
    assert left.pop("left").all() and not right.pop("left").any()
    for name in right:
        np.testing.assert_array_equal(left[name], right[name], name)
    # As a camera would see the left hand: every pixel's point is the right one's, mirrored.
    seen = mirror.mirror_named(left)
    size = left["depth"].shape[2]
    seen["intrinsics"] = mirror.mirror_intrinsics(left["intrinsics"], size)
    points = {}
    for name, batch in (("left", seen), ("right", right)):
        fx, fy, cx, cy = (value[:, None, None] for value in batch["intrinsics"].T)
        row, column = np.mgrid[:size, :size]
        z = batch["depth"]
        points[name] = np.stack([(column - cx) / fx * z, (row - cy) / fy * z, z], axis=-1)
    mirrored = mirror.mirror_points(mirror.mirror_image(points["left"], axis=-2))
    np.testing.assert_allclose(mirrored, points["right"], rtol=1e-5, atol=1e-2)  # mm


def test_older_sets_are_of_right_hands_and_are_gone_on_with(write, records, tmp_path):
    write(tmp_path / "set")
    file = tmp_path / "set" / schema.DESCRIPTION_FILE
    told = json.loads(file.read_text())
    assert told.pop("hand") == "right"
    file.write_text(json.dumps(told))
    sorted((tmp_path / "set").glob("*.tfrecord"))[1].unlink()
    write(tmp_path / "set")
    assert contents(tmp_path / "set") == contents(records)
    with pytest.raises(InputError, match=r"other records \(hand differ\)"):
        write(tmp_path / "set", hand="left")


def test_a_shuffled_reader_goes_on_where_it_stopped(template, records):
    def numbers(start, steps, seed=1):
        dataset = record_dataset(
            str(records), template, batching=Batching(batch_size=4, seed=seed, start_step=start)
        )
        return [batch["index"].tolist() for batch in dataset.take(steps).as_numpy_iterator()]

    whole = numbers(0, 5)
    assert whole[3:] == numbers(3, 2)
    assert sorted(sum(whole, [])) == sorted(2 * list(range(COUNT)))  # every record, every pass
    assert whole != numbers(0, 5, seed=2)
    assert whole[0] != list(range(4))


def test_a_truncated_file_is_named(template, records, tmp_path):
    for path in records.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard = sorted(tmp_path.glob("*.tfrecord"))[1]
    spans = record_offsets(str(shard))
    for size in (spans[1][0] + 50, spans[1][0] - 3):
        with open(shard, "r+b") as file:
            file.truncate(size)
        with pytest.raises(InputError, match=f"{shard.name}: truncated within record 1 .*resumes"):
            record_dataset(str(tmp_path), template, batching=Batching(batch_size=2))
    shard.write_bytes(b"")
    with pytest.raises(InputError, match=f"{shard.name}: holds no record"):
        record_dataset(str(tmp_path), template, batching=Batching(batch_size=2))


def test_a_missing_feature_is_named(template, records, tmp_path):
    for path in records.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard = sorted(tmp_path.glob("*.tfrecord"))[0]
    serialized = next(iter(tf.data.TFRecordDataset(str(shard)))).numpy()
    example = tf.train.Example.FromString(serialized)
    del example.features.feature["barycentric"]
    with tf.io.TFRecordWriter(str(shard)) as writer:
        writer.write(example.SerializeToString())
    with pytest.raises(InputError, match=f"{shard.name}: .*lack the feature 'barycentric'"):
        record_dataset(str(tmp_path), template, batching=Batching(batch_size=2))


def test_records_of_another_template_or_an_unfinished_run_are_refused(template, records, tmp_path):
    moved = dataclasses.replace(template, vertices=template.vertices + 1)
    with pytest.raises(InputError, match="rendered with another template"):
        record_dataset(str(records), moved, batching=Batching(batch_size=2))
    with pytest.raises(InputError, match="no record files"):
        record_dataset(str(tmp_path), template, batching=Batching(batch_size=2))
    for path in records.glob("*.tfrecord"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="description.json: cannot be read"):
        record_dataset(str(tmp_path), template, batching=Batching(batch_size=2))


def test_values_that_do_not_fit_a_record_are_refused(template):
    sample = {k: v[0] for k, v in synthesize_batch(template, SynthesisConfig(), 0, 0, 1, 1).items()}
    with pytest.raises(ValueError, match="vertices: values do not fit"):
        schema.encode_example({**sample, "vertices": sample["vertices"] + 1e4}, 0)
    with pytest.raises(ValueError, match="vertices: values do not fit"):
        schema.encode_example({**sample, "vertices": sample["vertices"] * np.nan}, 0)
