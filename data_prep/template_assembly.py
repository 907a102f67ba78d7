"""Makes a HandTemplate of a hand at rest: bone frames, limits, forearm and embeddings."""

from typing import NamedTuple

import numpy as np

from data_prep import bone_frames, hand_parts
from data_prep.embedding import embed
from data_prep.flattening import fan_angles, flatten, makehuman_angles
from data_prep.forearm_stub import forearm_stub
from data_prep.rest_hand import Keypoints, RestHand, Shapes
from dgn_tf.template import EMBEDDINGS, HandTemplate


class About(NamedTuple):
    """What a template says of itself.

    Attributes:
        name, licence, source: see `HandTemplate`.
        grid_size: cells on each axis of the mesh grid.
        embedding: the one to select; the template holds all.
        handedness: "left": the hand is a left one's mirror image.
    """

    name: str
    licence: str
    source: str
    grid_size: int
    embedding: str
    handedness: str = "right"


def assemble(
    hand: RestHand,
    keypoints: Keypoints,
    shapes: Shapes,
    about: About,
    makehuman: bool = False,
) -> HandTemplate:
    """Returns the template, not yet validated; arrays rounded, so that they rebuild bit for bit.

    Args:
        hand, keypoints, shapes: in the template's frame.
        about: what the template says of itself.
        makehuman: it is the hand from whose rest pose the thumb's limits and the fan of the
            fingers are counted.
    """
    names, parents = hand.part_names, hand_parts.parents(hand.part_names)
    frames = bone_frames.bone_frames(hand.joints, hand.tips, names)
    skeleton = (hand.joints, hand.tips, frames, names)
    offset = 0.0 if makehuman else bone_frames.thumb_offset(*skeleton)
    limits = bone_frames.joint_limits(*skeleton, offset)
    flat_angles = makehuman_angles(hand) if makehuman else fan_angles(hand, frames)
    vertices = np.round(hand.vertices, 4)  # mm.
    stub_vertices, stub_faces, stub_ring = forearm_stub(vertices, hand.wrist_loop, hand.elbow)
    flattened = flatten(hand, frames, flat_angles)
    return HandTemplate(
        **about._asdict(),
        vertices=vertices,
        faces=hand.faces,
        wrist_loop=hand.wrist_loop,
        skinning_weights=np.round(hand.weights, 6),
        part_names=names,
        parents=parents,
        bone_from_template=np.round(frames, 6),
        joint_limits=np.round(limits, 5),
        keypoints=np.round(keypoints.points, 4),
        keypoint_weights=keypoints.weights,
        keypoint_names=keypoints.names,
        evaluated=np.array(keypoints.evaluated),
        shape_names=shapes.names,
        shape_basis=np.round(shapes.vertices, 4),
        shape_joints=np.round(shapes.joints, 4),
        shape_keypoints=np.round(np.einsum("jv,kvi->kji", keypoints.carriers, shapes.vertices), 4),
        face_part=hand.weights[hand.faces].sum(axis=1).argmax(axis=1),
        stub_vertices=np.round(stub_vertices, 4),
        stub_faces=stub_faces,
        stub_ring=stub_ring,
        embeddings={
            kind: embed(kind, vertices, flattened, hand.faces, about.grid_size)
            for kind in EMBEDDINGS
        },
    )
