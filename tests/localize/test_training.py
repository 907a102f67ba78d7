import json

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from dgn_tf.errors import InputError
from dgn_tf.localize import training
from dgn_tf.localize.finders import BlobFinder, NetworkFinder, load_finder
from dgn_tf.localize.network import Localiser, load_localiser, save_localiser
from dgn_tf.synthesis.whole_frames import HEIGHT, WIDTH, WholeFrameSettings
from dgn_tf.template import load_template

SMALL = (8, 8)
INTRINSICS = np.float32([[300, 300, 160, 120]])


@pytest.fixture(scope="module")
def small():
    tf.keras.utils.set_random_seed(4)
    network = Localiser(SMALL)
    network(network.example_inputs())
    return network


def frames(seed=0):
    rng = np.random.default_rng(seed)
    frame = rng.uniform(400, 900, [1, 240, 320]).astype(np.float32)
    return np.where(rng.random(frame.shape) < 0.3, 0, frame).astype(np.float32)


def test_a_folder_gives_the_network_back(small, tmp_path):
    save_localiser(small, tmp_path / "best", "--seed=4\n", {"step": 7})
    again = load_localiser(tmp_path / "best")
    expected, actual = small.locate(frames(), INTRINSICS), again.locate(frames(), INTRINSICS)
    for name, value in expected.items():
        np.testing.assert_array_equal(value, actual[name])
    assert json.loads((tmp_path / "best" / "config.json").read_text())["step"] == 7


def test_folders_that_are_none_are_refused_by_name(small, tmp_path):
    with pytest.raises(InputError, match=f"--localiser={tmp_path} holds no config.json"):
        load_localiser(tmp_path)
    save_localiser(small, tmp_path)
    (tmp_path / "weights.h5").write_bytes(b"no weights")
    with pytest.raises(InputError, match="weights.h5 is not the file that its config.json tells"):
        load_localiser(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    del described["weights_sha256"]  # a folder from before there was one
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(InputError, match="--localiser: .*weights.h5 does not fit"):
        load_localiser(tmp_path)
    (tmp_path / "config.json").write_text('{"format": 1, "kind": "hand"}')
    with pytest.raises(InputError, match="config.json is not a localiser's description"):
        load_localiser(tmp_path)


def test_the_frozen_finder_agrees_with_the_network(small):
    finder = NetworkFinder(small)
    graph = tf.function(
        lambda depth, camera: finder(depth, camera, 2),
        [tf.TensorSpec([None, None, None]), tf.TensorSpec([None, 4])],
    )
    expected = small.locate(frames(), INTRINSICS, 2)
    for name, value in graph(frames(), INTRINSICS).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-3, atol=1e-2)


def test_blobs_are_a_finder():
    assert isinstance(load_finder("blob"), BlobFinder)
    v, u = np.mgrid[:240, :320]
    disc = np.where((u - 160) ** 2 + (v - 120) ** 2 < 40**2, 550, 0).astype(np.float32)
    found = BlobFinder()(disc[None], INTRINSICS, 2)
    np.testing.assert_allclose(found["centre"][0, 0], [0, 0, 550], atol=4)
    np.testing.assert_array_equal(found["score"], [[1, 0]])


def test_figures_count_what_they_say():
    results = {
        "has_hand": np.array([True, True, True, False, False]),
        "error": np.array([10.0, 50.0, 500.0, np.inf, np.inf]),
        "found": np.array([True, True, False, True, False]),
        "side_right": np.array([True, False, True, False, True]),
    }
    figures = training.figures(results)
    assert figures == pytest.approx(
        {
            "capped_mm": 70.0,
            "median_mm": 50.0,
            "within_30": 1 / 3,
            "within_60": 2 / 3,
            "missed": 1 / 3,
            "side": 0.5,
            "false_alarms": 0.5,
        }
    )


def sided_blobs(depth, intrinsics):
    found = BlobFinder()(depth, intrinsics)
    return {**found, "left": 0.5 * found["score"]}


