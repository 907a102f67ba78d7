"""Angles of a hand's joints by the names that robot hands and anatomy use."""

from typing import NamedTuple

import numpy as np

_KNUCKLES = {0: "cmc", 1: "mcp", 2: "pip", 3: "dip"}
_THUMB = {1: "cmc", 2: "mcp", 3: "ip"}
_MOTIONS = ("flexion", "abduction", "twist")  # about the bone frame's x, y, z


class Freedom(NamedTuple):
    """One way in which one joint moves.

    Attributes:
        name: such as "index_mcp_flexion", "thumb_cmc_abduction".
        part: of the template, which it moves.
        axis: 0, 1, 2 of the bone frame: of `HandMesh.joint_angles`.
        limits: rad, lowest and highest from the template's rest pose.
    """

    name: str
    part: int
    axis: int
    limits: tuple[float, float]


def freedoms(template) -> tuple[Freedom, ...]:
    """How the template's joints move: each angle that its `joint_limits` leave any room.

    On right and left hands alike flexion is positive towards the palm (the thumb's across it),
    abduction towards the thumb (the thumb's own away from the palm's plane).
    """
    limits = np.asarray(template.joint_limits, np.float64)
    found = []
    for part, name in enumerate(template.part_names):
        for axis, motion in enumerate(_MOTIONS):
            low, high = limits[part, axis]
            if high > low:
                found.append(Freedom(f"{_joint(name)}_{motion}", part, axis, (low, high)))
    return tuple(found)


def _joint(part: str) -> str:
    """ "index1" -> "index_mcp"; a part of another kind of name keeps it."""
    finger, bone = part[:-1], part[-1:]
    knuckles = _THUMB if finger == "thumb" else _KNUCKLES
    if finger and bone.isdecimal() and int(bone) in knuckles:
        return f"{finger}_{knuckles[int(bone)]}"
    return part
