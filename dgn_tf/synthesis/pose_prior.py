"""Poses that were fitted to real labels, for synthesis to draw from (`--pose_prior`).

`data_prep.fit_template` writes the file, which holds more than is read here. Angles go from the
template that was fitted to another by the names of their bones: what they count from, the rest
pose, differs, and the middles of the joint limits are taken to tell by how much. Where limits were
widened to include a rest pose beyond them (`data_prep.bone_frames.joint_limits`), that is wrong by
half the widening.
"""

import dataclasses
import functools
import hashlib
import os
from typing import NamedTuple

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.npz_file import read_arrays

FORMAT = "dgn_tf pose prior 1"
WHOLE_TRAINING = "NYU's training split"
EXPERIMENT = (
    "experiment: poses of labels that are not NYU's training split; what learns from "
    "them is not to be shipped"
)
_REMEDY = "give a file that python -m data_prep.fit_template wrote"
# What is read, and its kind of dtype.
_FIELDS = {
    "format": "U",
    "part_names": "U",
    "joint_limits": "f",
    "joint_angles": "f",
    "observed": "b",
    "usable": "b",
    "template_hash": "U",
    "status": "U",
    "source": "U",
}
_KINDS = {"U": "text", "f": "floating-point numbers", "b": "truth values"}


@dataclasses.dataclass(frozen=True, eq=False)
class PosePrior:
    """Joint angles of M hands.

    Attributes:
        part_names: P canonical names (palm, thumb1 .. little3).
        joint_limits: [P, 3, 2] rad of the template that was fitted.
        angles: [M, P, 3] rad from that template's rest pose, NaN where no key point told.
        template_hash: of that template.
        status: `WHOLE_TRAINING` or `EXPERIMENT`.
        source: what was fitted, in words.
    """

    part_names: tuple[str, ...]
    joint_limits: np.ndarray
    angles: np.ndarray
    template_hash: str
    status: str
    source: str

    @classmethod
    def load(cls, path: str | os.PathLike) -> "PosePrior":
        """Reads the usable poses of a file.

        Raises:
            InputError: unreadable, of another format, arrays that contradict each other, or no
                usable pose.
        """
        fields = _read(path)
        _check(fields, path)
        angles, limits = fields["joint_angles"], fields["joint_limits"]
        names = tuple(fields["part_names"].tolist())
        if not (np.isfinite(angles).all() and np.isfinite(limits).all()):
            raise InputError(f"--pose_prior={path}: holds NaN or infinity; {_REMEDY}.")
        usable = fields["usable"].astype(bool)
        if not usable.any():
            raise InputError(
                f"--pose_prior={path}: none of its {len(usable)} poses is usable; fit "
                "again with a larger --max_residual_mm."
            )
        known = np.where(fields["observed"].astype(bool)[..., None], angles, np.nan)
        return cls(
            names,
            limits.astype(np.float64),
            known[usable].astype(np.float64),
            *(str(fields[name]) for name in ("template_hash", "status", "source")),
        )

    @functools.cached_property
    def content_hash(self) -> str:
        """sha256 (hex) of what synthesis draws from, and of the status."""
        digest = hashlib.sha256("\0".join([*self.part_names, self.status]).encode())
        for array in (self.joint_limits, self.angles):
            digest.update(np.ascontiguousarray(array, "<f8").tobytes())
        return digest.hexdigest()

    def facts(self) -> dict:
        """What records' descriptions and models' `config.json` are to say of it."""
        return {
            "content_hash": self.content_hash,
            "poses": len(self.angles),
            "template_hash": self.template_hash,
            "source": self.source,
            "status": self.status,
        }

    @functools.lru_cache(maxsize=8)  # noqa: B019 - a process has one or two priors
    def angles_for(self, template) -> np.ndarray:
        """[M, P', 3] rad from the rest pose of `template`, within its limits.

        NaN for the root, and for parts that this prior does not know.

        Raises:
            InputError: no part but the root has a name in common.
        """
        result = np.full([len(self.angles), len(template.part_names), 3], np.nan)
        low, high = np.moveaxis(np.asarray(template.joint_limits, np.float64), -1, 0)
        shared = 0
        for part, name in enumerate(template.part_names):
            if part == 0 or name not in self.part_names:
                continue
            shared += 1
            own = self.part_names.index(name)
            shift = (low[part] + high[part] - self.joint_limits[own].sum(axis=-1)) / 2
            result[:, part] = np.clip(self.angles[:, own] + shift, low[part], high[part])
        if not shared:
            raise InputError(
                f"--pose_prior: its parts ({', '.join(self.part_names[:4])}, ...) are "
                f"not those of template {template.name}; fit one whose bones have "
                "the same names."
            )
        return result


