"""Labelled key points from any of their files: joint_data.mat, multi-view records, text."""

import dataclasses
import gzip
import hashlib
import os
import pathlib

import numpy as np

from data_prep.nyu.labels import LABEL_FILE, read_labels
from dgn_tf.errors import InputError
from dgn_tf.evaluation.nyu import MAX_LINE, SUBJECT1_FRAMES, TEST_FRAMES, read_uvd, xyz_from_uvd
from dgn_tf.geometry import mirror
from dgn_tf.records.schema import DESCRIPTION_FILE
from dgn_tf.records.views import open_views
from dgn_tf.synthesis.pose_prior import EXPERIMENT, WHOLE_TRAINING
from dgn_tf.template import EVALUATED, nyu_keypoint_names
from dgn_tf.training.real_frames import NYU_TRAINING_FRAMES


@dataclasses.dataclass(frozen=True, eq=False)
class KeypointLabels:
    """Key points of N frames.

    Attributes:
        keypoints: [N, J, 3] float64 mm, camera frame, y down; NaN where missing. A right hand's:
            those of a left one are mirrored (`dgn_tf.geometry.mirror`).
        names: J.
        frames: [N] int64 numbers of the frames, from 0.
        subjects: [N] int64 from 1: NYU's test split has two, other sets count as one.
        source: file and hash, in words.
        status: `WHOLE_TRAINING` or `EXPERIMENT`.
    """

    keypoints: np.ndarray
    names: tuple[str, ...]
    frames: np.ndarray
    subjects: np.ndarray
    source: str
    status: str

    def with_keypoints(self, which: np.ndarray) -> "KeypointLabels":
        """The same frames with the key points of indices `which` alone."""
        return dataclasses.replace(
            self, keypoints=self.keypoints[:, which], names=tuple(self.names[j] for j in which)
        )


def read_keypoints(
    path: str | os.PathLike, camera: int = 1, every: int = 1, hand: str = "right"
) -> KeypointLabels:
    """Reads labels.

    Args:
        path: joint_data.mat or its folder; a folder of `data_prep.nyu_to_tfrecord`'s records; or a
            text of NYU test frames, one line of 14 or 36 x (u px, v px, d mm) a frame.
        camera: whose frame the key points are in, from 1; text has camera 1's.
        every: line k of a text, from 0, is frame k * every.
        hand: the hand that was labelled, `left` or `right`; records say themselves.

    Raises:
        InputError: the file can't be read or holds no labels, another camera than 1 is asked of
            a text, or a left hand of records; names it.
    """
    path = pathlib.Path(path)
    if path.is_dir() and (path / LABEL_FILE).is_file():
        path = path / LABEL_FILE
    if path.suffix == ".mat":
        return _of_hand(_of_matlab(path, camera), hand)
    if (path / DESCRIPTION_FILE).is_file():
        if hand == "left":
            raise InputError(
                f"--hand=left: {path} are records, which hold right hands, mirrored "
                "where they were left ones; leave the flag out."
            )
        return _of_records(path, camera)
    if path.is_dir():
        raise InputError(
            f"--input={path}: holds neither {LABEL_FILE} nor records; name a split's "
            "folder of NYU or of data_prep.nyu_to_tfrecord's output."
        )
    if camera != 1:
        raise InputError(
            f"--camera={camera}: {path} is taken for a text, which has camera 1's key "
            "points alone; leave the flag out."
        )
    return _of_hand(_of_text(path, every), hand)


def _of_hand(labels, hand):
    if hand == "right":
        return labels
    return dataclasses.replace(
        labels,
        keypoints=mirror.mirror_points(labels.keypoints),
        source=f"{labels.source}, of a left hand, mirrored",
    )


def _of_matlab(path, camera):
    labels = read_labels(path, (camera,))
    count = labels.xyz.shape[1]
    status = WHOLE_TRAINING if count >= NYU_TRAINING_FRAMES else EXPERIMENT
    frames = np.arange(count)
    return KeypointLabels(
        labels.xyz[camera - 1].astype(np.float64),
        nyu_keypoint_names(),
        frames,
        _subjects(frames, count == TEST_FRAMES),
        f"{path.parent.name}/{path.name}, camera {camera}, sha256 {labels.sha256}",
        status,
    )


def _of_records(path, camera):
    records = open_views(str(path))
    if not records.description["labels"]:
        raise InputError(f"--input={path}: records without labels; convert with --labels=auto.")
    place = records.places([camera])[0]
    frames, keypoints = [], []
    for row, serialized in enumerate(records.store):
        step = records.parse(serialized, row)
        valid = step["keypoints_valid"][place].numpy()[:, None] > 0
        keypoints.append(np.where(valid, step["keypoints"][place].numpy(), np.nan))
        frames.append(int(step["index"]) - 1)
    described = records.description
    whole = described["frames"] + len(described["skipped"]) >= NYU_TRAINING_FRAMES
    whole &= "labels_are" not in described  # estimates of dgn_tf.annotate
    return KeypointLabels(
        np.stack(keypoints).astype(np.float64),
        tuple(described["keypoints"]),
        np.array(frames),
        _subjects(np.array(frames), described.get("subject1_frames") is not None),
        f"{path.name} records, camera {camera}, content {described['content_hash']}",
        WHOLE_TRAINING if whole and described["split"] == "train" else EXPERIMENT,
    )


def _of_text(path, every):
    names = nyu_keypoint_names()
    joints = _joints_a_line(path)
    uvd = read_uvd(path, joints)
    xyz = xyz_from_uvd(uvd)
    xyz[~(np.isfinite(uvd).all(axis=-1) & (uvd[..., 2] > 0))] = np.nan
    frames = np.arange(len(uvd)) * every
    if frames[-1] >= TEST_FRAMES:
        raise InputError(
            f"--input={path}: {len(uvd)} lines at --every={every} are more than NYU's "
            f"{TEST_FRAMES} test frames; lower --every."
        )
    named = names if joints == len(names) else tuple(names[joint] for joint in EVALUATED)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return KeypointLabels(
        xyz,
        named,
        frames,
        _subjects(frames, True),
        f"{path.name}, NYU test frames, sha256 {digest}",
        EXPERIMENT,
    )


def _joints_a_line(path):
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="ascii") as lines:
            count = len(lines.readline(MAX_LINE).split())
    except (OSError, EOFError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"--input={path}: can't be read ({reason}); name {LABEL_FILE}, a folder "
            "of records or a text of u v d."
        ) from None
    return 36 if count == 3 * 36 else 14


def _subjects(frames, nyu_test):
    return np.where(frames < SUBJECT1_FRAMES, 1, 2) if nyu_test else np.ones(len(frames), np.int64)
