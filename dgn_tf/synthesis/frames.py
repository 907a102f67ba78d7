"""Whole frames of a depth camera: hand, forearm, a person behind, noise at native resolution."""

import dataclasses

import numpy as np

from dgn_tf.geometry.raster import render_mesh
from dgn_tf.synthesis.batches import drawn_hand, laid_out
from dgn_tf.synthesis.crops import NEAR_MM
from dgn_tf.synthesis.scene import MAX_SOLIDS, SOLID_FIELDS, person_behind, render_solids
from dgn_tf.synthesis.sensor import observe
from dgn_tf.synthesis.settings import SynthesisConfig


def render_frame(
    template,
    config: SynthesisConfig,
    seed: int,
    index: int,
    width: int = 640,
    height: int = 480,
    intrinsics: tuple[float, float, float, float] = (475.0, 475.0, 319.5, 239.5),
) -> dict[str, np.ndarray]:
    """Renders sample `index` as the frame of a camera, with the person whose hand it is.

    Hand, pose, rotation and distance are drawn as for crops. There is no occluder and, instead of
    the config's background, a person to whom the forearm belongs.

    Args:
        template: HandTemplate.
        config: what to sample from.
        seed: 0 <= seed < 2^32.
        index: number of the sample.
        width: columns of the frame.
        height: rows of the frame.
        intrinsics: fx, fy, cx, cy in pixels.

    Returns:
        depth [H, W] uint16 mm, 0 = missing; face [H, W] int32, -1 = no hand; barycentric
        [H, W, 2]; clean [H, W] float64 mm, inf where empty, and clean_face [H, W], the same before
        the sensor; intrinsics [4]; vertices [V, 3] and keypoints [J, 3] mm, camera frame.
    """
    hand = laid_out(template)
    # Drawn for the camera at hand, so that the hand falls into the frame.
    place = config.place._replace(
        image_widths=(width,), focal_per_width=(intrinsics[0] / width,) * 2
    )
    config = dataclasses.replace(config, place=place)
    stream = seed + (config.salt << 32)
    drawn = drawn_hand(hand, config, stream, index)
    vertices, keypoints = drawn.vertices, drawn.keypoints
    depth, face, barycentric = render_mesh(vertices, hand.faces, intrinsics, width, height, NEAR_MM)
    face[face >= hand.hand_faces] = -1
    solids = np.zeros([MAX_SOLIDS, SOLID_FIELDS])
    elbow = vertices[len(hand.vertices) :][hand.stub_along > 0.97 * hand.stub_along.max()]
    count = person_behind(elbow.mean(axis=0), stream, index, solids)
    columns, rows = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)
    camera = tuple(float(value) for value in intrinsics)
    render_solids(solids, count, camera, columns, rows, depth, face)
    observed = np.empty_like(depth)
    observed_face = np.empty_like(face)
    observed_barycentric = np.empty_like(barycentric)
    observe(
        config.sensors,
        config.sensor_shares,
        stream,
        index,
        1.0,
        camera[0],
        depth,
        face,
        barycentric,
        observed,
        observed_face,
        observed_barycentric,
    )
    return {
        "depth": np.rint(observed.clip(0, 65535)).astype(np.uint16),
        "clean": depth,
        "clean_face": face,
        "face": observed_face,
        "barycentric": observed_barycentric,
        "intrinsics": np.array(intrinsics),
        "vertices": drawn.straight,
        "keypoints": keypoints,
    }
