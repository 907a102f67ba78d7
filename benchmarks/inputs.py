"""The frames and crops that everything which infers is timed on."""

import dataclasses
from typing import NamedTuple

import numpy as np

from dgn_tf.network_config import NETWORK_INPUTS
from dgn_tf.synthesis.batches import synthesize_batch
from dgn_tf.synthesis.settings import SynthesisConfig
from dgn_tf.synthesis.whole_frames import render_frame

INTRINSICS = (475.0, 475.0, 319.5, 239.5)  # of the frames, 640 x 480


class Inputs(NamedTuple):
    """Hands as the signatures of an exported model take them, numpy, at most as many as made."""

    crops: dict[str, np.ndarray]  # depth [N, S, S] mm, intrinsics [N, 4], centre [N, 3], cube [N]
    frames: dict[str, np.ndarray]  # depth [N, 480, 640] mm, intrinsics [N, 4]

    def crop_batch(self, size: int) -> dict[str, np.ndarray]:
        """The first `size` crops."""
        return {name: value[:size] for name, value in self.crops.items()}

    def frame_batch(self, size: int) -> dict[str, np.ndarray]:
        """The first `size` frames."""
        return {name: value[:size] for name, value in self.frames.items()}


def synthetic_inputs(template, image_size: int, count: int, seed: int = 5) -> Inputs:
    """`count` synthetic hands as crops of `image_size` pixels, and other ones as whole frames.

    Args:
        template: HandTemplate.
        image_size: side of the crops.
        count: N.
        seed: of the synthesis.
    """
    config = SynthesisConfig()
    crops = synthesize_batch(template, dataclasses.replace(config, size=image_size), seed, 0, count)
    frames = [
        render_frame(template, config, seed, index, intrinsics=INTRINSICS)["depth"]
        for index in range(count)
    ]
    return Inputs(
        {name: crops[name] for name in NETWORK_INPUTS},
        {
            "depth": np.stack(frames).astype(np.float32),
            "intrinsics": np.tile(np.array(INTRINSICS, np.float32), [count, 1]),
        },
    )


def model_inputs(saved_model, count: int) -> Inputs:
    """`synthetic_inputs` of the sizes and the template of an exported model's folder."""
    from dgn_tf.model_folder import TEMPLATE, find_model_folder, read_description
    from dgn_tf.template import HandTemplate

    description = read_description(saved_model)
    template = HandTemplate.load(
        find_model_folder(saved_model) / TEMPLATE, embedding=description["embedding"]
    )
    return synthetic_inputs(template, int(description["network"]["image_size"]), count)
