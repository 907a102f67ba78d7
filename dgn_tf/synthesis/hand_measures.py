"""How long and how broad hands are: published measures, and how a template's hand takes them.

Length runs from the wrist along the longest finger to its tip, breadth across the knuckles, and a
finger's breadth is that of the index finger at its middle joint. Means and deviations of men and
women after Pheasant and Haslegrave, *Bodyspace* (3rd ed., 2006), anthropometric estimates for the
hand of British adults: 189 +- 10 and 174 +- 9 mm, 87 +- 5 and 76 +- 4 mm, 21 +- 1 and 18 +- 1 mm;
breadth to length 0.46 and 0.44. The book was not at hand; other surveys agree for length and
breadth: 190 and 176, 86 and 77 mm in Ibeachu, Abu and Didia, *Asian J. Medical Sciences* 3 (2011),
185 and 168 mm in Binvignat et al., *Int. J. Morphology* (2012). The finger's breadth was not
compared, and the correlation of the three in one sex is an assumption.
"""

import math
from typing import NamedTuple

import numpy as np

from dgn_tf.compiled import kernel
from dgn_tf.synthesis import randomness as rng

# Length, breadth, breadth of the index finger, mm, and their deviations.
_MEN, _MEN_DEVIATION = (189.0, 87.0, 21.0), (10.0, 5.0, 1.0)
_WOMEN, _WOMEN_DEVIATION = (174.0, 76.0, 18.0), (9.0, 4.0, 1.0)
_SHARED = 0.6  # correlation of any two of them in one sex
_CLIP = 2.5  # deviations
_LARGEST = 0.4  # change of a breadth, as a share of it, that a template's hand is put to


