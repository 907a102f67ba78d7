"""What the flags of the three writers of records do that their functions' tests do not give."""

import json

import pytest

from dgn_tf.errors import InputError
from tests.data_prep import ball_rig
from tests.programs import run


@pytest.fixture(scope="module")
def localiser(tmp_path_factory):
    """The folder of an untrained localiser, and how records tell of it."""
    import tensorflow as tf

    from dgn_tf.localize.network import Localiser, save_localiser, weights_hash

    tf.keras.utils.set_random_seed(1)
    network = Localiser((4, 4))
    network(network.example_inputs())
    folder = tmp_path_factory.mktemp("localiser")
    save_localiser(network, folder)
    return folder, weights_hash(folder)


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """The programs ask for one thread, which a process that has begun can't take back."""
    asked = "tensorflow.config.threading.set_intra_op_parallelism_threads"
    monkeypatch.setattr(asked, lambda _: None)


def described(folder):
    return json.loads((folder / "description.json").read_text())


def test_nyus_frames_by_ones_own_localiser_cube_and_hand(nyu, localiser, tmp_path):
    folder, sha256 = localiser
    run(
        "data_prep.nyu_to_tfrecord",
        f"--nyu_dir={nyu}",
        f"--output_dir={tmp_path}",
        "--splits=test",
        "--cameras=1",
        "--center=localiser",
        f"--localiser={folder}",
        "--cube_mm=250",
        "--steps_per_shard=2",
        "--hand=left",
        "--workers=1",
    )
    found = described(tmp_path / "test")
    assert sha256 in found["centre"]
    assert found["cube_mm"] == 250 and found["hand"] == "left"
    assert [file["records"] for file in found["files"]] == [1, 2, 2]


def test_a_rigs_frames_by_ones_own_localiser_cube_and_split(localiser, tmp_path):
    folder, sha256 = localiser
    rig = ball_rig.write_rig(tmp_path / "rig", 3)
    run(
        "data_prep.rig_to_tfrecord",
        f"--frames={rig / 'cam1'},{rig / 'cam2'}",
        f"--calibration={calibration_of_two(rig)}",
        f"--depth_unit={ball_rig.UNIT_MM}",
        f"--output_dir={tmp_path}",
        "--split=test",
        "--center=localiser",
        f"--localiser={folder}",
        "--cube_mm=250",
        "--steps_per_shard=1",
        "--workers=1",
    )
    found = described(tmp_path / "test")
    assert sha256 in found["centre"]
    assert found["cube_mm"] == 250 and found["split"] == "test" and len(found["files"]) == 3


def test_the_first_steps_of_a_rig_alone(localiser, tmp_path):
    rig = ball_rig.write_rig(tmp_path / "rig", 3)
    run(
        "data_prep.rig_to_tfrecord",
        f"--frames={rig / 'cam1'},{rig / 'cam2'}",
        f"--calibration={calibration_of_two(rig)}",
        f"--depth_unit={ball_rig.UNIT_MM}",
        f"--output_dir={tmp_path / 'a'}",
        "--limit=2",
        "--center=localiser",
        f"--localiser={localiser[0]}",
        "--workers=1",
    )
    assert described(tmp_path / "a" / "train")["frames"] == 2


def test_the_first_steps_of_nyu_alone(nyu, localiser, tmp_path):
    centre = ("--center=localiser", f"--localiser={localiser[0]}", "--workers=1")
    nyus = ("data_prep.nyu_to_tfrecord", f"--nyu_dir={nyu}", "--splits=test", "--cameras=1")
    run(*nyus, f"--output_dir={tmp_path / 'b'}", "--limit=3", *centre)
    assert described(tmp_path / "b" / "test")["frames"] == 3
    # Other steps are another set: what is there is not taken for it.
    with pytest.raises(InputError, match="holds"):
        run(*nyus, f"--output_dir={tmp_path / 'b'}", *centre)


def calibration_of_two(rig):
    path = rig / "two.json"
    path.write_text(json.dumps(ball_rig.calibration(2)))
    return path


def test_synthetic_frames_by_count_seed_and_hand(tmp_path, monkeypatch):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"size": 16}))

    def written(name, *arguments):
        run(
            "data_prep.synthetic_to_tfrecord",
            f"--output_dir={tmp_path / name}",
            f"--config={config}",
            "--shards=1",
            "--workers=1",
            "--count=3",
            *arguments,
        )
        return described(tmp_path / name)

    first, other, left = written("a"), written("b", "--seed=5"), written("c", "--hand=left")
    assert first["count"] == first["files"][0]["records"] == 3 and first["seed"] == 0
    assert other["seed"] == 5 and other["content_hash"] != first["content_hash"]
    assert (first["hand"], left["hand"]) == ("right", "left")
    assert left["content_hash"] != first["content_hash"]


def test_as_many_shards_at_once_as_workers(tmp_path, monkeypatch):
    import data_prep.synthetic_to_tfrecord as module

    asked = []
    monkeypatch.setattr(
        module, "write_set", lambda *arguments: asked.append(arguments[-2]) or PRINTED
    )
    for workers in (0, 3):
        run("data_prep.synthetic_to_tfrecord", f"--output_dir={tmp_path}", f"--workers={workers}")
    assert asked == [0, 3]


PRINTED = {"count": 1, "hand": "right", "shards": 1, "content_hash": "0"}
