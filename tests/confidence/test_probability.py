import numpy as np
import pytest
import tensorflow as tf

from dgn_tf import model_folder
from dgn_tf.confidence import probability
from dgn_tf.confidence.fitting import Cases, fit, measure
from dgn_tf.confidence.probability import FEATURES, ConfidenceModel
from dgn_tf.errors import InputError
from dgn_tf.serving.saving import example_crops
from tests.exported_model import SIZE, network

PLACE = {name: number for number, name in enumerate(FEATURES)}


def outputs_and_inputs():
    inputs = {name: tf.constant(value) for name, value in example_crops(SIZE).items()}
    return dict(network()(inputs)), inputs


def test_features_say_how_far_behind_the_measured_surface_a_vertex_lies():
    outputs, inputs = outputs_and_inputs()
    depth = inputs["depth"].numpy()
    row, column = np.argwhere(depth[0] > 0)[40]
    fx, fy, cx, cy = inputs["intrinsics"].numpy()[0]
    z = depth[0, row, column]
    point = np.array([(column - cx) / fx, (row - cy) / fy, 1.0]) * z
    for shift, before, behind in ((8.0, 0.0, 0.8), (-5.0, 0.5, 0.0), (500.0, 0.0, 6.0)):
        moved = point * (1 + shift / z)  # along the ray
        outputs["vertices"] = tf.constant(
            np.tile(moved, [2, *outputs["vertices"].shape[1:2], 1]), tf.float32
        )
        seen = probability.features(outputs, inputs, outputs["occupancy"]).numpy()[0, 0]
        assert seen[PLACE["measured"]] == 1
        np.testing.assert_allclose(seen[PLACE["before"]], before, atol=1e-3)
        np.testing.assert_allclose(seen[PLACE["behind"]], behind, atol=1e-3)


def test_features_are_finite_without_any_depth():
    _, inputs = outputs_and_inputs()
    inputs["depth"] = tf.zeros_like(inputs["depth"])
    outputs = network()(inputs)
    seen = network().confidence_features(outputs, inputs).numpy()
    assert seen.shape == (2, outputs["vertices"].shape[1], len(FEATURES))
    assert np.isfinite(seen).all() and not seen[..., PLACE["measured"]].any()


def test_neighbours_of_a_key_point_are_its_nearest_vertices():
    template = network().template
    matrix = probability.keypoint_neighbours(template)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    for keypoint, row in zip(template.keypoints, matrix, strict=True):
        away = np.linalg.norm(template.vertices - keypoint, axis=1)
        assert away[row > 0].max() <= away[row == 0].min(initial=np.inf) + 1e-9


