"""Random streams of the kernels: distributions, and keys that do not run into each other."""

import numpy as np

from dgn_tf.synthesis import randomness as rng


def draw(function, *arguments, count=20000, key=(1, 2, 3, 4)):
    state = rng.stream(*key)
    return np.array([function(state, *arguments) for _ in range(count)])


def test_uniform_covers_its_range_evenly():
    values = draw(rng.uniform, -2.0, 6.0)
    assert values.min() >= -2.0 and values.max() < 6.0
    counts = np.histogram(values, bins=16, range=(-2, 6))[0] / len(values)
    np.testing.assert_allclose(counts, 1 / 16, atol=0.008)


def test_normals_have_mean_0_and_deviation_1():
    for function in (rng.normal, rng.quick_normal):
        values = draw(function)
        assert abs(values.mean()) < 0.03 and abs(values.std() - 1) < 0.03
        np.testing.assert_allclose((np.abs(values) < 1).mean(), 0.68, atol=0.02)


def test_choice_follows_its_shares():
    values = draw(rng.choice, (1.0, 0.0, 3.0))
    np.testing.assert_allclose(
        np.bincount(values, minlength=3) / len(values), [0.25, 0, 0.75], atol=0.02
    )


def test_rotations_are_proper_and_uniform():
    state = rng.stream(1, 1, 1, 1)
    total = np.zeros((3, 3))
    rotation = np.empty((3, 3))
    for _ in range(4000):
        rng.random_rotation(state, rotation)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) > 0
        total += rotation
    np.testing.assert_allclose(total / 4000, 0.0, atol=0.05)


def test_neighbouring_keys_give_unrelated_streams():
    streams = np.stack(
        [
            draw(rng.uniform, 0.0, 1.0, count=500, key=key)
            for key in ((0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
        ]
    )
    correlation = np.corrcoef(streams) - np.eye(5)
    assert np.abs(correlation).max() < 0.2
