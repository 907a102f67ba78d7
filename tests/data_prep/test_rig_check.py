"""Extrinsics that don't fit are refused by what is wrong with them; those that fit never."""

import types

import numpy as np
import pytest

from data_prep.multi_view.calibration import Rig
from data_prep.multi_view.rig_check import check_rig
from dgn_tf.errors import InputError

CAMERAS = 3


def transform(angle, shift):
    """camera_from_camera1: a turn about y, mm."""
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.eye(4)
    matrix[:3, :3] = [[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]
    matrix[:3, 3] = shift
    return matrix


TRUE = np.stack([np.eye(4), transform(0.5, [-900, 20, 60]), transform(-0.7, [700, -60, 200])])


def steps(camera_from_rig, noise=20.0, count=5, lost=(), bad=(), known=True):
    """Time steps whose hands the true rig sees, `noise` mm off, and the rig that is claimed."""
    rng = np.random.default_rng(4)
    hands = rng.uniform([-200, -200, 500], [200, 200, 800], [count, 3])
    seen = np.einsum("cij,sj->sci", TRUE[:, :3, :3], hands) + TRUE[:, :3, 3]
    seen += rng.normal(size=seen.shape, scale=noise / 2)

    def step(number):
        if number in bad:
            raise InputError("a bad frame")
        valid = np.array([view not in lost for view in range(CAMERAS)], np.int64)
        return {"centre": seen[number], "view_valid": valid}, []

    return types.SimpleNamespace(
        cameras=(1, 2, 3),
        rig=Rig(np.ones([CAMERAS, 4]), camera_from_rig, "calibration" if known else "none"),
        frames=types.SimpleNamespace(listing=types.SimpleNamespace(indices=np.arange(count))),
        step=step,
    )


def in_metres(matrices):
    scaled = matrices.copy()
    scaled[:, :3, 3] /= 1000
    return scaled


@pytest.mark.parametrize(
    ("claimed", "line"),
    [
        (np.linalg.inv(TRUE), "they are inverted: give camera_from_camera1"),
        (in_metres(TRUE), "they are in metres: give mm"),
        (in_metres(np.linalg.inv(TRUE)), "they are inverted and in metres"),
        (TRUE[[0, 2, 1]], "the cameras' order or the depth unit are not those"),
    ],
)
def test_a_wrong_rig_is_refused_by_what_is_wrong_with_it(claimed, line):
    with pytest.raises(InputError, match=f"rig.json: .*hands of camera [23] lie .*{line}") as error:
        check_rig(steps(claimed), "rig.json")
    assert "--nocheck_rig" in str(error.value)


def test_a_right_rig_passes_with_noise_and_wrong_blobs():
    check_rig(steps(TRUE), "rig.json")
    check_rig(steps(TRUE, noise=120), "rig.json")


def test_too_few_steps_or_a_rig_that_is_not_known_say_nothing():
    wrong = np.linalg.inv(TRUE)
    check_rig(steps(wrong, count=2), "rig.json")
    check_rig(steps(wrong, lost=(1, 2)), "rig.json")
    check_rig(steps(wrong, known=False), "rig.json")
    check_rig(steps(wrong, bad=range(5)), "rig.json")
    with pytest.raises(InputError):
        check_rig(steps(wrong, bad=(0, 1)), "rig.json")
