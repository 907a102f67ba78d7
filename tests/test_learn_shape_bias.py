"""`python -m dgn_tf.learn_shape_bias`."""

import json

import numpy as np
from absl import flags

from dgn_tf import learn_shape_bias
from dgn_tf.hand_fit.user_shape import load_bias
from dgn_tf.model_folder import save_model_folder
from dgn_tf.network import DualGridNet
from dgn_tf.network_config import NetworkConfig
from dgn_tf.template import load_template

SIZE = 32


def real_hand():
    """An untrained network on the template that ships."""
    config = NetworkConfig(image_size=SIZE, image_channels=(8, 8), mesh_channels=(8,), features=4)
    model = DualGridNet(load_template(), config)
    model(model.example_inputs())
    return model


def test_a_learnt_bias_is_found_in_the_model_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("dgn_tf.hand_fit.user_shape._MIN_PIXELS", 0)  # it sees little of a hand
    model = real_hand()  # synthesis wants five fingers
    save_model_folder(model, tmp_path / "model")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"size": SIZE}))
    arguments = [f"--weights={tmp_path}/model", f"--config={config}", "--users=8", "--frames=8"]
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["learn_shape_bias", *arguments, "--steps=1"])
    learn_shape_bias.main([])
    bias = load_bias(tmp_path / "model", model.template)
    assert bias.users == 8 and bias.frames == 8 and np.isfinite(bias.matrix).all()
    save_model_folder(model, tmp_path / "model")  # new weights, no bias known
    assert load_bias(tmp_path / "model", model.template) is None


def test_seed_and_output_are_those_of_the_flags(tmp_path, monkeypatch):
    from dgn_tf.hand_fit import synthetic_users
    from dgn_tf.hand_fit.shapes import shapes_of
    from dgn_tf.hand_fit.user_shape import ShapeBias
    from dgn_tf.model_folder import weights_sha256

    model = real_hand()
    save_model_folder(model, tmp_path / "model")
    names, asked = shapes_of(model.template).names, []

    def fitted(network, config, seeds, frames, steps):
        asked.append((list(seeds), frames, steps))
        rng = np.random.default_rng(0)
        return ((rng.normal(size=len(names)), rng.normal(size=len(names))) for _ in seeds)

    monkeypatch.setattr(synthetic_users, "fitted_users", fitted)
    output = tmp_path / "bias.npz"
    flags.FLAGS.unparse_flags()
    arguments = [f"--weights={tmp_path}/model", "--users=8", "--frames=9", "--steps=2", "--seed=7"]
    flags.FLAGS(["learn_shape_bias", *arguments, f"--output={output}"])
    learn_shape_bias.main([])
    assert asked == [(list(range(7, 15)), 9, 2)]
    assert load_bias(tmp_path / "model", model.template) is None
    assert ShapeBias.load(output, names, weights_sha256(tmp_path / "model")).users == 8
