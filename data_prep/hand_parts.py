"""Canonical parts of a five-fingered hand: what a source's bones are called and how they hang.

Every hand has `PART_NAMES`. A hand whose palm moves has `index0` .. `little0` besides, the
metacarpals, between the palm and the fingers.
"""

import numpy as np

FINGERS = ("thumb", "index", "middle", "ring", "little")
PART_NAMES = ("palm", *(f"{finger}{bone}" for finger in FINGERS for bone in (1, 2, 3)))
PALM_BONES = tuple(f"{finger}0" for finger in FINGERS[1:])


def ordered(names) -> tuple[str, ...]:
    """Returns part names with each parent before its children.

    Raises:
        ValueError: a name is no canonical one, comes twice, or one of `PART_NAMES` is missing.
    """
    allowed = ["palm"] + [
        f"{finger}{bone}"
        for finger in FINGERS
        for bone in range(4)
        if f"{finger}{bone}" != "thumb0"
    ]
    names = list(names)
    strange = sorted({name for name in names if name not in allowed or names.count(name) > 1})
    if strange:
        raise ValueError(f"parts {', '.join(strange)} are unknown or come twice")
    missing = [name for name in PART_NAMES if name not in names]
    if missing:
        raise ValueError(f"no bone makes {', '.join(missing)}")
    return tuple(name for name in allowed if name in names)


def parents(part_names) -> np.ndarray:
    """Returns [P] the part that each hangs on; the palm hangs on itself."""
    result = []
    for name in part_names:
        before = "palm" if name == "palm" else f"{name[:-1]}{int(name[-1]) - 1}"
        result.append(part_names.index(before) if before in part_names else 0)
    return np.array(result)


def chain(part_names, finger: str) -> list[int]:
    """Returns [3] indices of a finger's bones, from the palm outward."""
    return [part_names.index(f"{finger}{bone}") for bone in (1, 2, 3)]


def merged_weights(weights, part_names) -> np.ndarray:
    """Returns [V, 16] skinning weights of `PART_NAMES`: the metacarpals belong to the palm."""
    result = np.zeros([len(weights), len(PART_NAMES)])
    for part, name in enumerate(part_names):
        result[:, PART_NAMES.index(name) if name in PART_NAMES else 0] += weights[:, part]
    return result


def of_merged(values, part_names) -> np.ndarray:
    """Returns the rows of `PART_NAMES` of values [P, ...], [16, ...]."""
    return np.asarray(values)[[part_names.index(name) for name in PART_NAMES]]