def cases(frames, points=6, keypoints=3, seed=0):
    """Points whose chance of being right is a known function of two features and the point."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=[frames, points, len(FEATURES)]).astype(np.float32)
    logits = 1.5 * features[..., 0] - 0.8 * features[..., 5] + np.linspace(-1, 1, points)
    chance = 1 / (1 + np.exp(-logits))
    right = rng.random(logits.shape) < chance
    found = Cases(features, rng.random(logits.shape), right, right[:, :keypoints])
    return found, chance


def test_the_fit_finds_the_chances_that_made_the_cases():
    known, _ = cases(3000)
    others, chance = cases(500, seed=1)
    neighbours = np.eye(3, 6, dtype=np.float32)  # each key point's vertex is its own
    fitted = fit(known, neighbours, "00")
    found = fitted(tf.constant(others.features), neighbours)
    assert np.abs(found["confidence"].numpy() - chance).mean() < 0.02
    assert np.abs(found["keypoint_confidence"].numpy() - chance[:, :3]).mean() < 0.04
    figures, curves = measure(fitted, others, neighbours)
    assert figures["vertices"]["calibration_error"] < 0.04
    assert figures["vertices"]["auc"] > 0.7 > figures["vertices, uncalibrated"]["auc"]
    assert curves["vertices"].shape[1] == 3


def some_calibration(sha256):
    template = network().template
    rng = np.random.default_rng(3)
    return ConfidenceModel(
        rng.normal(size=len(FEATURES)).astype(np.float32),
        rng.normal(size=len(template.vertices)).astype(np.float32),
        0.7,
        rng.normal(size=len(template.keypoints)).astype(np.float32),
        sha256,
    )


def test_a_model_folder_keeps_its_calibration_and_refuses_anothers(tmp_path):
    folder = tmp_path / "model"
    model_folder.save_model_folder(network(), folder)
    inputs = {name: tf.constant(value) for name, value in example_crops(SIZE).items()}
    raw = model_folder.load_network(folder)(inputs)
    own = some_calibration(model_folder.weights_sha256(folder))
    own.save(folder / model_folder.CONFIDENCE)
    model_folder.copy_model_folder(folder, tmp_path / "copy")
    loaded = model_folder.load_network(tmp_path / "copy")(inputs)
    expected = own(
        network().confidence_features(raw, inputs),
        probability.keypoint_neighbours(network().template),
    )
    for name, value in expected.items():
        np.testing.assert_allclose(loaded[name], value, atol=1e-4)
        assert np.abs(loaded[name] - raw[name]).max() > 0.05
    again = model_folder.load_network(folder, calibrated=False)(inputs)
    np.testing.assert_array_equal(again["confidence"], raw["confidence"])

    some_calibration("1234").save(folder / model_folder.CONFIDENCE)
    with pytest.raises(InputError, match="confidence.npz was fitted to other weights"):
        model_folder.load_network(folder)
    (folder / model_folder.CONFIDENCE).write_bytes(b"nothing")
    with pytest.raises(InputError, match="confidence.npz can't be read"):
        model_folder.load_network(folder)
    model_folder.save_model_folder(network(), folder)  # other weights: the old one goes
    assert not (folder / model_folder.CONFIDENCE).exists()


def test_a_calibration_of_another_hand_is_refused(tmp_path):
    some_calibration("12").save(tmp_path / "c.npz")
    with pytest.raises(InputError, match="of another hand"):
        ConfidenceModel.load(tmp_path / "c.npz", "12", 7, 36)


def test_without_a_calibration_key_points_take_their_neighbours_mean():
    outputs, _ = outputs_and_inputs()
    expected = outputs["confidence"].numpy() @ probability.keypoint_neighbours(network().template).T
    np.testing.assert_allclose(outputs["keypoint_confidence"], expected, atol=1e-5)


def texture(depth):
    depth = tf.constant(depth[np.newaxis], tf.float32)
    return [value.numpy()[0] for value in probability._texture(depth, tf.ones_like(depth))]


def test_texture_tells_noise_and_blurred_edges_from_clean_ones():
    columns = np.arange(64.0)
    smooth = np.tile(600 + 0.5 * columns, [64, 1])
    noise = np.random.default_rng(0).normal(0, 1.0, smooth.shape)
    step = np.where(columns < 32, 0, 60.0) + smooth
    # A window of five pixels across the same step: four slopes of 12 mm in place of the edge.
    blurred = np.clip((columns - 29) / 5, 0, 1) * 60 + smooth
    slopes, roughness = zip(*map(texture, (smooth, smooth + noise, step, blurred)), strict=True)
    # Second differences of white noise of deviation s have the mean magnitude sqrt(12 / pi) s.
    np.testing.assert_allclose(np.exp(roughness[1]) - 0.05, np.sqrt(12 / np.pi), rtol=0.05)
    assert np.exp(roughness[0]) - 0.05 < 1e-3
    assert slopes[0] == slopes[1] == slopes[2] == 0
    assert slopes[3] > 0.95  # all steps of an edge are slopes; one of the sum's denominators is 1
    assert texture(np.zeros([64, 64]))[0] == 0


def test_texture_ignores_what_was_not_measured():
    depth = np.full([16, 16], 600.0)
    depth[:, 5] = 0
    assert texture(depth)[0] == 0
    np.testing.assert_allclose(np.exp(texture(depth)[1]), 0.05, rtol=1e-4)


def test_files_from_before_the_features_of_texture_say_nothing_of_them(tmp_path):
    old = ConfidenceModel(
        np.arange(12.0), np.zeros(5, np.float32), 1.0, np.zeros(3, np.float32), weights_sha256="ab"
    )
    old.save(tmp_path / "confidence.npz")
    loaded = ConfidenceModel.load(tmp_path / "confidence.npz", "ab", vertices=5, keypoints=3)
    np.testing.assert_array_equal(loaded.weights, [*range(12), 0, 0])
    for count in (11, 13, 15):
        ConfidenceModel(np.zeros(count), old.bias, 1.0, old.keypoint_bias, "ab").save(
            tmp_path / "c.npz"
        )
        with pytest.raises(InputError, match="another hand or version"):
            ConfidenceModel.load(tmp_path / "c.npz", "ab", vertices=5, keypoints=3)