def load_for(config, path: str | os.PathLike | None) -> PosePrior | None:
    """Reads the prior that a sampler is to draw from.

    Args:
        config: SynthesisConfig of the sampler.
        path: that of --pose_prior; None or empty: no prior.

    Raises:
        InputError: as of `PosePrior.load`, or the sampler takes no frame's pose from a prior.
    """
    if not path:
        return None
    if config.pose.prior_share <= 0:
        raise InputError(
            f"--pose_prior={path}: the sampler takes no pose from it (pose.prior_share"
            f" is {config.pose.prior_share:g}); leave the flag out or raise the share "
            "in the sampler's file."
        )
    return PosePrior.load(path)


def _check(fields, path):
    hands = fields["joint_angles"].shape[:1] or (1,)
    parts = (fields["part_names"].size,)
    shapes = {
        "part_names": parts,
        "joint_limits": (*parts, 3, 2),
        "observed": hands + parts,
        "usable": hands,
        "joint_angles": (*hands, *parts, 3),
    }
    for name, kind in _FIELDS.items():
        array, shape = fields[name], shapes.get(name, ())
        if array.dtype.kind != kind:
            raise InputError(
                f"--pose_prior={path}: {name} holds {array.dtype}, wanted "
                f"{_KINDS[kind]}; {_REMEDY}."
            )
        if array.shape != shape:
            raise InputError(
                f"--pose_prior={path}: {name} is {list(array.shape)}, wanted "
                f"{list(shape)}; {_REMEDY}."
            )


def _read(path):
    try:
        found = read_arrays(path, ("format", *_FIELDS))
    except OSError as error:
        raise InputError(
            f"--pose_prior={path}: cannot be read ({error.strerror or error}); {_REMEDY}."
        ) from None
    except ValueError as error:
        raise InputError(f"--pose_prior={path}: damaged or no .npz ({error}); {_REMEDY}.") from None
    if str(found.get("format")) != FORMAT:
        raise InputError(f"--pose_prior={path}: is no pose prior of format '{FORMAT}'; {_REMEDY}.")
    missing = [name for name in _FIELDS if name not in found]
    if missing:
        raise InputError(f"--pose_prior={path}: has no field '{missing[0]}'; {_REMEDY}.")
    return {name: found[name] for name in _FIELDS}


# Hands that somebody else has posed, to be rendered as synthetic frames (Sec. 4.4).


class GivenSettings(NamedTuple):
    """How frames differ from the hands that are given."""

    angle_noise: float = 0.04  # deviation added to the angles, of each limit's range
    shape_sigma: float = 0.3  # deviation added to the shape coefficients
    view_share: float = 0.5  # of frames: seen as given, rolled at random; the rest as sampled ones
    view_noise_degrees: float = 10.0  # deviation of the views as given


class GivenHands(NamedTuple):
    """M posed hands; float64, contiguous.

    Attributes:
        angles: [M, P, 3] radians about the bone frames' axes, the root's 0.
        shape: [M, K] coefficients of the template's shape basis.
        rotation: [M, 3, 3] view_from_template, in the frame whose z axis is the ray to the hand
            (see `dgn_tf.geometry.upright`).
        settings: GivenSettings.
    """

    angles: np.ndarray
    shape: np.ndarray
    rotation: np.ndarray
    settings: GivenSettings = GivenSettings()

    def rows(self, chosen) -> "GivenHands":
        """The hands of a slice or of indices."""
        return GivenHands(
            np.ascontiguousarray(self.angles[chosen]),
            np.ascontiguousarray(self.shape[chosen]),
            np.ascontiguousarray(self.rotation[chosen]),
            self.settings,
        )


def joined(several: list[GivenHands]) -> GivenHands:
    """All the hands of several, in order; the settings are the first's."""
    return GivenHands(
        np.concatenate([hands.angles for hands in several]),
        np.concatenate([hands.shape for hands in several]),
        np.concatenate([hands.rotation for hands in several]),
        several[0].settings,
    )


def no_hands(parts: int, shapes: int) -> GivenHands:
    """None of P parts and K shapes."""
    return GivenHands(np.empty([0, parts, 3]), np.empty([0, shapes]), np.empty([0, 3, 3]))
