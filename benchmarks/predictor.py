"""Speed of the whole way from a frame in memory to a mesh, against the forward pass alone."""

import numpy as np
import tensorflow as tf

from benchmarks import timing
from dgn_tf.model_folder import load_network
from dgn_tf.network_config import NETWORK_INPUTS
from dgn_tf.predictor import HandMeshPredictor
from dgn_tf.synthesis.settings import SynthesisConfig
from dgn_tf.synthesis.whole_frames import render_frame


def synthetic_frame(template, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """A 640x480 frame [H, W] float32 mm of one hand, and its camera's intrinsics [4]."""
    frame = render_frame(template, SynthesisConfig(), seed, 0)
    return frame["depth"].astype(np.float32), frame["intrinsics"]


def measure_predictor(saved_model, depth_mm, intrinsics, frames: int) -> dict:
    """Times `HandMeshPredictor` on a frame, one at a time, against the network on its crop.

    Args:
        saved_model: model folder (or version) with its weights beside.
        depth_mm: [H, W] mm, a frame with a hand in it.
        intrinsics: its fx, fy, cx, cy.
        frames: how often.

    Returns:
        `frame`: whole frame to mesh; `forward`: the exported model's signature `crop`, which is
        the folded network with its input checks; `network`: the same from its weights as one
        graph, not folded; `locate`: the signature that finds the hand in the frame; each with
        `_ms_p50` and `_ms_p99`. `frame_to_forward` and `locate_to_forward` are the bars' ratios,
        medians over adjacent pairs; `frame_to_network` the same to the other.
    """
    predictor = HandMeshPredictor(saved_model, intrinsics)
    hand = predictor(depth_mm)
    network = load_network(saved_model)
    crop = _crop(network, depth_mm, intrinsics, hand)
    signatures = tf.saved_model.load(str(predictor.folder)).signatures
    signature, locate = signatures["crop"], signatures["locate"]
    right = tf.constant([False])
    frame = {
        "depth": tf.constant(np.asarray(depth_mm, np.float32)[np.newaxis]),
        "intrinsics": tf.constant(np.asarray(intrinsics, np.float32)[np.newaxis]),
    }
    run = tf.function(lambda inputs: network(inputs, training=False)["vertices"])
    jobs = {
        "frame": lambda: predictor(depth_mm),
        "forward": lambda: signature(**crop, left=right)["vertices"].numpy(),
        "network": lambda: run(crop).numpy(),
        "locate": lambda: locate(**frame)["centre"].numpy(),
    }
    for _ in range(5):
        for job in jobs.values():
            job()
    seconds = timing.alternate(jobs, frames)
    quantiles = {
        f"{name}_ms_p{q}": float(1e3 * np.percentile(values, q))
        for name, values in seconds.items()
        for q in (50, 99)
    }
    return {
        **quantiles,
        "frame_to_forward": timing.ratio(seconds["frame"], seconds["forward"]),
        "locate_to_forward": timing.ratio(seconds["locate"], seconds["forward"]),
        "frame_to_network": timing.ratio(seconds["frame"], seconds["network"]),
    }


def _crop(network, depth_mm, intrinsics, hand):
    """The crop around `hand` as the network takes it: a batch of one."""
    from dgn_tf.geometry.camera import crop_depth

    centre, cube = tf.constant(hand.centre[np.newaxis]), tf.constant([hand.cube_mm])
    depth, camera = crop_depth(
        tf.constant(np.asarray(depth_mm, np.float32)[np.newaxis]),
        tf.constant(np.asarray(intrinsics, np.float32)[np.newaxis]),
        centre,
        cube,
        network.config.image_size,
    )
    return dict(zip(NETWORK_INPUTS, (depth, camera, centre, cube), strict=True))
