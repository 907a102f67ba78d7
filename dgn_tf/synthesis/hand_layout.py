"""A HandTemplate laid out for compiled kernels: plain arrays, sparse weights, finger chains."""

from typing import NamedTuple

import numpy as np

from dgn_tf.synthesis.hand_measures import MeasuredHand, measured_hand


class HandArrays(NamedTuple):
    """What the kernels need of a HandTemplate (see `hand_arrays`); float64, contiguous."""

    vertices: np.ndarray  # [V, 3]
    faces: np.ndarray  # [F + Fs, 3] uint32, hand faces first, then the forearm's
    hand_faces: int  # F
    skin_part: np.ndarray  # [V, S] int32, parts of non-zero weight
    skin_weight: np.ndarray  # [V, S]
    keypoints: np.ndarray  # [J, 3]
    keypoint_part: np.ndarray  # [J, S'] int32
    keypoint_weight: np.ndarray  # [J, S']
    parents: np.ndarray  # [P] int32
    bone_rotation: np.ndarray  # [P, 3, 3] template_from_bone
    joints: np.ndarray  # [P, 3] joint origins at rest
    limits: np.ndarray  # [P, 3, 2] radians
    finger: np.ndarray  # [P] int32: 0 thumb, 1.. the other fingers, -1 none
    segment: np.ndarray  # [P] int32: 0 for the first bone of a finger, ...
    shape_vertices: np.ndarray  # [K, V * 3]
    shape_joints: np.ndarray  # [K, P * 3]
    shape_keypoints: np.ndarray  # [K, J * 3]
    balls: np.ndarray  # [N, 4] centre at rest and radius: what must not overlap
    ball_part: np.ndarray  # [N] int32
    stub: np.ndarray  # [Vs, 3] forearm at rest
    stub_along: np.ndarray  # [Vs] mm from the wrist, along the forearm
    wrist: np.ndarray  # [N] int32 vertices of the wrist loop
    wrist_axes: np.ndarray  # [3, 3] rows: flexion axis, deviation axis, elbow direction
    measured: MeasuredHand


def sparse(weights):
    """([N, S] columns, [N, S] weights) of the non-zero entries of a dense [N, P] matrix."""
    width = max(1, int((weights > 0).sum(axis=1).max()))
    part = np.argsort(-weights, axis=1, kind="stable")[:, :width]
    weight = np.take_along_axis(weights, part, axis=1).astype(np.float64)
    return part.astype(np.int32), weight / weight.sum(axis=1, keepdims=True)


def _flat(basis):
    return np.ascontiguousarray(np.asarray(basis, np.float64).reshape(len(basis), -1))


def _fingers(template):
    """Finger and segment of each part, from the chains that hang on the palm: on the root, or on
    one of the metacarpals, 'index0' .. 'little0', that some templates have."""
    parents = np.asarray(template.parents)
    palm = {
        part
        for part, parent in enumerate(parents)
        if parent == part or (parents[parent] == parent and template.part_names[part].endswith("0"))
    }
    finger = np.full(len(parents), -1, np.int32)
    segment = np.zeros(len(parents), np.int32)
    chains = [p for p, parent in enumerate(parents) if p not in palm and parent in palm]
    # The thumb comes first: the synergies treat it on its own.
    chains.sort(key=lambda p: ("thumb" not in template.part_names[p].lower(), p))
    for number, first in enumerate(chains):
        finger[first] = number
    for part, parent in enumerate(parents):
        if finger[parent] >= 0 and part != parent:
            finger[part] = finger[parent]
            segment[part] = segment[parent] + 1
    return finger, segment


