"""Reading of single and synchronised views: order, resumption, parts, labels and errors."""

import json

import numpy as np
import pytest

from dgn_tf.errors import InputError
from dgn_tf.records.batches import Batching
from dgn_tf.records.view_crops import AugmentConfig
from dgn_tf.records.views import (
    StepChoice,
    labelled_steps,
    open_views,
    runs_of_steps,
    step_dataset,
    steps_of_part,
    view_dataset,
)
from tests.view_records import make_step, write_view_records

STEPS = 12
INVALID = {2: (1,), 5: (0, 1, 2)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(write_view_records(tmp_path_factory.mktemp("views"), STEPS, invalid=INVALID))


def batches(dataset, count=None):
    return list((dataset if count is None else dataset.take(count)).as_numpy_iterator())


def gathered(dataset, name):
    return np.concatenate([batch[name] for batch in batches(dataset)])


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_one_camera_in_order_gives_its_valid_views_with_their_truth(folder):
    dataset = view_dataset(
        folder, camera=2, batching=Batching(batch_size=4, shuffle=False, repeat=False)
    )
    found = batches(dataset)
    assert np.concatenate([batch["index"] for batch in found]).tolist() == [
        1,
        3,
        4,
        *range(6, STEPS + 1),
    ]
    for batch in found:
        assert (batch["camera"] == 2).all() and (batch["cube"] == 300).all()
        for row, index in enumerate(batch["index"]):
            step, _ = make_step(int(index))
            for name in ("centre", "keypoints", "camera_from_rig"):
                np.testing.assert_allclose(batch[name][row], step[name][1], rtol=1e-6, atol=1e-4)
            np.testing.assert_allclose(batch["frame_intrinsics"][row], step["intrinsics"][1])
        assert (batch["keypoints_valid"] == 1).all() and (batch["rig_known"] == 1).all()
        assert (batch["depth"] > 0).mean() > 0.5


def test_every_camera_in_turn_gives_each_valid_view_once(folder):
    dataset = view_dataset(
        folder, camera=0, batching=Batching(batch_size=8, shuffle=True, repeat=False)
    )
    pairs = sorted(zip(gathered(dataset, "index"), gathered(dataset, "camera"), strict=True))
    assert pairs == [
        (index, camera + 1)
        for index in range(1, STEPS + 1)
        for camera in range(3)
        if camera not in INVALID.get(index, ())
    ]


def test_shapes_are_static_at_two_batch_sizes(folder):
    for size, batch in ((32, 3), (64, 5)):
        spec = view_dataset(folder, size=size, batching=Batching(batch_size=batch)).element_spec
        assert spec["depth"].shape == (batch, size, size)
        assert spec["keypoints"].shape == (batch, 36, 3)
        spec = step_dataset(
            folder, cameras=[3, 1], size=size, batching=Batching(batch_size=batch)
        ).element_spec
        assert spec["depth"].shape == (batch, 2, size, size)
        assert spec["view_valid"].shape == (batch, 2) and spec["cube"].shape == (batch,)
        assert spec["camera_from_rig"].shape == (batch, 2, 4, 4)


@pytest.mark.parametrize("kind", [view_dataset, step_dataset])
def test_a_resumed_run_sees_what_the_uninterrupted_one_saw(folder, kind):
    settings = {"augment": AugmentConfig(), "size": 32}
    whole = batches(kind(folder, Batching(5, seed=3), **settings), 9)  # over the ends of passes
    resumed = batches(kind(folder, Batching(5, seed=3, start_step=6), **settings), 3)
    for one, other in zip(whole[6:], resumed, strict=True):
        same(one, other)
    threaded = batches(kind(folder, Batching(5, seed=3, threads=2), **settings), 9)
    for one, other in zip(whole, threaded, strict=True):
        same(one, other)


def test_passes_are_permutations_that_differ_and_augmentation_never_repeats(folder):
    dataset = view_dataset(
        folder, camera=1, augment=AugmentConfig(), size=32, batching=Batching(batch_size=11, seed=1)
    )
    first, second = batches(dataset, 2)  # 11 valid views
    assert sorted(first["index"]) == sorted(second["index"]) == sorted({*range(1, 13)} - {5})
    assert first["index"].tolist() != second["index"].tolist()
    by_index = {index: depth for index, depth in zip(first["index"], first["depth"], strict=True)}
    for index, depth in zip(second["index"], second["depth"], strict=True):
        assert (by_index[index] != depth).any()
    other = batches(
        view_dataset(folder, camera=1, size=32, batching=Batching(batch_size=11, seed=2)), 1
    )[0]
    assert other["index"].tolist() != first["index"].tolist()


def test_steps_have_synchronised_views_and_name_those_that_are_missing(folder):
    parts = batches(
        step_dataset(folder, batching=Batching(batch_size=4, shuffle=False, repeat=False))
    )
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert found["index"].tolist() == [index for index in range(1, STEPS + 1) if index != 5]
    np.testing.assert_array_equal(found["camera"], np.tile([1, 2, 3], [STEPS - 1, 1]))
    lost = np.zeros([STEPS - 1, 3], bool)
    lost[1, 1] = True  # Index 2, camera 2
    np.testing.assert_array_equal(found["view_valid"] == 0, lost)
    assert (found["depth"][lost] == 0).all() and (found["keypoints_valid"][lost] == 0).all()
    assert all(np.isfinite(values).all() for values in found.values())
    assert (found["centre"][lost][:, 2] > 0).all()


def test_steps_agree_with_single_views(folder):
    steps = batches(
        step_dataset(
            folder, cameras=[3], batching=Batching(batch_size=3, shuffle=False, repeat=False)
        ),
        1,
    )[0]
    views = batches(
        view_dataset(
            folder, camera=3, batching=Batching(batch_size=3, shuffle=False, repeat=False)
        ),
        1,
    )[0]
    for name in views.keys() - {"cube", "rig_known", "index", "left", "frame_width"}:
        np.testing.assert_array_equal(steps[name][:, 0], views[name], err_msg=name)


def test_augmented_views_of_a_step_agree_in_their_rig_frame(folder):
    batch = batches(
        step_dataset(folder, augment=AugmentConfig(), batching=Batching(batch_size=6, seed=4)), 1
    )[0]
    transform = batch["camera_from_rig"].astype(np.float64)
    moved = batch["keypoints"] - transform[..., np.newaxis, :3, 3]
    rig = np.einsum("bcij,bckj->bcki", np.moveaxis(transform[..., :3, :3], -1, -2), moved)
    truth = np.array([make_step(int(index))[0]["keypoints"][0] for index in batch["index"]])
    for row, valid in enumerate(batch["view_valid"] > 0):
        scale = np.sum(rig[row, valid] * truth[row]) / np.sum(truth[row] ** 2) / valid.sum()
        assert 0.9 <= scale <= 1.1
        np.testing.assert_allclose(
            rig[row, valid], np.stack([scale * truth[row]] * valid.sum()), atol=0.01
        )  # mm


def test_labels_are_kept_in_an_evenly_spread_share(folder):
    views = view_dataset(
        folder,
        camera=1,
        batching=Batching(batch_size=2, shuffle=False, repeat=False),
        choice=StepChoice(labelled_fraction=0.25),
    )
    assert gathered(views, "index").tolist() == [3, 7, 11]
    (steps,) = batches(
        step_dataset(
            folder,
            batching=Batching(batch_size=STEPS - 1, shuffle=False, repeat=False),
            choice=StepChoice(labelled_fraction=0.25),
        )
    )
    labelled = steps["keypoints_valid"].any(axis=(1, 2))
    assert steps["index"][labelled].tolist() == [3, 7, 11]
    assert (steps["keypoints"][~labelled] == 0).all()


@pytest.mark.parametrize(("steps", "fraction"), [(1500, 0.1), (37, 0.33), (1500, 1.0), (9, 0.01)])
def test_labelled_steps_are_as_many_as_asked_for_and_evenly_apart(steps, fraction):
    kept = labelled_steps(np.arange(steps) + 100, fraction)
    assert len(kept) == max(1, round(fraction * steps)) == len(set(kept))
    if len(kept) > 1:
        assert np.ptp(np.diff(kept)) <= 1


@pytest.mark.parametrize(("steps", "share"), [(1500, 0.1), (72757, 0.05), (25, 0.2), (8, 0.5)])
def test_parts_are_disjoint_complete_and_held_out_in_few_runs(steps, share):
    train, held_out = (steps_of_part(steps, part, share) for part in ("train", "held_out"))
    assert sorted([*train, *held_out]) == list(range(steps))
    assert len(held_out) == round(share * steps)
    runs = np.split(held_out, np.flatnonzero(np.diff(held_out) > 1) + 1)
    assert len(runs) <= 10
    # Evenly spread: each tenth of the steps (or so) has its run.
    assert np.ptp([len(run) for run in runs]) <= 1
    assert np.ptp(np.diff([run[0] for run in runs])) <= 2


@pytest.mark.parametrize(("steps", "fraction"), [(1350, 0.1), (1350, 0.3), (41, 0.5), (7, 0.01)])
def test_a_share_of_the_recording_is_runs_of_neighbouring_steps(steps, fraction):
    kept = runs_of_steps(np.arange(steps) + 100, fraction)
    assert len(kept) == max(1, round(fraction * steps)) == len(set(kept))
    assert (np.diff(kept) > 1).sum() <= 9
    np.testing.assert_array_equal(runs_of_steps(kept, 1.0), kept)


@pytest.mark.parametrize("steps", [101, 1350])
def test_larger_shares_have_the_smaller_ones_and_seeds_differ(steps):
    everything = np.arange(steps) + 100
    for seed in range(5):
        for smaller, larger in ((0.1, 0.3), (0.3, 0.5), (0.5, 0.97), (0.97, 1.0)):
            kept = runs_of_steps(everything, larger, seed)
            assert set(runs_of_steps(everything, smaller, seed)) <= set(kept)
            assert len(kept) == max(1, round(larger * steps))
    first, second = (tuple(runs_of_steps(everything, 0.3, seed)) for seed in (1, 2))
    assert first != second


def test_a_dataset_of_a_share_reads_no_other_step(folder):
    some_view = open_views(folder).valid.any(axis=1)
    found = []
    for seed in range(4):
        steps = runs_of_steps(steps_of_part(STEPS, "train", 0.25), 0.5, seed)
        found.append(set(steps[some_view[steps]] + 1))
        for dataset in (view_dataset, step_dataset):
            read = dataset(
                folder,
                Batching(2, repeat=False, seed=seed),
                choice=StepChoice("train", held_out=0.25, fraction=0.5),
            )
            assert set(gathered(read, "index")) == found[-1]
    assert any(steps != found[0] for steps in found)


def test_no_share_holds_nothing_out_and_wrong_ones_are_refused():
    assert len(steps_of_part(50, "train", 0.0)) == 50
    for part, share in (("test", 0.1), ("train", 1.0)):
        with pytest.raises(ValueError, match="steps_of_part wants"):
            steps_of_part(50, part, share)
    with pytest.raises(ValueError, match="fraction"):
        labelled_steps(np.arange(5), 0.0)
    with pytest.raises(ValueError, match="fraction"):
        runs_of_steps(np.arange(5), 1.1)


def test_datasets_of_the_parts_share_no_step(folder):
    seen = [
        set(
            gathered(
                view_dataset(
                    folder,
                    batching=Batching(batch_size=4, repeat=False),
                    choice=StepChoice(part=part, held_out=0.25),
                ),
                "index",
            )
        )
        for part in ("train", "held_out")
    ]
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == {*range(1, STEPS + 1)} - {5}


def rewritten(folder, tmp_path, **changes):
    """A copy of the records with other entries in its description."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / "description.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return copy


def test_a_missing_folder_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(InputError, match="python -m data_prep.nyu_to_tfrecord"):
        view_dataset(str(tmp_path / "none"), batching=Batching(batch_size=2))


def test_the_folder_of_several_splits_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="name one, .*train"):
        view_dataset(str(tmp_path), batching=Batching(batch_size=2))


def test_a_camera_that_is_not_there_is_named(folder):
    with pytest.raises(InputError, match="no camera 4 .*1, 2, 3"):
        view_dataset(folder, camera=4, batching=Batching(batch_size=2))


def test_records_of_another_kind_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="another kind"):
        view_dataset(
            str(rewritten(folder, tmp_path, kind="synthetic")), batching=Batching(batch_size=2)
        )


def test_a_missing_shard_is_named(folder, tmp_path):
    copy = rewritten(folder, tmp_path)
    sorted(copy.glob("*.tfrecord"))[1].unlink()
    with pytest.raises(InputError, match="views-00001-of-00002.tfrecord: 0 records.*says 6"):
        view_dataset(str(copy), batching=Batching(batch_size=2))


def test_a_truncated_shard_is_named_with_its_writer(folder, tmp_path):
    copy = rewritten(folder, tmp_path)
    shard = sorted(copy.glob("*.tfrecord"))[0]
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(InputError, match="00000-of-00002.*truncated.*nyu_to_tfrecord"):
        view_dataset(str(copy), batching=Batching(batch_size=2))


def test_a_split_without_usable_views_is_refused(tmp_path):
    folder = write_view_records(tmp_path / "bad", 2, invalid={1: (0, 1, 2), 2: (0, 1, 2)})
    with pytest.raises(InputError, match="no usable view"):
        step_dataset(str(folder), batching=Batching(batch_size=2))