# BLAS and LAPACK round as the processor's kernels do, and one bit of a constant is enough to change
# a byte of a frozen split: the template's constants are computed without them.


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products of vectors, summed over the last axis, to the last bit."""
    return (np.asarray(a, np.longdouble) * b).sum(axis=-1).astype(np.float64)


def _length(vector: np.ndarray) -> float:
    return float(np.sqrt((np.asarray(vector, np.longdouble) ** 2).sum()))


def _inverse(matrices: np.ndarray) -> np.ndarray:
    """Inverses of affine transforms [P, 4, 4], by cofactors, to the last bit."""
    matrices = matrices.astype(np.longdouble)
    rows = matrices[:, :3, :3]
    turned = np.stack([np.cross(rows[:, k - 2], rows[:, k - 1]) for k in range(3)], axis=-1)
    linear = turned / (rows[:, :1] * turned[:, :, 0][:, np.newaxis]).sum(axis=-1)[..., np.newaxis]
    inverses = np.zeros_like(matrices)
    inverses[:, :3, :3], inverses[:, 3, 3] = linear, 1.0
    inverses[:, :3, 3] = -(linear * matrices[:, np.newaxis, :3, 3]).sum(axis=-1)
    return inverses.astype(np.float64)


class MeasuredHand(NamedTuple):
    """Where a template is measured, and how its rest pose becomes broader; float64, contiguous.

    `wider_*` are displacements as a shape basis has them: what the palm's breadth grows by the
    share 1 does, and what the fingers' (the thumb's too) does.
    """

    chain: np.ndarray  # [N] int32 parts of the longest finger, from its root
    tip: int  # its last vertex
    palm: np.ndarray  # [2] int32 vertices at both ends of the breadth
    finger: np.ndarray  # [2] int32 vertices, likewise
    wider_vertices: np.ndarray  # [2, V * 3]
    wider_joints: np.ndarray  # [2, P * 3]
    wider_keypoints: np.ndarray  # [2, J * 3]


def measured_hand(template, joints, finger, segment, across) -> MeasuredHand:
    """Finds the measures of a template.

    Args:
        template: HandTemplate.
        joints: [P, 3] joint origins at rest, mm.
        finger: [P] finger of each part: 0 thumb, 1.. the others from the index on, -1 none.
        segment: [P] bone of the finger, 0 first.
        across: [3] unit vector across the palm.
    """
    parents, parts = np.asarray(template.parents), np.arange(len(joints))
    vertices = np.asarray(template.vertices, np.float64)
    owner = np.argmax(template.skinning_weights, axis=1)
    chains = [parts[finger == f][np.argsort(segment[finger == f])] for f in range(finger.max() + 1)]
    ends = []
    for chain in chains:
        flesh = np.flatnonzero(owner == chain[-1])
        reach = np.linalg.norm(vertices[flesh] - joints[chain[-1]], axis=1)
        ends.append(flesh[np.argmax(reach)] if len(flesh) else 0)
    bones = _directions(joints, chains, vertices[ends])

    def length(number):
        points = [joints[part] for part in chains[number]] + [vertices[ends[number]]]
        return (
            _length(points[0] - joints[0]) + np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
        )

    longest = max(range(1, len(chains)), key=length)
    roots = [chain[0] for chain in chains[1:]]
    thumb = np.isin(owner, chains[0])
    along = np.cross(across, np.cross(joints[chains[longest][0]] - joints[0], across))
    along /= _length(along)
    knuckles = np.mean([_dot(joints[root], along) for root in roots])
    palm = _ends(_dot(vertices, across), ~thumb & (np.abs(_dot(vertices, along) - knuckles) < 12.0))
    middle = chains[1][min(1, len(chains[1]) - 1)]
    side = np.cross(bones[middle], np.cross(across, bones[middle]))
    flesh = np.isin(owner, chains[1][:2]) & (
        np.abs(_dot(vertices - joints[middle], bones[middle])) < 6.0
    )
    wider = _wider(joints, parents, finger, chains, bones, across)

    def basis(points, weights):
        moved = np.einsum("np,kpij,nj->kni", weights, wider[0], points)
        moved += np.einsum("np,kpi->kni", weights, wider[1])
        return np.ascontiguousarray(moved.reshape(2, -1))

    return MeasuredHand(
        chain=chains[longest].astype(np.int32),
        tip=int(ends[longest]),
        palm=palm,
        finger=_ends(_dot(vertices - joints[middle], side), flesh),
        wider_vertices=basis(vertices, np.asarray(template.skinning_weights, np.float64)),
        wider_joints=basis(joints, np.eye(len(joints))),
        wider_keypoints=basis(
            np.asarray(template.keypoints, np.float64),
            np.asarray(template.keypoint_weights, np.float64),
        ),
    )


def _directions(joints, chains, tips):
    """[P, 3] unit direction of each finger's bones; zeros elsewhere."""
    bones = np.zeros_like(joints)
    for chain, tip in zip(chains, tips, strict=True):
        for part, end in zip(chain, [*joints[chain[1:]], tip], strict=True):
            bones[part] = (end - joints[part]) / (_length(end - joints[part]) + 1e-9)
    return bones


def _ends(places, chosen):
    """[2] numbers of the chosen places that lie farthest apart on a line."""
    numbers = np.flatnonzero(chosen)
    if not len(numbers):
        raise ValueError("the template has no vertices where a hand's breadth is measured.")
    return numbers[[np.argmin(places[numbers]), np.argmax(places[numbers])]].astype(np.int32)


def _wider(joints, parents, finger, chains, bones, across):
    """A displacement of the rest pose by part, linear in the point: ([2, P, 3, 3], [2, P, 3]).

    The palm grows sideways from the middle of its knuckles and takes the fingers' roots along;
    fingers grow around their bones.
    """
    linear, offset = np.zeros([2, len(joints), 3, 3]), np.zeros([2, len(joints), 3])
    sideways = np.outer(across, across)
    centre = np.mean([joints[chain[0]] for chain in chains[1:]], axis=0)
    for part in range(len(joints)):
        if finger[part] < 0:
            linear[0, part], offset[0, part] = sideways, _dot(-sideways, centre)
            continue
        offset[0, part] = _dot(sideways, joints[chains[finger[part]][0]] - centre)
        linear[1, part] = np.eye(3) - np.outer(bones[part], bones[part])
        offset[1, part] = _dot(-linear[1, part], joints[part])
    return linear, offset


