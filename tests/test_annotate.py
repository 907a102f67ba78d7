"""`python -m dgn_tf.annotate`: what it writes is read back by the readers and by the converter."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from absl import flags

from dgn_tf import annotate
from dgn_tf.errors import InputError
from tests.data_prep import nyu_folder

STEPS = 5


@pytest.fixture(scope="module")
def convert():
    # Modules with flags are forgotten before each test: imported here, kept by the closure.
    from data_prep.nyu_to_tfrecord import convert_split
    from tests.view_records import grouped

    def convert(nyu, output, **settings):
        settings = {"center": "com", "workers": 1, "steps_per_shard": 2, **settings}
        return convert_split(nyu, output, "train", **grouped({"progress": False, **settings}))

    return convert


@pytest.fixture(scope="module")
def world(convert, tmp_path_factory):
    """A data set in NYU's layout, its records without labels, an untrained model."""
    from dgn_tf.model_folder import save_model_folder
    from tests.exported_model import network

    folder = tmp_path_factory.mktemp("annotate")
    nyu = nyu_folder.write_nyu(folder / "nyu", STEPS, ("train",))
    rig = {
        "intrinsics": {"fx": 588.036865, "fy": 587.075073, "cx": 320.0, "cy": 240.0},
        "camera_from_camera1": nyu_folder.rig().tolist(),
    }
    (folder / "rig.json").write_text(json.dumps(rig))
    convert(nyu, folder / "records", use_labels="extrinsics", calibration=str(folder / "rig.json"))
    (nyu / "train" / "joint_data.mat").unlink()
    convert(nyu, folder / "no_rig", use_labels="extrinsics")
    save_model_folder(network(), folder / "model")
    return folder


@pytest.fixture(autouse=True)
def inside(world, flags_of_this_file, monkeypatch):
    monkeypatch.chdir(world)


def run(*arguments, records="records/train", model="model"):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["annotate", f"--records={records}", f"--weights={model}", *arguments])
    annotate.main([])


@pytest.fixture
def annotated(world, inside):
    """The annotated records: made for the first test that wants them."""
    if not (world / "fused").exists():
        run("--output_dir=fused", "--refine_steps=2", "--batch_size=3")
    return world / "fused"


def description_of(folder):
    return json.loads((folder / "description.json").read_text())


def test_description_says_what_the_labels_are_and_where_they_come_from(annotated, world):
    description, source = description_of(annotated), description_of(world / "records" / "train")
    assert description["source"] == "annotation" and "no human labels" in description["labels_are"]
    assert description["annotated_records"] == source["content_hash"] != description["content_hash"]
    assert description["annotation"]["multi_view"] and description["annotation"]["passes"] == 2
    assert len(description["annotation"]["weights_sha256"]) == 64
    assert description["labels"] and description["keypoints_valid"] == STEPS * 3 * 36
    assert description["centre"].startswith("estimate of dgn_tf.annotate")
    assert set(description["annotated"]["residuals"]) == {"1", "2", "3"}
    assert not (annotated / "plan.json").exists() and not list(annotated.glob("*.part"))


def test_the_readers_of_views_take_the_records_and_their_labels(annotated, world):
    from dgn_tf.annotation import records, schema
    from dgn_tf.records.batches import Batching
    from dgn_tf.records.views import open_views, step_dataset, view_dataset
    from dgn_tf.training.real_frames import RealFrames
    from tests.tiny_template import tiny_template

    assert RealFrames(str(annotated)).description(tiny_template())["labels"]
    names = [file["name"] for file in description_of(annotated)["files"]]
    labels = [
        schema.parse_labels(record, 36) for record in records.read_annotated(annotated, names)
    ]
    for record in records.read_annotated(annotated, names):
        schema.check_example(record, "fused")
    assert len(open_views(str(annotated)).store) == STEPS
    batch = next(
        iter(
            step_dataset(
                str(annotated), batching=Batching(batch_size=STEPS, shuffle=False, repeat=False)
            )
        )
    )
    np.testing.assert_array_equal(batch["keypoints_valid"], 1)
    for number, label in enumerate(labels):
        np.testing.assert_allclose(batch["keypoints"][number], label["keypoints"], atol=1e-4)
        assert label["vertices"].shape == (3, 73, 3) and label["transforms"].shape == (3, 4, 4, 4)
        # One hand, seen by three cameras: to the 0.01 mm of the records.
        in_rig = [
            (vertices - transform[:3, 3]) @ transform[:3, :3]
            for vertices, transform in zip(
                label["vertices"], np.array(batch["camera_from_rig"][number]), strict=True
            )
        ]
        assert np.ptp(in_rig, axis=0).max() < 0.05  # mm
        assert 0 < label["confidence"][0] < 1
    views = view_dataset(
        str(annotated), camera=2, batching=Batching(batch_size=4, shuffle=False, repeat=False)
    )
    assert next(iter(views))["keypoints"].shape == (4, 36, 3)


@pytest.mark.parametrize("calibration", ["rig.json", ""])
def test_joint_data_goes_back_through_the_converter(
    annotated, world, convert, tmp_path, calibration
):
    nyu = shutil.copytree(world / "nyu", tmp_path / "nyu")
    shutil.copyfile(annotated / "joint_data.mat", nyu / "train" / "joint_data.mat")
    description = convert(nyu, tmp_path / "records", calibration=calibration)
    assert description["keypoints_valid"] == STEPS * 3 * 36
    assert max(entry["max"] for entry in description["reprojection_px"].values()) < 1e-3
    assert max(entry["max"] for entry in description["extrinsics"]["residual_mm"].values()) < 0.01
    before = nyu_folder.read_records(annotated)
    after = nyu_folder.read_records(tmp_path / "records" / "train")
    for one, other in zip(before, after, strict=True):
        assert one["index"] == other["index"]
        np.testing.assert_allclose(one["keypoints"], other["keypoints"], atol=1e-3)  # mm


