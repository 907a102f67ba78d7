"""A hand template small enough to check by eye: a tube, open at the wrist, that forks."""

import numpy as np

from dgn_tf.template import EVALUATED, HandTemplate, nyu_keypoint_names
from dgn_tf.template.hand_template import Embedding

RINGS, AROUND, GRID = 9, 8, 16


def tiny_template(embedding: str = "layered") -> HandTemplate:
    """73 vertices, 4 parts (parts 2 and 3 are children of part 1), 36 key points, 2 shapes."""
    ring, around = np.divmod(np.arange(RINGS * AROUND), AROUND)
    angle = 2 * np.pi * around / AROUND
    height = 15.0 * ring
    tube = np.stack([25 * np.cos(angle), 12 * np.sin(angle), height], axis=-1)
    vertices = np.concatenate([tube, [[2.0, 1.0, 15.0 * RINGS]]])
    faces = _tube_faces()
    weights = _weights(vertices)
    bones = _bones()
    keypoints = vertices[np.linspace(0, len(vertices) - 1, 36).astype(int)] * 0.9
    rng = np.random.default_rng(5)
    shapes = rng.normal(scale=2.0, size=[2, len(vertices), 3])
    stub = tube[:AROUND] * [1.2, 1.2, 1] - [0, 0, 40]
    stub_faces = [[len(vertices) + i, len(vertices) + (i + 1) % AROUND, i] for i in range(AROUND)]
    limits = np.zeros([4, 3, 2])
    limits[1:, 0] = [-0.2, 1.2]
    limits[1, 1] = [-0.3, 0.3]
    return HandTemplate(
        name="tiny",
        licence="CC0",
        source="tests",
        embedding=embedding,
        grid_size=GRID,
        vertices=vertices,
        faces=faces,
        wrist_loop=np.arange(AROUND),
        skinning_weights=weights,
        part_names=("palm", "finger1", "finger2", "finger3"),
        parents=[0, 0, 1, 1],
        bone_from_template=bones,
        joint_limits=limits,
        keypoints=keypoints,
        keypoint_weights=_weights(keypoints),
        keypoint_names=nyu_keypoint_names(),
        evaluated=EVALUATED,
        shape_names=("long", "wide"),
        shape_basis=shapes,
        shape_joints=rng.normal(size=[2, 4, 3]),
        shape_keypoints=rng.normal(size=[2, 36, 3]),
        face_part=weights[faces].sum(axis=1).argmax(axis=-1),
        stub_vertices=stub,
        stub_faces=stub_faces,
        stub_ring=np.ones(AROUND),
        embeddings=_embeddings(vertices, faces),
    )


def _tube_faces():
    faces = []
    for ring in range(RINGS - 1):
        for i in range(AROUND):
            a, b = ring * AROUND + i, ring * AROUND + (i + 1) % AROUND
            faces += [[a, b, b + AROUND], [a, b + AROUND, a + AROUND]]
    last = (RINGS - 1) * AROUND
    return np.array(
        faces + [[last + i, last + (i + 1) % AROUND, RINGS * AROUND] for i in range(AROUND)]
    )


def _weights(points):
    """Palm below 45 mm, part 1 to 90 mm, then part 2 (x > 0) or 3, blended over 20 mm."""
    first = np.clip((points[:, 2] - 35) / 20, 0, 1)
    second = np.clip((points[:, 2] - 80) / 20, 0, 1)
    right = np.clip(points[:, 0] / 10 + 0.5, 0, 1)
    return np.stack(
        [1 - first, first * (1 - second), first * second * right, first * second * (1 - right)],
        axis=-1,
    )


def _bones():
    bones = np.tile(np.eye(4), [4, 1, 1])
    tilt = 0.3
    bones[2:, :3, :3] = [
        [np.cos(tilt), 0, -np.sin(tilt)],
        [0, 1, 0],
        [np.sin(tilt), 0, np.cos(tilt)],
    ]
    joints = np.array([[0, 0, 0], [0, 0, 45], [10, 0, 90], [-10, 0, 90]])
    bones[:, :3, 3] = -np.einsum("pij,pj->pi", bones[:, :3, :3], joints)
    return bones


def _embeddings(vertices, faces):
    x = (vertices[:, 0] + 30) / 60
    y = vertices[:, 2] / 150
    back = (vertices[:, 1] > 0).astype(int)
    flat = np.stack([1 + 13 * x, 1 + 13 * y], axis=-1)
    atlas = np.stack([1 + 5 * x + 8 * back, 1 + 13 * y], axis=-1)
    none = np.zeros_like(back)

    def embedding(coords, layer):
        seam = np.ptp(layer[faces], axis=1) > 0
        return Embedding(
            mesh_coords=coords,
            vertex_layer=layer,
            face_coords=coords[faces],
            face_layer=layer[faces[:, 0]],
            face_is_seam=seam,
        )

    return {
        "layered": embedding(flat, back),
        "atlas": embedding(atlas, none),
        "mds": embedding(flat, none),
    }
