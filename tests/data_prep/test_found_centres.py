"""Centres found in frames: the ball of a rig by blobs, hands by the localiser."""

import json
import pathlib

import numpy as np
import pytest

from data_prep.multi_view.centres import FoundCentres, check_choice
from dgn_tf.depth_io import read_depth
from dgn_tf.errors import InputError
from dgn_tf.localize.network import SHIPPED, weights_hash


@pytest.fixture(scope="module")
def samples(checkout):
    """The sample frames [N, H, W] mm, their intrinsics [4], middles of their hands [N, 3] mm."""
    folder = pathlib.Path(checkout) / "samples"
    described = json.loads((folder / "intrinsics.json").read_text())
    names = sorted(described["frames"])
    frames = np.stack([read_depth(folder / f"{name}.png", "u16", 1.0) for name in names])
    points = [list(described["frames"][name]["keypoints_mm"].values()) for name in names]
    camera = described["intrinsics"]
    intrinsics = np.array([camera[name] for name in ("fx", "fy", "cx", "cy")])
    return frames, intrinsics, np.mean(points, axis=1)


def test_the_localiser_finds_the_hands_of_the_samples(samples):
    frames, intrinsics, middles = samples
    find = FoundCentres("localiser")
    assert find.words == f"localiser (weights of sha256 {weights_hash(SHIPPED)})"
    centres = find(frames, np.tile(intrinsics, [len(frames), 1]), None)
    assert np.linalg.norm(centres - middles, axis=1).max() < 60  # mm, half a hand


def test_views_of_a_rig_agree_on_the_hand(samples):
    """One frame twice, the second camera moved: each finds the hand in its own frame."""
    frames, intrinsics, middles = samples
    camera_from_rig = np.tile(np.eye(4), [2, 1, 1])
    find = FoundCentres("localiser")
    centres = find(frames[[2, 2]], np.tile(intrinsics, [2, 1]), camera_from_rig)
    assert np.linalg.norm(centres - middles[2], axis=1).max() < 60


def test_a_frame_without_anything_has_no_centre(samples):
    frames, intrinsics, _ = samples
    empty = np.zeros_like(frames[:1])
    for center in ("com", "localiser"):
        assert np.isnan(FoundCentres(center)(empty, intrinsics[None], None)).all()


def test_flags_of_another_centre_are_refused():
    check_choice("localiser", "", "folder")
    with pytest.raises(InputError, match="--localiser with --center=com; add --center=localiser"):
        check_choice("com", "", "folder")
    with pytest.raises(InputError, match="--center_file with --center=localiser"):
        check_choice("localiser", "c.txt", "")
    with pytest.raises(InputError, match="--localiser=nowhere holds no config.json"):
        FoundCentres("localiser", "nowhere")