def _collision_balls(template, joints, finger):
    """Balls along each finger bone, sized by the flesh around it; [N, 4] and their parts [N]."""
    vertices = np.asarray(template.vertices, np.float64)
    owner = np.argmax(template.skinning_weights, axis=1)
    balls, parts = [], []
    for part in range(len(joints)):
        flesh = vertices[owner == part]
        if finger[part] < 0 or len(flesh) < 3:
            continue
        children = [c for c, parent in enumerate(template.parents) if parent == part and c != part]
        direction = flesh.mean(axis=0) - joints[part]
        if children:
            end = joints[children[0]]
        else:
            reach = (flesh - joints[part]) @ direction / np.linalg.norm(direction)
            end = joints[part] + direction / np.linalg.norm(direction) * (reach.max() - 6.0)
        axis = (end - joints[part]) / np.linalg.norm(end - joints[part])
        offset = flesh - joints[part]
        radius = 0.85 * np.linalg.norm(offset - np.outer(offset @ axis, axis), axis=1).mean()
        for share in (0.33, 0.66, 1.0):
            balls.append([*(joints[part] + share * (end - joints[part])), radius])
            parts.append(part)
    root = int(np.flatnonzero(np.asarray(template.parents) == np.arange(len(joints)))[0])
    wrist = vertices[np.asarray(template.wrist_loop)].mean(axis=0)
    for part in np.flatnonzero(finger > 0):  # The palm: balls from the wrist to each knuckle.
        if finger[template.parents[part]] < 0:
            for share in (0.35, 0.6, 0.82):
                balls.append([*(wrist + share * (joints[part] - wrist)), 9.0])
                parts.append(root)
    return np.array(balls), np.array(parts, np.int32)


def hand_arrays(template) -> HandArrays:
    """Lays out a HandTemplate for the kernels of this package."""
    template_from_bone = np.linalg.inv(np.asarray(template.bone_from_template, np.float64))
    joints = np.ascontiguousarray(template_from_bone[:, :3, 3])
    finger, segment = _fingers(template)
    balls, ball_part = _collision_balls(template, joints, finger)
    skin_part, skin_weight = sparse(np.asarray(template.skinning_weights))
    keypoint_part, keypoint_weight = sparse(np.asarray(template.keypoint_weights))
    vertices = np.asarray(template.vertices, np.float64)
    stub = np.asarray(template.stub_vertices, np.float64)
    faces = np.concatenate([template.faces, template.stub_faces]).astype(np.uint32)
    corners = np.concatenate([vertices, stub])[faces]
    if np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() < 0:
        raise ValueError(
            f"template {template.name!r}: faces turn inwards (negative volume); rebuild it with "
            "corners counter-clockwise as seen from outside."
        )
    wrist = np.asarray(template.wrist_loop, np.int32)
    centre = vertices[wrist].mean(axis=0)
    elbow = stub[np.argsort(template.stub_ring, kind="stable")[-8:]].mean(axis=0) - centre
    elbow /= np.linalg.norm(elbow)
    knuckles = [p for p in range(len(joints)) if finger[p] > 0 and segment[p] == 0]
    flexion = joints[knuckles[-1]] - joints[knuckles[0]]  # across the palm
    flexion -= elbow * (flexion @ elbow)
    flexion /= np.linalg.norm(flexion)
    return HandArrays(
        vertices=vertices,
        faces=faces,
        hand_faces=len(template.faces),
        skin_part=skin_part,
        skin_weight=skin_weight,
        keypoints=np.asarray(template.keypoints, np.float64),
        keypoint_part=keypoint_part,
        keypoint_weight=keypoint_weight,
        parents=np.asarray(template.parents, np.int32),
        bone_rotation=np.ascontiguousarray(template_from_bone[:, :3, :3]),
        joints=joints,
        limits=np.asarray(template.joint_limits, np.float64),
        finger=finger,
        segment=segment,
        shape_vertices=_flat(template.shape_basis),
        shape_joints=_flat(template.shape_joints),
        shape_keypoints=_flat(template.shape_keypoints),
        balls=balls,
        ball_part=ball_part,
        stub=stub,
        stub_along=np.maximum((stub - centre) @ elbow, 0.0),
        wrist=wrist,
        wrist_axes=np.stack([flexion, np.cross(elbow, flexion), elbow]),
        measured=measured_hand(template, joints, finger, segment, flexion),
    )
