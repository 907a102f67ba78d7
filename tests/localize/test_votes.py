import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.localize.raster import APART_MM, COLUMNS, ROWS, best_hands

FIRST, SECOND = (50.0, -20.0, 600.0), (-200.0, 10.0, 700.0)


def outputs(*hands, spread=0.0, seed=0):
    """Blocks of hands, each (centre, number of blocks, hand logit, left logit)."""
    rng = np.random.default_rng(seed)
    values = {
        "hand": np.full([1, ROWS, COLUMNS], -8.0),
        "left": np.zeros([1, ROWS, COLUMNS]),
        "offset": np.zeros([1, ROWS, COLUMNS, 3]),
        "pixels": np.full([1, ROWS, COLUMNS], 16.0),
        "point": rng.uniform([-400, -300, 500], [400, 300, 1500], [1, ROWS, COLUMNS, 3]),
    }
    for number, (centre, blocks, hand, left) in enumerate(hands):
        place = (0, 4 + 8 * number, slice(0, blocks))
        values["hand"][place], values["left"][place] = hand, left
        noise = spread * rng.normal(size=[blocks, 3])
        values["offset"][place] = centre + noise - values["point"][place]
    return {name: tf.constant(value, tf.float32) for name, value in values.items()}


def best(*hands, count=1, **kwargs):
    found = best_hands(outputs(*hands, **kwargs), count)
    return {name: value.numpy()[0] for name, value in found.items()}


def test_blocks_that_agree_give_their_place_and_side():
    found = best((FIRST, 12, 3.0, 4.0), spread=8.0)
    np.testing.assert_allclose(found["centre"][0], FIRST, atol=6)
    assert found["score"][0] == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-5)
    assert found["left"][0] == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-5)


def test_the_hand_with_more_votes_comes_first_and_the_second_lies_apart():
    found = best((SECOND, 6, 3.0, -3.0), (FIRST, 14, 3.0, 3.0), count=2)
    np.testing.assert_allclose(found["centre"], [FIRST, SECOND], atol=0.1)
    assert np.linalg.norm(found["centre"][0] - found["centre"][1]) > APART_MM


def test_nothing_gives_a_finite_place_and_no_score():
    found = best(count=2)
    assert np.isfinite(found["centre"]).all() and (found["centre"][:, 2] > 0).all()
    np.testing.assert_array_equal(found["score"], [0, 0])
    one = best((FIRST, 10, 3.0, 6.0), count=2)
    assert one["score"][0] > 0.9 and one["score"][1] == 0


def test_blocks_without_depth_have_no_vote():
    values = outputs((FIRST, 10, 5.0, 0.0))
    values["pixels"] = tf.zeros_like(values["pixels"])
    assert best_hands(values, 1)["score"].numpy()[0, 0] == 0


def test_frames_of_a_batch_do_not_mix():
    one, other = outputs((FIRST, 10, 3.0, 2.0)), outputs((SECOND, 9, 2.0, -2.0), seed=3)
    both = {name: tf.concat([one[name], other[name]], axis=0) for name in one}
    together = best_hands(both, 2)
    for row, alone in enumerate((one, other)):
        for name, value in best_hands(alone, 2).items():
            np.testing.assert_allclose(together[name][row], value[0], atol=1e-3)
