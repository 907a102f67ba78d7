"""Labelled frames beside synthetic ones: what may be learnt from, and what a batch holds."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.config import Train
from dgn_tf.errors import InputError
from dgn_tf.training import datasets
from dgn_tf.training.real_frames import EXPERIMENT, SYNTHETIC_TRUTH, RealFrames, real_count
from tests.tiny_template import tiny_template
from tests.view_records import write_view_records
from tests.written_records import SIZE, write_records

STEPS, CAMERAS = 20, 2


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """`STEPS` time steps with the names of NYU's key points."""
    folder = tmp_path_factory.mktemp("real") / "train"
    write_view_records(folder, STEPS, CAMERAS)
    return described(
        folder, folder, content_hash="abc", skipped=[], keypoints=tiny_template().keypoint_names
    )


def described(records, folder, **changes):
    """`folder` with the description of `records`, changed."""
    folder.mkdir(exist_ok=True)
    description = json.loads((records / "description.json").read_text())
    (folder / "description.json").write_text(json.dumps(description | changes))
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    synthetic = write_records(tmp_path_factory.mktemp("synthetic"), tiny_template(), count=7)
    return Train(data="records", synthetic_records=str(synthetic), batch_size=6, seed=3)


def batches(settings, records, first, count):
    real = RealFrames(str(records), size=SIZE)
    dataset = datasets.training_data(tiny_template(), settings, first, real)
    return list(dataset.take(count).as_numpy_iterator())


def test_batch_k_is_the_same_after_a_resume(settings, records):
    whole = batches(settings, records, 0, 5)
    resumed = batches(settings, records, 3, 2)
    for got, wanted in zip(resumed, whole[3:], strict=True):
        for name, value in wanted.items():
            np.testing.assert_array_equal(got[name], value, err_msg=name)
    assert not np.array_equal(whole[0]["depth"][:3], whole[1]["depth"][:3])


def test_synthetic_frames_keep_their_truth_beside_real_ones(settings, records):
    batch = batches(settings, records, 0, 1)[0]
    alone = datasets.synthetic_data(tiny_template(), settings, 3, 0)
    alone = next(alone.as_numpy_iterator())
    np.testing.assert_array_equal(batch["is_real"], [True] * 3 + [False] * 3)
    for name in ("depth", "intrinsics", "centre", "cube", "keypoints", *SYNTHETIC_TRUTH):
        np.testing.assert_array_equal(batch[name][3:], alone[name], err_msg=name)
    for name in SYNTHETIC_TRUTH:
        assert not batch[name][:3].any(), name
    assert batch["keypoints_valid"].all()


def test_batches_have_static_shapes(settings, records):
    real = RealFrames(str(records), size=SIZE)
    online = datasets.training_data(
        tiny_template(), dataclasses.replace(settings, real_fraction=1.0), 0, real
    )
    assert online.element_spec["depth"].shape == [6, SIZE, SIZE]
    assert online.element_spec["keypoints"].shape == [6, 36, 3]
    mixed = datasets.training_data(tiny_template(), settings, 0, real)
    assert mixed.element_spec["is_real"].shape.rank == 1
    assert mixed.element_spec["mesh_coords"].shape.rank == 4


def test_real_frames_alone_have_no_mesh(settings, records):
    real = RealFrames(str(records), size=SIZE)
    dataset = datasets.training_data(
        tiny_template(), dataclasses.replace(settings, real_fraction=1.0), 0, real
    )
    batch = next(iter(dataset))
    assert batch["is_real"].numpy().all() and "vertices" not in batch


def test_no_step_learns_from_what_is_held_out(records):
    real, template = RealFrames(str(records), held_out=0.2, size=SIZE), tiny_template()
    held_out = np.concatenate([batch["index"] for batch in real.held_out_batches(template, 1000)])
    assert len(held_out) == 0.2 * STEPS * CAMERAS
    per_pass = STEPS * CAMERAS - len(held_out)
    batches = real.training(template, 4, seed=0).take(2 * per_pass // 4)
    learnt = [batch["index"] for batch in batches]
    assert not set(np.concatenate(learnt)) & set(held_out)
    assert len(set(np.concatenate(learnt))) + len(set(held_out)) == STEPS


def test_held_out_views_are_the_same_at_each_call_and_as_many_as_wanted(records):
    real = RealFrames(str(records), cameras=(2,), held_out=0.5, size=SIZE)
    first, again = (real.held_out_batches(tiny_template(), 7) for _ in range(2))
    assert sum(len(batch["cube"]) for batch in first) == 7
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one["depth"], other["depth"])
        np.testing.assert_array_equal(one["camera"], 2)
    assert RealFrames(str(records), held_out=0.0).held_out_batches(tiny_template(), 7) == []


def test_labels_in_another_order_or_of_fewer_points_go_by_name(records, tmp_path):
    template = tiny_template()
    names = list(template.keypoint_names)
    unknown = names[:-1] + ["NOSE"]  # the records' own columns, of which the last is foreign now
    swapped = [unknown[1], unknown[0], *unknown[2:]]
    folder = described(records, tmp_path / "train", keypoints=swapped)
    for shard in records.glob("*.tfrecord"):
        (folder / shard.name).symlink_to(shard)
    same, by_name = (
        RealFrames(str(place), held_out=0.5, size=SIZE).held_out_batches(template, 4)[0]
        for place in (records, folder)
    )
    assert same["keypoints_valid"].numpy().all()
    for name in ("keypoints", "keypoints_valid"):
        np.testing.assert_array_equal(by_name[name][:, 0], same[name][:, 1])
        np.testing.assert_array_equal(by_name[name][:, 2:-1], same[name][:, 2:-1])
    assert not by_name["keypoints_valid"][:, -1].numpy().any()


