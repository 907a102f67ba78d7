import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dgn_tf.synthesis.sensor import SensorSettings
from dgn_tf.synthesis.settings import SynthesisConfig
from dgn_tf.synthesis.whole_frames import (
    HEIGHT,
    WIDTH,
    WholeFrameSettings,
    render_whole_frames,
    whole_frame_config,
)
from dgn_tf.template import load_template

CLEAN = dataclasses.replace(
    whole_frame_config(SynthesisConfig.version_1()), sensor=SensorSettings(clean_share=1.0)
)
FRAMES = 60


@pytest.fixture(scope="module")
def template():
    return load_template()


@pytest.fixture(scope="module")
def frames(template):
    return render_whole_frames(template, CLEAN, WholeFrameSettings(), 3, 0, FRAMES)


def test_shapes_and_ranges(frames):
    assert frames["depth"].shape == (FRAMES, HEIGHT, WIDTH)
    assert frames["depth"].dtype == np.float32 and (frames["depth"] >= 0).all()
    assert set(np.unique(frames["owner"])) == {-1, 0, 1}
    assert 0.7 < frames["visible"][:, 0].mean() < 1 and 0.05 < frames["visible"][:, 1].mean() < 0.5
    assert 0.3 < frames["left"][:, 0].mean() < 0.7  # half of the frames are mirrored


def test_a_sample_depends_on_its_number_alone(template):
    config, settings = whole_frame_config(), WholeFrameSettings()
    together = render_whole_frames(template, config, settings, 5, 10, 6)
    with ThreadPoolExecutor(2) as pool:
        shared = render_whole_frames(template, config, settings, 5, 10, 6, pool)
    later = render_whole_frames(template, config, settings, 5, 13, 3)
    other = render_whole_frames(template, config, settings, 6, 13, 3)
    for name, value in together.items():
        np.testing.assert_array_equal(value, shared[name])
        np.testing.assert_array_equal(value[3:], later[name])
    assert (other["depth"] != later["depth"]).any()


def test_centres_are_the_mean_of_the_points_that_are_theirs(frames):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    checked = 0
    for n in range(FRAMES):
        fx, fy, cx, cy = frames["intrinsics"][n]
        z = frames["depth"][n]
        points = np.stack([(columns - cx) / fx * z, (rows - cy) / fy * z, z], axis=-1)
        for hand in (0, 1):
            own = frames["owner"][n] == hand
            if frames["visible"][n, hand]:
                mean = points[own].mean(axis=0)
                np.testing.assert_allclose(frames["centre"][n, hand], mean, atol=0.1)
                checked += 1
            else:
                assert own.sum() < WholeFrameSettings().min_pixels
    assert checked > FRAMES // 2


def test_a_hand_is_of_a_hands_size(frames):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    for n in np.flatnonzero(frames["visible"][:, 0]):
        fx, fy, cx, cy = frames["intrinsics"][n]
        z = frames["depth"][n]
        points = np.stack([(columns - cx) / fx * z, (rows - cy) / fy * z, z], axis=-1)
        away = points[frames["owner"][n] == 0] - frames["centre"][n, 0]
        assert np.linalg.norm(away, axis=-1).max() < 260  # mm, a long hand seen at its tips


def test_no_hand_where_none_is_wanted(template):
    settings = WholeFrameSettings(no_hand_share=1.0)
    frames = render_whole_frames(template, CLEAN, settings, 3, 0, 12)
    assert not frames["visible"].any() and (frames["owner"] == -1).all()
    assert (frames["depth"] > 0).any(axis=(1, 2)).sum() > 6  # arms and clutter are there


def test_the_sensor_hides_and_moves_but_does_not_invent(template):
    noisy = dataclasses.replace(CLEAN, sensor=SensorSettings(clean_share=0.0))
    settings = WholeFrameSettings()
    clean = render_whole_frames(template, CLEAN, settings, 3, 0, 20)
    seen = render_whole_frames(template, noisy, settings, 3, 0, 20)
    np.testing.assert_array_equal(clean["centre"], seen["centre"])  # of what there is to see
    owned = (seen["owner"] >= 0).sum() / (clean["owner"] >= 0).sum()
    assert 0.6 < owned < 1.1
