import dataclasses

import numpy as np

from dgn_tf.synthesis.batches import synthesize_batch
from dgn_tf.synthesis.settings import SynthesisConfig
from dgn_tf.template import load_template
from experiments.replay import replay


def test_replay_finds_what_was_drawn_for_each_frame():
    template = load_template()
    pose = SynthesisConfig().pose._replace(
        collision_draws=1, uniform_share=0.5, measures_spread=0.0
    )
    config = SynthesisConfig(salt=9, pose=pose, min_hand_pixels=500)  # some are drawn again
    batch = synthesize_batch(template, config, 4, 0, 24, threads=1)
    found = [replay(template, config, 4, n, points) for n, points in enumerate(batch["keypoints"])]
    assert all(draws is not None for draws in found)
    assert 0 < sum(draws.uniform_angles for draws in found) < 24
    # Bones between key points of one part are as long as the shape drawn makes them.
    first, second = 30, 31  # the palm's
    rest = template.keypoints + np.einsum(
        "nk,kjc->njc", [draws.shape for draws in found], template.shape_keypoints
    )
    lengths = np.linalg.norm(rest[:, first] - rest[:, second], axis=-1)
    points = batch["keypoints"]
    np.testing.assert_allclose(
        np.linalg.norm(points[:, first] - points[:, second], axis=-1), lengths, atol=0.5
    )
    # Measures are replayed as well: other hands of the same coefficients.
    measured = dataclasses.replace(config, pose=pose._replace(measures_spread=1.0))
    points = synthesize_batch(template, measured, 4, 0, 1, threads=1)["keypoints"][0]
    again = replay(template, measured, 4, 0, points)
    assert again is not None and again.shape_mm != found[0].shape_mm
    assert replay(template, config, 5, 0, batch["keypoints"][0]) is None
