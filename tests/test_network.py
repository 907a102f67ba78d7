"""DualGridNet and its folder on disk."""

import dataclasses
import json
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.geometry import camera as crop_geometry
from dgn_tf.geometry import upright
from dgn_tf.model_folder import load_network, load_weights, save_model_folder
from dgn_tf.network import DualGridNet, rest_coordinate_map
from dgn_tf.network_config import PRESETS, NetworkConfig
from tests.tiny_template import tiny_template

SMALL = NetworkConfig(image_size=16, image_channels=(8, 8), mesh_channels=(8, 8), features=4)


def network(config=SMALL, template=None):
    tf.keras.utils.set_random_seed(3)
    net = DualGridNet(template or tiny_template(), config)
    net(net.example_inputs())
    return net


def crops(net, count=2, seed=0):
    rng = np.random.default_rng(seed)
    batch = net.example_inputs(count)
    shape = batch["depth"].shape
    depth = np.where(rng.random(shape) < 0.5, rng.uniform(500, 700, shape), 0)
    return batch | {"depth": tf.constant(depth, tf.float32)}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_eager_graph_and_xla_agree_at_unknown_batch_size(batch_size):
    net = network()
    spec = [{k: tf.TensorSpec([None, *v.shape[1:]], v.dtype) for k, v in crops(net).items()}]
    batch = crops(net, batch_size)
    eager = net(batch)
    for jit in (False, True):
        graph = tf.function(net, input_signature=spec, jit_compile=jit)(batch)
        assert graph.keys() == eager.keys()
        for name, value in eager.items():
            np.testing.assert_allclose(graph[name], value, rtol=1e-4, atol=2e-2, err_msg=name)


def test_outputs_are_those_of_the_docstring():
    net = network()
    template = net.template
    outputs = net(crops(net))
    v, p, g = len(template.vertices), len(template.parents), template.grid_size
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    wanted = {
        "mesh_coords": (2, 16, 16, 2),
        "valid": (2, 16, 16),
        "coordinate_map": (2, g, g, 3 * template.num_layers),
        "vertices_sampled": (2, v, 3),
        "transforms": (2, p, 4, 4),
        "vertices": (2, v, 3),
        "confidence": (2, v),
        "keypoints": (2, len(template.keypoints), 3),
        "joint_angles": (2, p, 3),
    }
    assert wanted.items() <= shapes.items()
    confidence = outputs["confidence"].numpy()
    assert confidence.min() >= 0 and confidence.max() <= 1


def test_background_pixels_do_not_reach_the_mesh():
    """Neither missing pixels nor what lies outside the cube: both are background."""
    net = network()
    batch = crops(net)
    far = tf.where(batch["depth"] == 0, 5000.0, batch["depth"])
    for name, value in net(batch).items():
        np.testing.assert_allclose(
            net(batch | {"depth": far})[name], value, atol=1e-4, err_msg=name
        )


def test_moving_hand_and_cube_along_the_ray_of_the_crop_moves_the_mesh():
    """The network sees cube units alone; shifting the crop's window changes nothing it sees."""
    net = network(dataclasses.replace(SMALL, upright=False))
    batch = crops(net)
    shift = tf.constant([40.0, -25.0, 0.0])
    moved = dict(batch, centre=batch["centre"] + shift)
    # The same pixels seen about a principal point that moved with the centre.
    offset = batch["intrinsics"][:, :2] * shift[:2] / batch["centre"][:, 2:]
    moved["intrinsics"] = tf.concat(
        [batch["intrinsics"][:, :2], batch["intrinsics"][:, 2:] - offset], axis=-1
    )
    # x = (u - cx) z / f depends on z: only pixels at the centre's depth move exactly.
    flat = tf.where(batch["depth"] > 0, batch["centre"][:, 2, None, None], 0.0)
    before, after = (net(b | {"depth": flat}) for b in (batch, moved))
    np.testing.assert_allclose(after["vertices"], before["vertices"] + shift, atol=2e-2)


def test_turning_the_camera_about_its_axis_turns_the_outputs():
    """Given the palm's direction, nothing else depends on how the camera is held."""
    net = network()
    batch = crops(net)
    direction = tf.constant([[0.31, 0.74], [-0.83, 0.17]])

    def outputs(depth, direction):
        with mock.patch.object(net, "palm_direction", lambda *_, **__: direction):
            return net(batch | {"depth": depth})

    before = outputs(batch["depth"], direction)
    quarter = np.float32([[0, -1, 0], [1, 0, 0], [0, 0, 1]])  # x to y: clockwise in the image
    after = outputs(
        tf.image.rot90(batch["depth"][..., None], 3)[..., 0], direction @ quarter[:2, :2].T
    )
    for name in ("vertices", "vertices_sampled", "keypoints"):
        np.testing.assert_allclose(after[name], before[name] @ quarter.T, atol=2e-2)
    coords = tf.image.rot90(before["mesh_coords"], 3)
    np.testing.assert_allclose(after["mesh_coords"], coords, atol=1e-3)