def test_the_shipped_localiser_finds_hands_in_frames_of_its_validation_split():
    """Better than the blobs it replaces; how much is in its card."""
    batches = training.validation_frames(load_template(), 60)
    network = training.evaluate(tf.function(load_localiser().locate), batches)
    blobs = training.evaluate(tf.function(sided_blobs), batches)
    assert network["capped_mm"] < 0.7 * blobs["capped_mm"]
    assert network["within_60"] > blobs["within_60"]


def run(folder, *arguments):
    from dgn_tf import train_localiser

    flags.FLAGS.unparse_flags()
    small = ("--batch_size=2", "--steps_per_epoch=2", "--validation_frames=2", "--warmup_steps=1")
    flags.FLAGS(["train_localiser", f"--output_dir={folder}", *small, *arguments])
    train_localiser.main([])


@pytest.mark.long  # its small form: test_train.py, a run that was stopped and goes on
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    run(tmp_path / "whole", "--steps=4", "--decay_start=1")
    run(tmp_path / "parts", "--steps=2", "--decay_start=4")
    run(tmp_path / "parts", "--steps=4", "--decay_start=4")
    run(tmp_path / "straight", "--steps=4", "--decay_start=4")
    read = {
        name: load_localiser(tmp_path / name / "last").get_weights()
        for name in ("whole", "parts", "straight")
    }
    for one, other in zip(read["parts"], read["straight"], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert any(
        (one != other).any() for one, other in zip(read["whole"], read["straight"], strict=True)
    )
    with pytest.raises(InputError, match="other flags.*--seed was 1, is 2"):
        run(tmp_path / "parts", "--steps=4", "--seed=2")


def test_training_data_does_not_depend_on_where_it_begins():
    template = load_template()
    first = list(training.training_data(template, 1, 2, 0).take(2))[1]
    again = next(iter(training.training_data(template, 1, 2, 1)))
    assert first["depth"].shape == (2, HEIGHT, WIDTH)
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
    assert sum(WholeFrameSettings().body_shares) == pytest.approx(1)


def test_the_optimiser_and_the_first_weights_are_those_of_the_flags(tmp_path, monkeypatch):
    from dgn_tf.template import DEFAULT_TEMPLATE_PATH
    from dgn_tf.training import schedule

    class Stopped(Exception):
        pass

    given, optimizer = [], schedule.averaging_optimizer

    def stop(*_):
        raise Stopped

    def made(name, rate, decay, momentum):
        given.append((name, float(rate(20)), decay, momentum))
        return optimizer(name, rate, decay, momentum)

    class Model(training.LocaliserTraining):
        def __init__(self, network, clip_norm):
            super().__init__(network, clip_norm)
            given.append((clip_norm, network.get_weights()))

    monkeypatch.setattr(schedule, "averaging_optimizer", made)
    monkeypatch.setattr(training, "LocaliserTraining", Model)
    monkeypatch.setattr(training, "validation_frames", stop)
    whole = Localiser()
    whole(whole.example_inputs())
    save_localiser(whole, tmp_path / "first")
    template = tmp_path / "hand.npz"
    template.write_bytes(DEFAULT_TEMPLATE_PATH.read_bytes())
    with pytest.raises(Stopped):
        run(
            tmp_path / "run",
            "--steps=40",
            "--optimizer=muon",
            "--learning_rate=0.25",
            "--weight_decay=0.5",
            "--ema_momentum=0.75",
            "--clip_norm=3",
            f"--init_weights={tmp_path / 'first'}",
            f"--template={template}",
        )
    assert given[0] == ("muon", pytest.approx(0.25, rel=0.5), 0.5, 0.75)
    assert given[1][0] == 3
    for got, wanted in zip(given[1][1], whole.get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)
    with pytest.raises(InputError, match="none.npz"):
        run(tmp_path / "never", "--steps=40", f"--template={tmp_path / 'none.npz'}")
