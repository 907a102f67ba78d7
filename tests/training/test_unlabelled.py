"""Unlabelled views beside synthetic frames: what a batch holds, terms, gradients, the choice."""

import csv
import dataclasses
import json
import math

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.config import Loss, Train
from dgn_tf.errors import InputError
from dgn_tf.losses.energy import MULTI_VIEW, Energy, EnergyConfig, mean_terms
from dgn_tf.network import DualGridNet
from dgn_tf.network_config import NetworkConfig
from dgn_tf.training import datasets
from dgn_tf.training.real_frames import EXPERIMENT
from dgn_tf.training.step import TrainingModel
from dgn_tf.training.unlabelled import (
    UNLABELLED,
    HeldOutEnergy,
    UnlabelledViews,
    energy_terms,
    run_together,
    single_views,
)
from tests import view_records
from tests.tiny_template import tiny_template
from tests.written_records import SIZE, write_records

STEPS, CAMERAS = 10, 2
OWN = {"icp", "free_space", "lifting", "collision", "arap", "offset"}
SETTINGS = Train(data="records", batch_size=3, seed=3, unlabelled_steps=2)


def written(folder, **changes):
    """Records of one step without any usable view but the first; `changes` of description.json."""
    view_records.write_view_records(folder, STEPS, CAMERAS, invalid={4: [1]})
    file = folder / "description.json"
    facts = {"content_hash": "abc", "skipped": [], **changes}
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))
    return str(folder)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return written(tmp_path_factory.mktemp("views") / "train")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    synthetic = write_records(tmp_path_factory.mktemp("synthetic"), tiny_template(), count=7)
    return dataclasses.replace(SETTINGS, synthetic_records=str(synthetic))


def batches(settings, views, first, count):
    found = datasets.training_data(tiny_template(), settings, first, unlabelled=views)
    return list(found.take(count))


def small_model(energy_weight=1.0):
    tf.keras.utils.set_random_seed(0)
    config = NetworkConfig(image_size=SIZE, image_channels=(8,), mesh_channels=(8,), features=4)
    network = DualGridNet(tiny_template(), config)
    network(network.example_inputs())
    config = EnergyConfig(min_pixels=5, wrist_margin=math.inf, free_space=0.5)
    energy = Energy(tiny_template(), config)
    model = TrainingModel(network, Loss(), 0.0, energy, energy_weight)
    model.compile(tf.keras.optimizers.AdamW(1e-3, jit_compile=False))
    model.optimizer.build(network.trainable_variables)
    return model


@pytest.mark.parametrize("multi_view", [True, False])
def test_batch_k_is_the_same_after_a_resume(settings, records, multi_view):
    views = UnlabelledViews(records, multi_view=multi_view, size=SIZE)
    whole, resumed = batches(settings, views, 0, 4), batches(settings, views, 2, 2)
    for got, wanted in zip(resumed, whole[2:], strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, got, wanted)
    first, second = (batch[UNLABELLED]["depth"] for batch in whole[:2])
    assert first.shape == ([2, CAMERAS, SIZE, SIZE] if multi_view else [2, SIZE, SIZE])
    assert not np.array_equal(first, second)
    assert not any("keypoints" in name for name in whole[0][UNLABELLED])


def test_views_are_flattened_step_by_step(settings, records):
    views = batches(settings, UnlabelledViews(records, size=SIZE), 0, 1)[0][UNLABELLED]
    flat = single_views(views)
    np.testing.assert_array_equal(flat["depth"][3], views["depth"][1, 1])
    np.testing.assert_array_equal(flat["centre"][2], views["centre"][1, 0])
    assert flat["cube"].shape == [2 * CAMERAS]


@pytest.fixture(scope="module")
def stepped():
    """A model, and its step as a graph: of several views and of one alone."""
    model = small_model(energy_weight=0.5)
    return model, tf.function(model.train_step)


def test_a_step_logs_the_terms_of_both_and_the_loss_is_their_weighted_sum(
    settings, records, stepped
):
    model, step = stepped
    for multi_view, names in ((True, OWN | set(MULTI_VIEW)), (False, OWN)):
        views = UnlabelledViews(records, multi_view=multi_view, size=SIZE)
        logs = step(batches(settings, views, 0, 1)[0])
        supervised = set(logs) - names - {"loss", "gradient_norm"}
        assert names < set(logs) and {"correspondence", "vertices_refined"} <= supervised
        weights = model.loss_config.weights()
        wanted = sum(weights[name] * float(logs[name]) for name in supervised)
        energies = {name: logs[name] for name in names}
        wanted += 0.5 * float(model.energy.total(energies))
        np.testing.assert_allclose(logs["loss"], wanted, rtol=1e-5)
        assert float(logs["icp"]) > 0 and math.isfinite(float(logs["gradient_norm"]))


def test_the_energy_reaches_both_networks(settings, records):
    model = small_model()
    batch = batches(settings, UnlabelledViews(records, size=SIZE), 0, 1)[0]
    network = model.network
    with tf.GradientTape() as tape:
        of_views, of_frames = run_together(network, batch, training=True)
        means = mean_terms(
            energy_terms(model.energy, of_views, batch[UNLABELLED], network.sampling)
        )
        total = model.energy.total(means)
    assert len(of_views["vertices"]) == 2 * CAMERAS and len(of_frames["vertices"]) == 3
    gradients = tape.gradient(total, network.trainable_variables)
    reached = {
        v.ref()
        for v, g in zip(network.trainable_variables, gradients, strict=True)
        if g is not None and np.abs(tf.convert_to_tensor(g)).max() > 0
    }
    for head in (network.correspondence_head, network.coordinate_head):
        assert reached & {v.ref() for v in head.trainable_variables}, head.name


