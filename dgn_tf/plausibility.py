"""What can't be, or hardly: bytes in the wrong order, wrong units, intrinsics of another image.

A frame that is wrong in one of these ways often shows the localiser something like a hand, and the
model answers with confidence. Bounds were set on 51 real and rendered frames of five sensors with
right and wrong units: none of those with the right one warns, 45 of the 54 confident meshes by a
unit that is wrong by 2 or 4 do.
"""

import numpy as np

from dgn_tf.errors import InputError

NEAREST_MM, FARTHEST_MM = 260.0, 1400.0  # where the localiser is trained
_JUMP_MM = 50.0
_MOST_JUMPS = 0.15  # of neighbours; real frames have up to 0.024, byte-swapped ones 0.25 and more
_FEWER = 0.25  # that remain when bytes are swapped back
_PALM_MM = 67.0, 108.0  # from the wrist to the middle finger's knuckle
_WRIST, _KNUCKLE = ("PALM_1", "PALM_2"), "F3_KNU1_B"
_CENTRED = 0.4, 0.6  # cx of the width, cy of the height
_SQUARE = 0.9, 1.1  # fy of fx


def check_bytes(depth: np.ndarray, steps: np.ndarray | None, file) -> list[str]:
    """Warns of a frame whose neighbours jump as no surface does; refuses swapped bytes.

    Args:
        depth: [H, W] mm, 0 = missing.
        steps: uint16 [H, W] as they were stored, or None.
        file: for the message.

    Raises:
        InputError: with the two bytes of each pixel swapped the frame would be smooth.
    """
    share = jumps(depth)
    if share <= _MOST_JUMPS:
        return []
    if steps is not None and steps.any():
        unit = float(depth.max()) / float(steps.max())
        if jumps(steps.byteswap() * np.float32(unit)) < _FEWER * share:
            raise InputError(
                f"{file}: the two bytes of its pixels are in the wrong order ({share:.0%} of "
                "neighbouring pixels jump, swapped they don't); write it big-endian as PNG wants."
            )
    return [
        f"{share:.0%} of neighbouring pixels jump by more than {_JUMP_MM:.0f} mm: noise, swapped "
        "bytes or no depth"
    ]


def jumps(depth: np.ndarray) -> float:
    """The share of neighbours in a row, of every fourth row, that lie `_JUMP_MM` apart."""
    rows = np.asarray(depth[::4], np.float32)
    both = (rows[:, 1:] > 0) & (rows[:, :-1] > 0)
    far = np.abs(np.diff(rows, axis=1)) > _JUMP_MM
    return float((far & both).sum() / max(both.sum(), 1))


def camera_warnings(intrinsics, width: int, height: int) -> list[str]:
    """Warns of intrinsics that hardly belong to a frame of this size."""
    fx, fy, cx, cy = (float(value) for value in intrinsics)
    found = []
    if not (_within(cx / width, _CENTRED) and _within(cy / height, _CENTRED)):
        found.append(
            f"the principal point {cx:g}, {cy:g} is not near the middle of {width} x {height}: "
            "intrinsics of another size, or a cut image?"
        )
    if not _within(fy / fx, _SQUARE):
        found.append(f"fy / fx is {fy / fx:.2f}, of square pixels 1: are the intrinsics right?")
    return found


def mesh_warnings(mesh) -> list[str]:
    """Warns of a `HandMesh` farther or nearer than hands were trained at, or of no hand's size."""
    found, distance = [], float(mesh.centre[2])
    if not NEAREST_MM <= distance <= FARTHEST_MM:
        found.append(
            f"{distance:.0f} mm is outside of the {NEAREST_MM:.0f} to {FARTHEST_MM:.0f} mm that "
            "the model is made for: check --depth_unit"
        )
    palm = palm_mm(mesh)
    if palm is not None and not _within(palm, _PALM_MM):
        found.append(
            f"a palm of {palm:.0f} mm is no adult's ({_PALM_MM[0]:.0f} to {_PALM_MM[1]:.0f}): "
            "check --depth_unit and --intrinsics"
        )
    return found


def palm_mm(mesh) -> float | None:
    """From the wrist to the middle finger's knuckle; None where key points have other names."""
    places = dict(zip(mesh.keypoint_names, np.asarray(mesh.keypoints), strict=True))
    if _KNUCKLE not in places or any(name not in places for name in _WRIST):
        return None
    wrist = np.mean([places[name] for name in _WRIST], axis=0)
    return float(np.linalg.norm(wrist - places[_KNUCKLE]))


def _within(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]
