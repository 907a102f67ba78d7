import numpy as np
import pytest

from data_prep.multi_view.agreement import agreed_centres
from tests.data_prep import nyu_folder

NONE = [0.0, 0.0, 0.0]


def rig():
    return np.asarray(nyu_folder.rig(), np.float64)


def seen(places, camera):
    """[K, 3] in camera's frame of places [K, 3] in the rig's."""
    return np.asarray(places) @ camera[:3, :3].T + camera[:3, 3]


def views(hand, decoys, spread=0.0):
    """Candidates [3, 2, 3]: the hand, as each view sees it, and the view's own decoy."""
    generator = np.random.default_rng(5)
    offsets = generator.uniform(-spread, spread, [3, 3])
    return np.stack(
        [
            seen([hand + offset, decoy], camera)
            for offset, decoy, camera in zip(offsets, decoys, rig(), strict=True)
        ]
    )


HAND = np.array([20.0, -10.0, 700.0])
DECOYS = np.array([[20.0, 190.0, 690.0], [-240.0, 0.0, 760.0], [300.0, 80.0, 800.0]])


@pytest.mark.parametrize("misled", [(), (0,), (1,), (2,)])
def test_a_view_that_is_misled_is_put_right_by_the_others(misled):
    scores = np.tile([50.0, 20.0], [3, 1])
    for view in misled:
        scores[view] = [30.0, 60.0]
    candidates = views(HAND, DECOYS, spread=15.0)
    np.testing.assert_array_equal(agreed_centres(candidates, scores, rig()), candidates[:, 0])


def test_one_view_alone_keeps_its_best():
    candidates = views(HAND, DECOYS)[:1]
    found = agreed_centres(candidates, np.array([[10.0, 30.0]]), rig()[:1])
    np.testing.assert_array_equal(found, candidates[:, 1])


def test_a_view_without_candidate_there_gets_the_place_of_the_others():
    candidates = views(HAND, DECOYS)
    scores = np.array([[50.0, 20.0], [50.0, 20.0], [-np.inf, 20.0]])
    candidates[2, 0] = NONE
    found = agreed_centres(candidates, scores, rig())
    np.testing.assert_allclose(found[2], seen([HAND], rig()[2])[0], atol=1e-6)


def test_views_that_agree_on_nothing_keep_their_own_best():
    wrong = rig()
    wrong[:, :3, 3] *= 1e-3  # metres taken for millimetres
    candidates = views(HAND, DECOYS)
    scores = np.array([[50.0, 20.0], [50.0, 20.0], [-np.inf, -np.inf]])
    found = agreed_centres(candidates, scores, wrong)
    np.testing.assert_array_equal(found[:2], candidates[:2, 0])
    assert np.isnan(found[2]).all()


def test_no_candidate_of_any_view_is_no_centre():
    found = agreed_centres(np.zeros([3, 2, 3]), np.full([3, 2], -np.inf), rig())
    assert np.isnan(found).all()


def test_does_not_depend_on_the_rig_frame():
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr(np.random.default_rng(6).normal(size=[3, 3]))[0]
    turn[:3, :3] *= np.linalg.det(turn[:3, :3])
    turn[:3, 3] = 50, -300, 20
    candidates, scores = views(HAND, DECOYS, spread=15.0), np.array([[30, 60], [50, 20], [40, 9.0]])
    np.testing.assert_allclose(
        agreed_centres(candidates, scores, rig() @ turn),
        agreed_centres(candidates, scores, rig()),
        atol=1e-6,
    )
