"""Where the crops are centred: mm, camera frame."""

import hashlib
import math
import os
import pathlib

import numpy as np

from data_prep.multi_view.agreement import agreed_centres
from dgn_tf.errors import InputError
from dgn_tf.file_kinds import named_kind

MODES = ("joint", "com", "localiser", "file")
FOUND = ("com", "localiser")  # those that look at the frames
ORACLE = "joint (oracle: the true palm centre)"
_CANDIDATES = 6  # places of a view among which the others may choose
_LEAST_SCORE = 0.02  # of the localiser's places; the views together may trust a doubtful one
_FARTHEST_FLIPPED_MM = 150.0  # half the usual cube: beyond, the crop misses the hand


def centre_file(pattern: str, split: str, camera: int) -> pathlib.Path:
    """The file of a camera and split: {split} and {camera} in the pattern stand for them."""
    return pathlib.Path(pattern.replace("{split}", split).replace("{camera}", str(camera)))


def check_pattern(pattern: str, splits: tuple[str, ...], cameras: tuple[int, ...]) -> None:
    """Raises InputError where one file would serve several splits or cameras, or none is named."""
    if not pattern:
        raise InputError("--center=file wants --center_file: a text of `x y z`, mm, one a frame.")
    for values, word, flag in ((splits, "{split}", "splits"), (cameras, "{camera}", "cameras")):
        if len(values) > 1 and word not in pattern:
            raise InputError(
                f"--center_file={pattern} is one file for --{flag}="
                f"{','.join(map(str, values))}; write {word} into its name, or convert one."
            )


def read_centres(path: str | os.PathLike) -> tuple[np.ndarray, str]:
    """Reads a public centre file: one line `x y z` a frame, mm, camera frame, y down.

    Returns:
        [N, 3] float64, NaN for a line of three words `invalid`; and the file's sha256.

    Raises:
        InputError: unreadable, or a line that is not three numbers with z > 0.
    """
    try:
        data = pathlib.Path(path).read_bytes()
        lines = data.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or named_kind(path) or error
        raise InputError(f"--center_file={path}: can't be read ({reason}).") from None
    centres = np.full([len(lines), 3], np.nan)
    for number, line in enumerate(lines):
        words = line.replace(",", " ").split()
        if words == ["invalid"] * 3:
            continue
        try:
            centres[number] = [float(word) for word in words]
            good = np.isfinite(centres[number]).all() and centres[number, 2] > 0
        except ValueError:
            good = False
        if not good:
            raise InputError(
                f"--center_file={path}, line {number + 1}: wanted `x y z` in mm with z > 0, got "
                f"{line[:60]!r}."
            )
    return centres, hashlib.sha256(data).hexdigest()


def check_centres(path, centres: np.ndarray, frames: int, palm: np.ndarray | None) -> None:
    """Raises InputError unless centres [N, 3] fit a split of `frames` and its palms [N, 3]."""
    if len(centres) != frames:
        raise InputError(
            f"--center_file={path}: {len(centres)} lines for {frames} frames; give the file of "
            "this split."
        )
    if palm is None:
        return
    known = np.isfinite(centres[:, 2]) & np.isfinite(palm[:, 2])
    if not known.any():
        return
    off = np.median(np.linalg.norm((centres - palm)[known], axis=-1))
    flipped = np.median(np.linalg.norm((centres * [1, -1, 1] - palm)[known], axis=-1))
    if off > _FARTHEST_FLIPPED_MM or flipped < off / 2:
        raise InputError(
            f"--center_file={path}: half of its centres are more than {off:.0f} mm from the palm's "
            f"label ({flipped:.0f} with y negated); wanted mm, camera frame, y down, this camera."
        )


class FoundCentres:
    """Centres of the hands that are found in the frames.

    Without extrinsics it is the best place of each view; with them, what the views agree on.

    Args:
        center: "com", centres of mass of hand-sized blobs, or "localiser", the network's places.
        localiser: folder of the network; empty: the one that ships.

    Attributes:
        words: what the records' description says of them.

    Raises:
        InputError: no localiser in that folder, or a damaged one.
    """

    def __init__(self, center: str = "com", localiser: str = ""):
        import tensorflow as tf

        from dgn_tf.localize.finders import blob_candidates
        from dgn_tf.localize.network import load_localiser, weights_hash

        signature = [tf.TensorSpec([None, None, None]), tf.TensorSpec([None, 4])]
        if center == "com":
            self.words = "com"
            self._find = tf.function(
                lambda depth, camera: blob_candidates(depth, camera, _CANDIDATES), signature
            )
            return
        network = load_localiser(localiser)
        self.words = f"localiser (weights of sha256 {weights_hash(localiser)})"

        def find(depth, camera):
            places = network.locate(depth, camera, _CANDIDATES)
            score = places["score"]
            return places["centre"], tf.where(score > _LEAST_SCORE, score, -math.inf)

        self._find = tf.function(find, signature)

    def __call__(
        self, depth: np.ndarray, intrinsics: np.ndarray, camera_from_rig: np.ndarray | None
    ) -> np.ndarray:
        """Finds them.

        Args:
            depth: [B, H, W] mm, 0 = missing: the views of one time step.
            intrinsics: [B, 4] (fx, fy, cx, cy), pixels.
            camera_from_rig: [B, 4, 4] mm; None where not known.

        Returns:
            [B, 3] float64 mm, camera frame; NaN where nothing is found.
        """
        found = self._find(depth.astype(np.float32), intrinsics.astype(np.float32))
        centres, scores = (value.numpy().astype(np.float64) for value in found)
        if camera_from_rig is not None:
            return agreed_centres(centres, scores, camera_from_rig)
        return np.where(np.isfinite(scores[:, :1]), centres[:, 0], np.nan)


def check_choice(center: str, center_file: str, localiser: str) -> None:
    """Raises InputError where --center_file or --localiser are given for another --center."""
    for flag, value, wanted in (
        ("center_file", center_file, "file"),
        ("localiser", localiser, "localiser"),
    ):
        if value and center != wanted:
            raise InputError(f"--{flag} with --center={center}; add --center={wanted}.")
