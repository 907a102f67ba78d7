"""The equations as they read, against loops and against the fast forms."""

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf import reference
from dgn_tf.geometry.similarity import SOLVERS, fit_similarity
from dgn_tf.layers import Extension, Sampling, Skinning
from tests.tiny_template import tiny_template


def test_the_window_of_eq_2_is_the_loop_over_its_cells():
    coords = np.random.default_rng(2).uniform(-3, 18, [1, 20, 2]).astype(np.float32)
    weights = reference.window_weights(tf.constant(coords), 16, 8, 0.5).numpy()[0]
    for (x, y), found in zip(coords[0], weights, strict=True):
        expected = np.zeros([16, 16])
        for row in range(int(np.floor(y)) - 3, int(np.floor(y)) + 5):
            for column in range(int(np.floor(x)) - 3, int(np.floor(x)) + 5):
                if 0 <= row < 16 and 0 <= column < 16:
                    expected[row, column] = np.exp(-0.5 * ((row - y) ** 2 + (column - x) ** 2))
        np.testing.assert_allclose(found, (expected / expected.sum()).ravel(), atol=1e-5)


def test_eq_1_is_the_extension_layer():
    rng = np.random.default_rng(3)
    coords = rng.uniform(-2, 17, [2, 8, 8, 2]).astype(np.float32)
    features = rng.normal(size=[2, 8, 8, 5]).astype(np.float32)
    mask = (rng.random([2, 8, 8]) < 0.6).astype(np.float32)
    flat = (tf.reshape(v, [2, 64, -1]) for v in (coords, features))
    sums, occupancy = reference.extend(*flat, tf.reshape(mask, [2, 64]), 16, 8, 0.5)
    fast = Extension(16, 8, 0.5, normalise=False)(coords, features, mask)
    np.testing.assert_allclose(fast[..., :-1], sums, atol=1e-4)
    np.testing.assert_allclose(fast[..., -1:], occupancy, atol=1e-4)


def test_eq_2_is_the_sampling_layer():
    template = tiny_template("mds")
    grid = (
        np.random.default_rng(4)
        .normal(size=[2, template.grid_size, template.grid_size, 3])
        .astype(np.float32)
    )
    sampled = reference.sample(grid, np.float32(template.mesh_coords), 8, 0.5)
    np.testing.assert_allclose(Sampling(template, 8, 0.5)(grid), sampled, atol=1e-4)


def posed(template, seed=5):
    """Vertices of turned and scaled parts, mm, [2, V, 3], with noise."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(scale=2.0, size=[2, *template.vertices.shape])
    turn, _ = np.linalg.qr(rng.normal(size=[2, 3, 3]))
    turn *= np.sign(np.linalg.det(turn))[:, None, None]
    return np.float32(1.1 * template.vertices @ turn.transpose(0, 2, 1) + [0, 0, 500] + noise)


@pytest.mark.parametrize("solver", SOLVERS)
def test_eq_3_is_both_solvers(solver):
    template = tiny_template()
    rest, weights = template.vertices, template.skinning_weights
    expected = reference.fit_similarity(posed(template), rest, weights)
    found = fit_similarity(posed(template), rest, weights, "umeyama", solver)
    np.testing.assert_allclose(found[..., :3, :3], expected[..., :3, :3], atol=1e-4)
    np.testing.assert_allclose(found[..., :3, 3], expected[..., :3, 3], atol=0.02)


def test_skinning_is_that_of_tensorflow_graphics():
    template = tiny_template()
    transforms = reference.fit_similarity(
        posed(template), template.vertices, template.skinning_weights
    )
    expected = reference.skin(transforms, template.vertices, template.skinning_weights)
    np.testing.assert_allclose(Skinning(template)(transforms), expected, atol=1e-3)
