"""A hand at rest in the template's frame: what every source is brought to before it is built."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class RestHand:
    """A right hand; template frame: origin at the wrist, x radial, y dorsal, z distal.

    Attributes:
        vertices: [V, 3] float64 mm; faces: [F, 3], counter-clockwise seen from outside.
        wrist_loop: [N] vertices of the edges at which the hand ends, as its faces run.
        weights: [V, P] float64; part_names: P canonical names, see `hand_parts`.
        joints: [P, 3] mm, origin of each part; tips: [5, 3] mm, ends of the fingers' last bones.
        elbow: [3] mm.
    """

    vertices: np.ndarray
    faces: np.ndarray
    wrist_loop: np.ndarray
    weights: np.ndarray
    part_names: tuple[str, ...]
    joints: np.ndarray
    tips: np.ndarray
    elbow: np.ndarray


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Offsets for one standard deviation of each of K shapes, mm, template frame.

    Attributes:
        names: K; vertices: [K, V, 3]; joints: [K, P, 3].
    """

    names: tuple[str, ...]
    vertices: np.ndarray
    joints: np.ndarray


@dataclasses.dataclass(frozen=True)
class Keypoints:
    """Key points of a hand at rest.

    Attributes:
        names: J; points: [J, 3] mm; weights: [J, P].
        carriers: [J, V] weights of the vertices that carry each point to other shapes.
        evaluated: indices of those over which errors are reported.
    """

    names: tuple[str, ...]
    points: np.ndarray
    weights: np.ndarray
    carriers: np.ndarray
    evaluated: tuple[int, ...]