def test_turning_the_camera_about_its_place_turns_the_outputs():
    """A hand at the image's side is seen as the same hand straight ahead."""
    net = network()
    batch = crops(net)
    centre = tf.constant([[250.0, -180.0, 520.0]] * 2)
    view = upright.view_from_camera(centre)
    pixels = crop_geometry.normalise_crop(
        batch["depth"], batch["intrinsics"], batch["centre"], batch["cube"]
    )
    ahead, _ = net.canonical_pixels(pixels, tf.constant([[0.0, 0.0, 600.0]] * 2))
    aside = tf.concat(
        [upright.rotate(pixels[..., :3], tf.linalg.matrix_transpose(view)), pixels[..., 3:]], -1
    )
    # Background keeps its own place: (0, 0, 1), wherever the hand is.
    aside = tf.where(pixels[..., 3:] > 0.5, aside, pixels)
    seen, _ = net.canonical_pixels(aside, centre)
    np.testing.assert_allclose(seen[..., :4], ahead[..., :4], atol=1e-4)


def test_upright_view_turns_what_the_direction_points_at_up():
    net = network()
    pixels = crop_geometry.normalise_crop(
        *(
            tf.constant(value, tf.float32)
            for value in (
                np.where(np.arange(16) == 12, 600.0, 0)[None, None].repeat(16, 1),  # a bar, right
                [[128.0, 128, 7.5, 7.5]],
                [[0.0, 0, 600]],
                [300.0],
            )
        )
    )
    with mock.patch.object(net, "palm_direction", lambda *_, **__: tf.constant([[1.0, 0.0]])):
        seen, view = net.canonical_pixels(pixels, tf.constant([[0.0, 0.0, 600.0]]))
    mask = seen[0, ..., 3].numpy()
    assert mask[3].all() and mask.sum() == 16  # row 15 - 12: above the middle
    y = seen[0, 3, :, 1].numpy()
    np.testing.assert_allclose(y, -(12 - 7.5) / 128 * 600 / 150, atol=1e-5)
    np.testing.assert_allclose(
        view.camera_from_view[0] @ [[0.0], [-1], [0]], [[1], [0], [0]], atol=1e-5
    )


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_give_finite_outputs_and_gradients_also_without_a_hand_pixel(preset):
    sizes = {
        f: getattr(SMALL, f) for f in ("image_size", "image_channels", "mesh_channels", "features")
    }
    net = network(dataclasses.replace(PRESETS[preset], **sizes))
    batch = crops(net)
    empty = batch | {"depth": tf.zeros_like(batch["depth"])}
    for inputs in (batch, empty):
        with tf.GradientTape() as tape:
            outputs = net(inputs, training=True)
            loss = tf.reduce_mean(outputs["vertices"] ** 2) + tf.reduce_mean(outputs["mesh_coords"])
        for gradient in tape.gradient(loss, net.trainable_variables):
            assert gradient is None or np.isfinite(gradient).all()
        for name, value in outputs.items():
            assert np.isfinite(np.asarray(value, np.float32)).all(), name


def test_refinement_gives_back_a_posed_template():
    net = network()
    truth = net.template.vertices[None] @ np.float32([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]) + 7
    refined = net.refine(tf.constant(truth, tf.float32))
    np.testing.assert_allclose(refined["vertices"], truth, atol=1e-2)


def test_keras_config_round_trip():
    net = network()
    again = DualGridNet.from_config(json.loads(json.dumps(net.get_config())))
    again(again.example_inputs())
    again.set_weights(net.get_weights())
    batch = crops(net)
    np.testing.assert_array_equal(again(batch)["vertices"], net(batch)["vertices"])


def test_model_folder_round_trip(tmp_path):
    net = network()
    save_model_folder(net, tmp_path / "model", "--seed=1\n", {"step": 5})
    again = load_network(tmp_path / "model")
    batch = crops(net)
    np.testing.assert_array_equal(again(batch)["vertices"], net(batch)["vertices"])
    assert {p.name for p in (tmp_path / "model").iterdir()} == {
        "weights.h5",
        "config.json",
        "template.npz",
        "flags.txt",
    }


def test_a_folder_from_before_the_upright_view_still_loads(tmp_path):
    net = network(dataclasses.replace(SMALL, upright=False))
    save_model_folder(net, tmp_path)
    file = tmp_path / "config.json"
    description = json.loads(file.read_text())
    del description["network"]["upright"]
    file.write_text(json.dumps(description))
    batch = crops(net)
    np.testing.assert_array_equal(load_network(tmp_path)(batch)["vertices"], net(batch)["vertices"])


def test_damaged_model_folders_are_refused_by_file(tmp_path):
    folder = tmp_path / "model"
    with pytest.raises(InputError, match="is no model"):
        load_network(folder)
    save_model_folder(network(), folder)
    other = network(dataclasses.replace(SMALL, features=6))
    with pytest.raises(InputError, match="weights.h5 does not fit"):
        load_weights(other, folder / "weights.h5")
    weights = (folder / "weights.h5").read_bytes()
    (folder / "weights.h5").write_bytes(weights[:500])
    with pytest.raises(InputError, match="weights.h5"):
        load_network(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json: not a model's description"):
        load_network(folder)


def test_rest_map_samples_to_the_template_at_rest():
    template = tiny_template()
    net = network(template=template)
    sampled = net.sampling(tf.constant(rest_coordinate_map(template, 8, 0.5)[None]))[0].numpy()
    low, high = template.vertices.min(axis=0), template.vertices.max(axis=0)
    rest = (template.vertices - (low + high) / 2) / ((high - low).max() / 2)
    spread = np.linalg.norm(rest - rest.mean(axis=0), axis=1).mean()
    assert np.linalg.norm(sampled - rest, axis=1).mean() < 0.3 * spread


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="not a multiple of 16"):
        NetworkConfig(image_size=40)
