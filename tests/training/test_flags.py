"""Each flag of the trainer reaches what it is about."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from dgn_tf import command_line
from dgn_tf.config import EnergyWeights, Loss, Train
from dgn_tf.errors import InputError
from dgn_tf.network_config import PRESETS
from dgn_tf.setting import settings_of
from dgn_tf.training.building import build_model, network_config
from tests.tiny_template import tiny_template

SMALL = ["--image_channels=8,8", "--mesh_channels=8,8", "--features=4"]


@pytest.fixture
def parsed(tmp_path, monkeypatch):
    """Settings of a command line, as the trainer reads it where there is a folder `views`."""
    from dgn_tf import train

    monkeypatch.chdir(tmp_path)
    (tmp_path / "views").mkdir()

    def read(*arguments):
        flags.FLAGS.unparse_flags()
        flags.FLAGS(["train", *arguments])
        return command_line.from_flags(Train)

    yield lambda *arguments: train.checked(read("--output_dir=x", *arguments))
    flags.FLAGS.unparse_flags()


def test_flags_of_the_network(parsed):
    wanted = {
        "blocks": 2,
        "features": 5,
        "norm": "batch",
        "mesh_norm": "none",
        "activation": "leaky_relu",
        "scale": "symmetric",
        "extension_stride": 1,
    }
    given = network_config(parsed(*(f"--{name}={value}" for name, value in wanted.items())))
    assert given == dataclasses.replace(PRESETS["default"], **wanted)
    paper = network_config(parsed("--network=paper", "--image_channels=8,16,24"))
    assert paper == dataclasses.replace(PRESETS["paper"], image_channels=(8, 16, 24))


def test_a_network_starts_from_that_of_its_first_weights(parsed, tmp_path):
    own = dataclasses.replace(PRESETS["paper"], image_channels=(8, 16), activation="relu")
    description = {"format": 1, "network": dataclasses.asdict(own)}
    (tmp_path / "config.json").write_text(json.dumps(description))
    for weights in (tmp_path, tmp_path / "weights.h5"):
        (tmp_path / "weights.h5").touch()
        assert network_config(parsed(f"--init_weights={weights}")) == own
    given = network_config(parsed(f"--init_weights={tmp_path}", "--norm=none", "--blocks=2"))
    assert given == dataclasses.replace(own, norm="none", blocks=2)
    paper = parsed(f"--init_weights={tmp_path}", "--network=paper")
    assert network_config(paper) == PRESETS["paper"]
    (tmp_path / "config.json").write_text('{"format": 1, "network": {"widths": 3}}')
    with pytest.raises(InputError, match="config.json: .*widths.*; it is of another version"):
        network_config(parsed(f"--init_weights={tmp_path}"))


def test_weights_of_all_terms_and_the_optimiser(parsed):
    """Distinct primes: a weight that went to another term would be seen."""
    primes = iter(
        [
            2.0,
            3.0,
            5.0,
            7.0,
            11.0,
            13.0,
            17.0,
            19.0,
            23.0,
            29.0,
            31.0,
            37.0,
            41.0,
            43.0,
            53.0,
            59.0,
            61.0,
            67.0,
        ]
    )
    names = [f.name for topic in (Loss, EnergyWeights) for f, _ in settings_of(topic)]
    w = {name: next(primes) for name in names if name != "loss"} | {"energy_weight": 47.0}
    settings = parsed(
        *SMALL,
        *(f"--{name}={value}" for name, value in w.items()),
        "--unlabelled_records=views",
        "--loss=mse",
        "--weight_decay=0.25",
        "--ema_momentum=0.75",
        "--clip_norm=3",
        "--learning_rate=0.5",
        "--warmup_steps=0",
        "--decay_start=4000",
    )
    model = build_model(tiny_template(), settings)
    energy, priors, views = (w["energy_weight"] * w.get(x, 1.0) for x in ("", "lambda1", "lambda2"))
    assert model.weights_of_terms() == {
        "correspondence": w["correspondence_weight"],
        "vertices_refined": w["alpha"],
        "vertices_sampled": w["vertices_sampled_weight"],
        "keypoints": w["keypoint_weight"],
        "layer": w["layer_weight"],
        "palm_direction": Loss.palm_direction_weight,
        "real_keypoints": w["real_keypoint_weight"],
        "icp": energy,
        "lifting": energy * w["omega"],
        "part_icp": energy * w["part_icp"],
        "free_space": energy * w["free_space"],
        "collision": priors * w["collision"],
        "arap": priors * w["kappa1"],
        "offset": priors * w["kappa2"],
        "vertex": views * w["vertex"],
        "other_icp": views * w["eta1"],
        "other_lifting": views * w["eta2"],
        "other_free_space": views * w["free_space"],
    }
    assert model.loss_config.loss == "mse" and model.clip_norm == 3
    optimizer = model.optimizer
    assert (optimizer.weight_decay, optimizer.ema_momentum) == (0.25, 0.75)
    assert float(optimizer.learning_rate) == pytest.approx(0.5)


def test_what_smoke_shortens_and_the_rest_as_it_was_given(parsed):
    smoke = parsed("--smoke", "--seed=9", "--steps=100000", "--worker_wait_s=7")
    assert (smoke.seed, smoke.worker_wait_s) == (9, 7.0)
    assert smoke.steps == 12 and smoke.steps % smoke.steps_per_epoch == 0


def test_samplers_of_the_first_steps_of_the_others_and_of_validation(parsed, tmp_path, monkeypatch):
    from dgn_tf.training import datasets

    files = {}
    for number, name in enumerate(("synthesis", "easy", "validation")):
        files[name] = tmp_path / f"{name}.json"
        files[name].write_text(json.dumps({"size": 16, "salt": number + 1}))
    settings = parsed(
        *SMALL,
        "--easy_steps=3",
        "--validation_frames=50",
        f"--synthesis_config={files['synthesis']}",
        f"--easy_config={files['easy']}",
        f"--validation_config={files['validation']}",
    )

    # A dataset of (salt of its sampler, number of its batch).
    def online(_, config, batching, **__):
        batches = tf.data.Dataset.range(batching.start_step, 9)
        return batches.map(lambda step: (config.salt, step))

    monkeypatch.setattr("dgn_tf.synthesis.online.online_dataset", online)
    found = datasets.synthetic_data(tiny_template(), settings, 2, 1)
    salts = [(int(salt), int(step)) for salt, step in found]
    assert salts == [(2, 1), (2, 2), *((1, step) for step in range(3, 9))]

    asked = []

    def synthesize(_, config, seed, first, count):
        asked.append((config.salt, first, count))
        return {}

    monkeypatch.setattr("dgn_tf.synthesis.batches.synthesize_batch", synthesize)
    monkeypatch.setattr("dgn_tf.records.batches.targets", lambda example, _: example)
    datasets.validation_batches(tiny_template(), settings)
    assert asked == [(3, 0, 48), (3, 48, 2)]


def test_how_much_of_the_unlabelled_records_and_which_split(parsed):
    from dgn_tf.training.datasets import unlabelled_views

    settings = parsed(
        *SMALL,
        "--unlabelled_records=views",
        "--unlabelled_fraction=0.25",
        "--fit_test_split",
        "--real_cameras=1,3",
        "--held_out=0.3",
        "--nomulti_view",
    )
    views = unlabelled_views(settings, 16)
    assert (views.fraction, views.test_split) == (0.25, True)
    assert (views.cameras, views.held_out, views.multi_view) == ((1, 3), 0.3, False)
    with pytest.raises(InputError, match="--unlabelled_fraction=0 leaves nothing"):
        parsed(*SMALL, "--unlabelled_records=views", "--unlabelled_fraction=0")


def test_the_share_of_labels_that_is_read(parsed):
    from dgn_tf.training.datasets import real_frames

    settings = parsed(*SMALL, "--real_records=views", "--labelled_fraction=0.25", "--held_out=0.3")
    frames = real_frames(settings, 16)
    assert (frames.labelled_fraction, frames.held_out) == (0.25, 0.3)


def test_the_solver_of_the_similarity_and_the_embedding_of_the_template(parsed):
    from dgn_tf import train

    settings = parsed(*SMALL, "--similarity_solver=horn", "--embedding=atlas")
    assert build_model(tiny_template(), settings).network.similarity_fit.solver == "horn"
    assert train._template(settings).embedding == "atlas"
    assert train._template(parsed(*SMALL)).embedding == "layered"


class Stopped(Exception):
    """Where a run would begin to train."""


def begun(settings, monkeypatch, shut=0):
    """What `train` does up to its first step: what it was given back, and its callbacks."""
    from dgn_tf import train
    from dgn_tf.training import callbacks, datasets, run_folder, shut_channels

    told = {}

    def revive(network, _):
        told["revived"] = network
        return shut

    def stop(*_, **__):
        raise Stopped

    watch = shut_channels.WatchShutChannels

    def watched(batches, stop):
        told["stop_when_shut"] = stop
        return watch(batches, stop)

    monkeypatch.setattr(shut_channels, "revive", revive)
    monkeypatch.setattr(shut_channels, "WatchShutChannels", watched)
    monkeypatch.setattr(datasets, "validation_batches", lambda *_: [None])
    monkeypatch.setattr(callbacks, "Validate", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "training_data", stop)
    monkeypatch.setattr(run_folder, "commit", lambda: "none")
    with pytest.raises(Stopped):
        train.train(settings)
    return told


def test_weights_of_another_hand_channels_given_back_and_when_a_run_ends(
    parsed, tmp_path, monkeypatch
):
    from dgn_tf.model_folder import save_model_folder
    from dgn_tf.network import DualGridNet

    given = DualGridNet(tiny_template(), network_config(parsed(*SMALL)))
    given(given.example_inputs())
    save_model_folder(given, tmp_path / "model")
    arguments = [*SMALL, "--nosummaries", f"--init_weights={tmp_path / 'model'}"]

    def settings(name, *more):
        return dataclasses.replace(parsed(*arguments, *more), output_dir=str(tmp_path / name))

    with pytest.raises(InputError, match="--init_other_template"):
        begun(settings("a"), monkeypatch)
    told = begun(settings("b", "--init_other_template"), monkeypatch)
    assert told["stop_when_shut"] is True
    for got, wanted in zip(told["revived"].weights, given.weights, strict=True):
        np.testing.assert_array_equal(got, wanted)
    told = begun(
        settings("c", "--init_other_template", "--norevive", "--nostop_when_shut"), monkeypatch
    )
    assert told == {"stop_when_shut": False}