def test_estimates_are_no_labels_of_a_data_set(records, tmp_path):
    estimated = described(records, tmp_path / "train", frames=72_757, labels_are="estimates")
    assert "estimates" in RealFrames(str(estimated)).facts(tiny_template())["status"]


def test_facts_call_other_frames_than_nyus_an_experiment(records, tmp_path):
    facts = RealFrames(str(records), cameras=(1,)).facts(tiny_template())
    assert facts["status"] == EXPERIMENT and facts["content_hash"] == "abc"
    assert facts["cameras"] == [1] and "oracle" in facts["centre"]
    skipped = [{"file": "train/depth_1_0000001.png", "why": "bad"}]
    whole = described(records, tmp_path / "train", frames=72_756, skipped=skipped)
    assert RealFrames(str(whole)).facts(tiny_template())["status"] == "NYU's training split"


@pytest.mark.parametrize(
    ("changes", "cameras", "message"),
    [
        ({"split": "test"}, (), "is the test split"),
        ({"labels": False}, (), "--labels=none"),
        ({"keypoints": ["thumb"]}, (), "labels none of the key points that are evaluated for"),
        ({"kind": "synthetic"}, (), "another kind"),
        ({}, (1, 4), "--real_cameras=4.* has cameras 1, 2"),
    ],
)
def test_unfit_records_are_refused(records, tmp_path, changes, cameras, message):
    folder = described(records, tmp_path / "train", **changes)
    with pytest.raises(InputError, match=message):
        RealFrames(str(folder), cameras).description(tiny_template())


def test_a_missing_folder_gets_the_command_that_makes_it(tmp_path):
    with pytest.raises(InputError, match=f"nyu_to_tfrecord .*--output_dir={tmp_path} writes"):
        RealFrames(str(tmp_path / "train")).description(tiny_template())
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match=f"several splits; name {tmp_path / 'train'}"):
        RealFrames(str(tmp_path)).description(tiny_template())


def test_a_fraction_that_rounds_to_no_frame_is_refused():
    assert [real_count(32, fraction) for fraction in (0.5, 1.0, 0.02)] == [16, 32, 1]
    with pytest.raises(InputError, match="--real_fraction=0.1 of --batch_size=4 is no frame"):
        real_count(4, 0.1)


def test_cameras_that_are_no_numbers_are_refused():
    values = Train(real_records="x", real_cameras=["1", "left"])
    with pytest.raises(InputError, match="--real_cameras=1,left: wanted numbers"):
        datasets.real_frames(values, 64)
    assert datasets.real_frames(dataclasses.replace(values, real_records=""), 64) is None


def test_labelled_points_are_measured_where_they_are_valid():
    from dgn_tf.training.validation import validate_labels

    template = tiny_template()
    rng = np.random.default_rng(0)
    estimate = rng.normal(size=[5, 36, 3]).astype(np.float32)
    truth = estimate + rng.normal(size=estimate.shape).astype(np.float32)
    valid = (rng.random([5, 36]) < 0.7).astype(np.float32)

    class Estimate:
        def __init__(self):
            self.template = template

        def __call__(self, batch, training):
            return {"keypoints": batch["centre"]}  # any input does

    def batch(rows):
        empty = tf.zeros([len(truth[rows])])
        return {
            "depth": empty,
            "intrinsics": empty,
            "cube": empty,
            "centre": estimate[rows],
            "keypoints": truth[rows],
            "keypoints_valid": valid[rows],
        }

    figures = validate_labels(Estimate(), [batch(slice(0, 3)), batch(slice(3, 5))])
    distance = np.linalg.norm(estimate - truth, axis=-1)
    for name, points in (
        ("real_keypoints_mm", template.evaluated),
        ("real_keypoints36_mm", np.arange(36)),
    ):
        wanted = [distance[i, j] for i in range(5) for j in points if valid[i, j]]
        np.testing.assert_allclose(figures[name], np.mean(wanted), rtol=1e-5)


def test_held_out_frames_choose_the_best_checkpoint(tmp_path, monkeypatch):
    from dgn_tf.training import callbacks

    synthetic, real = iter([3.0, 2.0, 1.0]), iter([9.0, 7.0, 8.0])
    saved = []
    monkeypatch.setattr(callbacks, "validate", lambda *_: {"keypoints_mm": next(synthetic)})
    monkeypatch.setattr(callbacks, "validate_labels", lambda *_: {"real_keypoints_mm": next(real)})
    monkeypatch.setattr(
        callbacks,
        "save_model_folder",
        lambda network, folder, flags, info: saved.append((folder.name, info["validation"])),
    )
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=[1])])
    model.network = model
    model.compile(tf.keras.optimizers.Adam())

    def epochs(count):
        check = callbacks.Validate([], tmp_path, "", {}, real_batches=[{}])
        check.set_model(model)
        for epoch in range(count):
            logs = {}
            check.on_epoch_end(epoch, logs)
        return logs

    logs = epochs(2)
    assert logs["val_real_keypoints_mm"] == 7.0 and logs["val_keypoints_mm"] == 2.0
    (tmp_path / "log.csv").write_text(
        "epoch,val_keypoints_mm,val_real_keypoints_mm\n0,3.0,9.0\n1,2.0,7.0\n"
    )
    epochs(1)  # resumed: 8 mm are no new best, though the synthetic figure is
    best = [figures["real_keypoints_mm"] for name, figures in saved if name == "best"]
    assert best == [9.0, 7.0]