def test_masked_frames_arrive_masked(world, convert, tmp_path):
    run(f"--output_dir={tmp_path / 'unsure'}", "--min_confidence=1", "--passes=1")
    nyu = shutil.copytree(world / "nyu", tmp_path / "nyu")
    shutil.copyfile(tmp_path / "unsure" / "joint_data.mat", nyu / "train" / "joint_data.mat")
    description = convert(
        nyu, tmp_path / "records", calibration=str(world / "rig.json"), skip_bad_frames=True
    )
    assert description["keypoints_valid"] == 0
    assert description["keypoints_masked"] == STEPS * 3 * 36


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(annotated, tmp_path, monkeypatch):
    from dgn_tf.annotation import records

    part = shutil.copytree(annotated, tmp_path / "part")
    kept, *lost = sorted(part.glob("*.tfrecord"))
    for path in lost[1:]:
        path.unlink()
    content = bytearray(lost[0].read_bytes())
    content[len(content) // 2] ^= 1  # finished once, and damaged since
    lost[0].write_bytes(content)
    description = description_of(part)
    (part / "description.json").unlink()
    keys = (
        "format_version",
        "kind",
        "source",
        "labels_are",
        "annotated_records",
        "annotation",
        "frames",
    )
    (part / "plan.json").write_text(json.dumps({key: description[key] for key in keys}))
    written = []
    write = records._write_shard
    monkeypatch.setattr(
        records, "_write_shard", lambda path, data: (written.append(path.name), write(path, data))
    )
    run(f"--output_dir={part}", "--refine_steps=2", "--batch_size=3")
    assert written == [path.name for path in lost] and kept.exists()
    assert description_of(part)["content_hash"] == description["content_hash"]


def test_cameras_that_do_not_know_their_places_are_annotated_alone(world, capsys):
    run("--output_dir=alone", "--cameras=1,3", "--limit=2", records="no_rig/train")
    assert "each view is annotated alone" in capsys.readouterr().out
    description = description_of(world / "alone")
    assert not description["annotation"]["multi_view"] and description["frames"] == 2
    assert description["annotated"]["views_annotated"] == 4
    assert description["annotated"]["residuals"]["2"]["views"] == 0


def test_existing_labels_are_never_overwritten(annotated, tmp_path):
    own = tmp_path / "joint_data.mat"
    own.write_bytes(b"NYU's")
    with pytest.raises(InputError, match=f"--joint_data={own} exists and may hold labels"):
        run("--output_dir=never", f"--joint_data={own}")
    assert own.read_bytes() == b"NYU's"
    new = tmp_path / "beside" / "joint_data.mat"
    run("--output_dir=fused", "--refine_steps=2", "--batch_size=3", f"--joint_data={new}")
    assert new.read_bytes() and list(new.parent.iterdir()) == [new]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--weights="], "--weights is wanted"),
        (["--output_dir=x", "--cameras=1,front"], "--cameras=1,front: wanted numbers such as 1,3"),
        (["--output_dir=x", "--cameras=4"], "no camera 4 in these records, which have 1, 2, 3"),
        (["--output_dir=x", "--records=records"], "the folder of several splits; name one"),
        (["--output_dir=records/train"], "--output_dir=records/train is --records"),
        (
            ["--output_dir=fused", "--passes=1"],
            r"fused/description.json: the folder holds other "
            r"records \(annotation differ\)",
        ),
        (["--output_dir=x", "--weights=nowhere"], "nowhere is no model"),
    ],
)
def test_bad_input_is_told_in_one_line(annotated, arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)


def test_the_data_sets_own_labels_and_centres_are_not_replaced(tmp_path):
    for name in ("joint_data.mat", "centres_1.txt"):
        folder = tmp_path / name / "train"
        folder.mkdir(parents=True)
        (folder / name).write_text("of the data set")
        with pytest.raises(InputError, match=f"{name} exists and may hold labels"):
            run(f"--output_dir={folder}")
        assert [(f.name, f.read_text()) for f in folder.iterdir()] == [(name, "of the data set")]


def test_the_energys_weights_and_whether_views_are_fused_are_those_of_the_flags(monkeypatch):
    from dgn_tf.annotation import annotator, records

    class Stopped(Exception):
        pass

    given = []

    def made(network, config, mask, together):
        given.append((config.energy, together))

    def stop(*_):
        raise Stopped

    monkeypatch.setattr(annotator, "Annotator", made)
    monkeypatch.setattr(records, "write_annotated", stop)
    weights = {name: number + 2.0 for number, name in enumerate(annotate.LETTERS)}
    for arguments in (
        [],
        ["--omega=2", "--lambda1=3", "--lambda2=4", "--kappa1=5", "--kappa2=6"]
        + ["--eta1=7", "--eta2=8", "--free_space=9", "--nomulti_view"],
    ):
        with pytest.raises(Stopped):
            run("--output_dir=never", *arguments)
    (usual, together), (energy, alone) = given
    assert together and not alone
    assert {name: getattr(energy, name) for name in annotate.LETTERS} == weights
    assert (usual.free_space, energy.free_space) == (0.0, 9.0)
    assert usual == dataclasses.replace(
        energy, free_space=0.0, **{name: getattr(usual, name) for name in annotate.LETTERS}
    )
