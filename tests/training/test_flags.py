"""Each flag of the trainer reaches what it is about."""

import dataclasses

import pytest
from absl import flags

from dgn_tf import command_line
from dgn_tf.config import EnergyWeights, Loss, Train
from dgn_tf.network_config import PRESETS
from dgn_tf.setting import settings_of
from dgn_tf.training.building import build_model, network_config
from tests.tiny_template import tiny_template

SMALL = ["--image_channels=8,8", "--mesh_channels=8,8", "--features=4"]


@pytest.fixture
def parsed():
    """Settings of a command line, as the trainer reads it."""
    from dgn_tf import train

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
        ]
    )
    names = [f.name for topic in (Loss, EnergyWeights) for f, _ in settings_of(topic)]
    w = {name: next(primes) for name in names if name != "loss"} | {"energy_weight": 47.0}
    settings = parsed(
        *SMALL,
        *(f"--{name}={value}" for name, value in w.items()),
        "--unlabelled_records=not read here",
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
