"""A hand as its file has it, and the way from there to the template."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from data_prep import hand_parts, keypoint_placement, mesh_repair, nyu_keypoints, plain_shapes
from data_prep.bone_frames import finger_chain, unit
from data_prep.rest_hand import RestHand, Shapes
from data_prep.template_assembly import About, assemble
from dgn_tf.errors import InputError
from dgn_tf.geometry import mirror
from dgn_tf.template import HandTemplate

_FOREARM_MM = 250.0
# Height of the thumb's tip over the palm's plane, mm, and mean bend of the fingers, rad, that tell
# a left hand from a right one. Tips of coarse meshes lie askew by a tenth of a radian.
_ASIDE_MM, _BENT = 8.0, 0.15


@dataclasses.dataclass(frozen=True)
class SourceHand:
    """A hand at rest in its own frame.

    Attributes:
        where: names its file in errors.
        name, licence, source: see `HandTemplate`.
        left: it is a left hand; None: its thumb tells.
        vertices: [V, 3] float64 mm; faces: [F, 3].
        weights: [V, P], rows sum to 1.
        part_names: P names of `hand_parts.ordered`; joints: [P, 3] mm.
        markers: name to (part, [3] mm) of key points whose places are known; None: they are placed.
        shapes: its own; None: those of `plain_shapes`.
        tips: [5, 3] mm, ends of the fingers' last bones; None: the farthest vertices.
    """

    where: str
    name: str
    licence: str
    source: str
    left: bool | None
    vertices: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    part_names: tuple[str, ...]
    joints: np.ndarray
    markers: Mapping | None = None
    shapes: Shapes | None = None
    tips: np.ndarray | None = None


def build_template(
    source: SourceHand,
    *,
    grid_size: int = 16,
    embedding: str = "layered",
    components: str = "refuse",
) -> HandTemplate:
    """Returns the validated template of a hand, a left one mirrored.

    Args:
        source: the hand.
        grid_size, embedding: see `template_assembly.About`.
        components: see `mesh_repair.clean`.

    Raises:
        InputError: the mesh or the skeleton is no hand's; names the file.
    """
    source, place = placed(source, components)
    hand, markers = place.hand, None
    if source.markers is not None:
        markers = {
            name: (part, place.points(point)) for name, (part, point) in source.markers.items()
        }
    shapes = plain_shapes.plain_shapes(hand)
    if source.shapes is not None:  # The wrist joint stays the origin.
        moved = place.offsets(source.shapes.joints)
        vertices = place.offsets(source.shapes.vertices)[:, place.kept]
        shapes = Shapes(source.shapes.names, vertices - moved[:, :1], moved - moved[:, :1])
    template = assemble(
        hand,
        nyu_keypoints.place_keypoints(hand, markers),
        shapes,
        About(
            source.name,
            source.licence,
            source.source + (", a left hand, mirrored" if source.left else ""),
            grid_size,
            embedding,
            "left" if source.left else "right",
        ),
    )
    template.validate(source.where)
    return template


def placed(source: SourceHand, components: str = "refuse") -> tuple[SourceHand, "Placed"]:
    """The hand with its side known, and in the template's frame; errors as `build_template`."""
    if source.left is None:
        source = dataclasses.replace(source, left=_is_left(source, components))
        return source, _place(source, components)
    place = _place(source, components)
    if _palmar(place.hand) is False:
        side = "right" if source.left else "left"
        raise InputError(
            f"{source.where}: this looks like a {side} hand; pass --handedness={side}."
        )
    return source, place


@dataclasses.dataclass(frozen=True)
class Placed:
    """A hand brought to the template's frame, and the way there.

    Attributes:
        hand: the hand; kept: [V] which of the source's vertices are its.
        linear: [3, 3] template_from_source, a reflection for a left hand; origin: [3] mm, the
            wrist joint in the source's frame.
    """

    hand: RestHand
    kept: np.ndarray
    linear: np.ndarray
    origin: np.ndarray

    def offsets(self, offsets):
        return np.einsum("ij,...j->...i", self.linear, offsets)

    def points(self, points):
        return self.offsets(points - self.origin)


def _place(source, components) -> Placed:
    kept, faces = mesh_repair.clean(source.vertices, source.faces, components, source.where)
    if source.left:
        faces = mirror.mirror_faces(faces)
    names = source.part_names
    for part, name in enumerate(hand_parts.PART_NAMES):
        if hand_parts.merged_weights(source.weights[kept], names)[:, part].max() <= 0.5:
            raise InputError(
                f"{source.where}: hardly a vertex moves with '{name}'; map the bone "
                "that carries its skin."
            )
    for part, parent in enumerate(hand_parts.parents(names)):
        if part != parent and np.linalg.norm(source.joints[part] - source.joints[parent]) < 0.1:
            raise InputError(
                f"{source.where}: the bones '{names[part]}' and '{names[parent]}' begin at one "
                "place, so that neither has a direction; map others."
            )
    mirrored = mirror.mirror_points if source.left else np.asarray
    rotation = _template_from_source(mirrored(source.joints), names)
    linear, origin = mirrored(rotation), source.joints[0]  # its rows are directions of the source
    vertices = np.einsum("ij,vj->vi", linear, source.vertices[kept] - origin)
    joints = np.einsum("ij,pj->pi", linear, source.joints - origin)
    weights = source.weights[kept]
    posed = keypoint_placement.describe_hand(
        vertices,
        hand_parts.merged_weights(weights, names),
        hand_parts.of_merged(joints, names),
        dorsal=np.array([0.0, 1.0, 0.0]),
    )
    loop = mesh_repair.wrist_loop(vertices, faces, source.where)
    elbow = vertices[loop].mean(axis=0) - [0.0, 0.0, _FOREARM_MM]
    tips = posed.tails[3::3]
    if source.tips is not None:
        tips = np.einsum("ij,fj->fi", linear, source.tips - origin)
    hand = RestHand(vertices, faces, loop, weights, names, joints, tips, elbow)
    return Placed(hand, kept, linear, origin)


def _template_from_source(joints, part_names):
    """Returns the rotation [3, 3] to x radial, y dorsal, z distal."""
    wrist, index, middle, little = (
        joints[part_names.index(part)] for part in ("palm", "index1", "middle1", "little1")
    )
    distal = unit(middle - wrist)
    radial = unit((index - little) - distal * (distal @ (index - little)))
    return np.stack([radial, np.cross(distal, radial), distal])


def _is_left(source, components) -> bool:
    palmar = _palmar(_place(dataclasses.replace(source, left=False), components).hand)
    if palmar is None:
        raise InputError(
            f"{source.where}: can't tell whether this is a right or a left hand; "
            "pass --handedness=right or left."
        )
    return not palmar


def _palmar(hand) -> bool | None:
    """Whether the thumb, or else the bent fingers, lie to the palm's side, as those of a right
    hand do.

    None: fingers at rest straight and the thumb beside them don't tell.
    """
    aside = hand.tips[0, 1]
    if abs(aside) > _ASIDE_MM:
        return bool(aside < 0)
    bends = []
    for finger in hand_parts.FINGERS[1:]:
        bones = np.diff(finger_chain(hand.joints, hand.tips, hand.part_names, finger), axis=0)
        bends += [np.cross(unit(a), unit(b))[0] for a, b in zip(bones[:-1], bones[1:], strict=True)]
    bend = np.mean(bends)
    return None if abs(bend) < _BENT else bool(bend > 0)