def test_unlabelled_batches_of_background_leave_the_supervised_terms(settings, records, stepped):
    batch = batches(settings, UnlabelledViews(records, size=SIZE), 0, 1)[0]
    views = batch[UNLABELLED]
    empty = {**batch, UNLABELLED: {**views, "depth": tf.zeros_like(views["depth"])}}
    logs = stepped[1](empty)
    for name in OWN | set(MULTI_VIEW):
        assert float(logs[name]) == 0.0, name
    assert float(logs["loss"]) > 0 and math.isfinite(float(logs["gradient_norm"]))


def test_labels_change_nothing(settings, records, tmp_path, monkeypatch):
    """Other labels, or none as with --labels=none: the same batches and the same choice."""
    plain = view_records.make_step

    def unlabelled(*args, **kwargs):
        step, frames = plain(*args, **kwargs)
        zero = {name: np.zeros_like(step[name]) for name in ("keypoints", "keypoints_valid")}
        return step | zero, frames

    def moved(*args, **kwargs):
        step, frames = plain(*args, **kwargs)
        return step | {"keypoints": np.asarray(step["keypoints"]) + 50.0}, frames

    wanted = UnlabelledViews(records, held_out=0.2, size=SIZE)
    for name, make in (("none", unlabelled), ("moved", moved)):
        monkeypatch.setattr(view_records, "make_step", make)
        folder = written(tmp_path / name, labels=name != "none")
        views = dataclasses.replace(wanted, folder=folder)
        assert views.facts() == wanted.facts()
        for got, want in (
            (batches(settings, views, 0, 2), batches(settings, wanted, 0, 2)),
            (views.held_out_batches(6), wanted.held_out_batches(6)),
        ):
            tf.nest.map_structure(np.testing.assert_array_equal, got, want)


def test_held_out_energy_is_the_mean_over_usable_views_however_they_are_batched(records):
    model = small_model()
    measure = HeldOutEnergy(model.network, model.energy)
    for multi_view in (True, False):
        views = UnlabelledViews(records, multi_view=multi_view, held_out=0.4, size=SIZE)
        held_out = views.held_out_batches(100)
        figures = measure(held_out)
        again = [
            {name: value[i : i + 1] for name, value in batch.items()}
            for batch in held_out
            for i in range(len(batch["cube"]))
        ]
        assert len(again) > 3
        parts = measure(again)
        assert set(figures) == {"energy"} | OWN | (set(MULTI_VIEW) if multi_view else set())
        for name, value in figures.items():
            np.testing.assert_allclose(parts[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    empty = [{**held_out[0], "depth": tf.zeros_like(held_out[0]["depth"])}]
    assert math.isnan(measure(empty)["energy"])
    assert dataclasses.replace(views, held_out=0.0).held_out_batches(4) == []


def test_facts_mark_an_experiment_and_tell_where_centres_come_from(records):
    facts = UnlabelledViews(records, cameras=(2,)).facts()
    assert facts["status"] == EXPERIMENT and facts["content_hash"] == "abc"
    assert facts["cameras"] == [2] and "oracle" in facts["centre"]


def test_fitting_the_test_split_is_asked_for_by_name_and_told(tmp_path):
    folder = written(tmp_path / "test", split="test")
    assert "test split" in UnlabelledViews(folder, test_split=True).facts()["status"]


def test_unfit_records_are_refused(tmp_path):
    with pytest.raises(InputError, match="is the test split"):
        UnlabelledViews(written(tmp_path / "a", split="test")).description()
    with pytest.raises(InputError, match="--real_cameras=4.* has cameras 1, 2"):
        UnlabelledViews(written(tmp_path / "b"), (4,)).description()
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="several splits; name"):
        UnlabelledViews(str(tmp_path)).description()


@pytest.mark.long  # its small form: test_train.py, a run that was stopped and goes on
def test_a_run_is_chosen_by_energy_and_resumes_with_the_same_records(tmp_path):
    from tests.training.test_train_real import run

    records = written(tmp_path / "train", labels=False)
    folder = tmp_path / "run"
    arguments = ("--unlabelled_steps=2", f"--output_dir={folder}")
    run(*arguments, f"--unlabelled_records={records}")
    with open(folder / "log.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    energies = [float(row["val_energy"]) for row in rows]
    assert len(energies) == 2 and min(energies) > 0
    assert all(float(row["other_icp"]) > 0 and float(row["correspondence"]) > 0 for row in rows)
    best = json.loads((folder / "best" / "config.json").read_text())
    assert best["validation"]["energy"] == pytest.approx(min(energies))
    assert best["unlabelled_views"]["status"].startswith("experiment")
    moved = (tmp_path / "train").rename(tmp_path / "elsewhere")
    run(*arguments, f"--unlabelled_records={moved}")
    with pytest.raises(InputError, match="--unlabelled_records_hash was abc, is None"):
        run(*arguments)
