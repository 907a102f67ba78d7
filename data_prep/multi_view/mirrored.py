"""A left hand's frames, labels and rig as those of a right one: what `--hand=left` converts."""

import dataclasses

import numpy as np

from data_prep.multi_view.calibration import Rig
from data_prep.multi_view.steps import FrameSource, Listing, Steps
from dgn_tf.geometry import mirror


def mirrored_steps(steps: Steps) -> Steps:
    """The steps of a left hand's recording, with everything mirrored.

    Centres that are found in frames are found in the mirrored ones.
    """
    return dataclasses.replace(
        steps,
        frames=MirroredFrames(steps.frames),
        rig=mirrored_rig(steps.rig),
        centre=_mirrored_points(steps.centre),
        keypoints=_mirrored_points(steps.keypoints),
        hand="left",
    )


def mirrored_rig(rig: Rig) -> Rig:
    """The rig whose cameras see the mirrored frames, in a mirrored rig frame."""
    # + 0: no -0 among the zeros of a rotation.
    return dataclasses.replace(
        rig,
        intrinsics=mirror.mirror_intrinsics(rig.intrinsics, rig.frame_size[0]),
        camera_from_rig=mirror.mirror_transforms(rig.camera_from_rig) + 0.0,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class MirroredFrames:
    """The frames of another `steps.FrameSource`, their columns reversed."""

    frames: FrameSource

    @property
    def listing(self) -> Listing:
        return self.frames.listing

    @property
    def depth_unit_mm(self) -> float:
        return self.frames.depth_unit_mm

    def name(self, number: int, view: int) -> str:
        """The file of a step's view, which is not mirrored."""
        return self.frames.name(number, view)

    def read(self, number: int, view: int) -> np.ndarray:
        """[H, W] uint16, 0 = missing; InputError: unreadable, or of another size or kind."""
        return mirror.mirror_image(self.frames.read(number, view))

    def hash(self) -> str:
        """That of the frames as they are."""
        return self.frames.hash()


def _mirrored_points(points):
    return mirror.mirror_points(points) if isinstance(points, np.ndarray) else points