@kernel
def _between(points, first, second):
    square = 0.0
    for i in range(3):
        square += (points[first, i] - points[second, i]) ** 2
    return math.sqrt(square)


@kernel
def hand_length(measured, vertices, joints):
    """Length of a hand at rest, mm: vertices [V, 3], joints [P, 3]."""
    total, last = 0.0, 0
    for part in measured.chain:
        total += _between(joints, last, part)
        last = part
    square = 0.0
    for i in range(3):
        square += (vertices[measured.tip, i] - joints[last, i]) ** 2
    return total + math.sqrt(square)


@kernel
def draw_measures(state, spread, wanted):
    """Fills `wanted` [3] with length, breadth and the index finger's breadth of somebody, mm.

    `spread` widens the published deviations.
    """
    man = rng.uniform(state, 0.0, 1.0) < 0.5
    shared = rng.normal(state)
    for k in range(3):
        own = math.sqrt(_SHARED) * shared + math.sqrt(1.0 - _SHARED) * rng.normal(state)
        own = spread * min(max(own, -_CLIP), _CLIP)
        mean = _MEN[k] if man else _WOMEN[k]
        wanted[k] = mean + own * (_MEN_DEVIATION[k] if man else _WOMEN_DEVIATION[k])


@kernel
def _widened(points, basis, by):
    flat = points.reshape(-1)
    for i in range(flat.shape[0]):
        flat[i] += by[0] * basis[0, i] + by[1] * basis[1, i]


@kernel
def take_measures(measured, wanted, vertices, joints, keypoints):
    """Makes a hand at rest as long and as broad as `wanted` [3] mm says, in place."""
    by = np.empty(2)
    for turn in range(
        4
    ):  # palm, finger and again: length and breadths depend on each other a little
        k, by[0], by[1] = turn % 2, 0.0, 0.0
        ends = measured.palm if k == 0 else measured.finger
        scale = wanted[0] / hand_length(measured, vertices, joints)
        breadth = _between(vertices, ends[0], ends[1])
        square = 0.0
        for i in range(3):
            a, b = 3 * ends[0] + i, 3 * ends[1] + i
            step = measured.wider_vertices[k, a] - measured.wider_vertices[k, b]
            square += step * (vertices[ends[0], i] - vertices[ends[1], i])
        by[k] = (wanted[1 + k] / scale - breadth) * breadth / max(square, 1e-6)
        by[k] = min(max(by[k], -_LARGEST), _LARGEST)
        _widened(vertices, measured.wider_vertices, by)
        _widened(joints, measured.wider_joints, by)
        _widened(keypoints, measured.wider_keypoints, by)
    scale = wanted[0] / hand_length(measured, vertices, joints)
    for points in (vertices, joints, keypoints):
        flat = points.reshape(-1)
        for i in range(flat.shape[0]):
            flat[i] *= scale


# A HandTemplate laid out for compiled kernels: plain arrays, sparse weights, finger chains.


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
            reach = _dot(flesh - joints[part], direction) / _length(direction)
            end = joints[part] + direction / _length(direction) * (reach.max() - 6.0)
        axis = (end - joints[part]) / _length(end - joints[part])
        offset = flesh - joints[part]
        radius = 0.85 * np.linalg.norm(offset - np.outer(_dot(offset, axis), axis), axis=1).mean()
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
    template_from_bone = _inverse(np.asarray(template.bone_from_template, np.float64))
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
    elbow /= _length(elbow)
    knuckles = [p for p in range(len(joints)) if finger[p] > 0 and segment[p] == 0]
    flexion = joints[knuckles[-1]] - joints[knuckles[0]]  # across the palm
    flexion -= elbow * _dot(flexion, elbow)
    flexion /= _length(flexion)
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
        stub_along=np.maximum(_dot(stub - centre, elbow), 0.0),
        wrist=wrist,
        wrist_axes=np.stack([flexion, np.cross(elbow, flexion), elbow]),
        measured=measured_hand(template, joints, finger, segment, flexion),
    )
