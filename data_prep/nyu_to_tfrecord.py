"""Writes the NYU Hand Pose data set as multi-view TFRecord files, one record per time step.

    python -m data_prep.nyu_to_tfrecord --nyu_dir=DIR --output_dir=data/nyu_records

What a record holds is dgn_tf/records/view_schema.py's to say. The same flags give the same bytes,
whatever --workers is, and a run that was killed goes on with the shards that are missing.

--center=joint crops at the labelled palm centre. That is the field's usual protocol and an oracle:
a hand in use has no label. The description and every figure scored on such records say so.
"""

import os
import pathlib
import time

import numpy as np
import tensorflow as tf
from absl import flags

from data_prep.multi_view import centres, mirrored, record_set, steps
from data_prep.multi_view.calibration import read_calibration
from data_prep.multi_view.rig_check import check_rig
from data_prep.nyu import frames, labels
from data_prep.nyu import rig as rigs
from dgn_tf import errors
from dgn_tf.errors import InputError
from dgn_tf.evaluation.nyu import SUBJECT1_FRAMES, TEST_FRAMES
from dgn_tf.template import HANDS

SPLITS = ("train", "test")

_NYU_DIR = flags.DEFINE_string(
    "nyu_dir", None, "Folder that holds train/ and test/, as NYU distributes them.", required=True
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder for the records; each split gets one in it.", required=True
)
_SPLITS = flags.DEFINE_list("splits", "train,test", "Which of train and test.")
_CAMERAS = flags.DEFINE_list("cameras", "1,2,3", "Numbers of the cameras, from 1.")
_CENTER = flags.DEFINE_enum(
    "center",
    "joint",
    centres.MODES,
    "Centre of the crops: the palm's label (an oracle); without labels, the hand that a localiser "
    "finds or the centre of mass of the nearest blob; or lines of --center_file.",
)
_CENTER_FILE = flags.DEFINE_string(
    "center_file",
    "",
    "Text of one `x y z` a frame, mm, camera frame, y down; {split} and "
    "{camera} in the name stand for them. Empty unless --center=file.",
)
_LOCALISER = flags.DEFINE_string(
    "localiser", "", "Folder of a localiser for --center=localiser; empty: the one that ships."
)
_LABELS = flags.DEFINE_enum(
    "labels",
    "auto",
    ("auto", "extrinsics", "none"),
    "auto keeps the key points of joint_data.mat where it is; extrinsics finds from them how the "
    "cameras see each other, and keeps none; none doesn't open the file.",
)
_CALIBRATION = flags.DEFINE_string(
    "calibration", "", "JSON file of the rig; empty to find the rig from the labels."
)
flags.DEFINE_float(
    "cube_mm", 300.0, "Side of the crops' cube, mm.", lower_bound=50.0, upper_bound=2000.0
)
flags.DEFINE_enum(
    "hand",
    "right",
    HANDS,
    "The hand that the frames show. Of a left one frames, labels, centres and cameras are "
    "mirrored: the records hold a right hand and say that it was a left one.",
)
flags.DEFINE_integer(
    "workers", 0, "Shards written at once; 0 for one per processor.", lower_bound=0
)
flags.DEFINE_integer("steps_per_shard", 256, "Time steps in a file, about.", lower_bound=1)
flags.DEFINE_boolean(
    "skip_bad_frames",
    False,
    "Leave out unreadable and missing frames, frames without label and key points that are NaN: "
    "counted, and listed in description.json. Otherwise the first is an error.",
)
flags.DEFINE_integer("limit", 0, "Time steps at most, from the first on; 0: all.", lower_bound=0)
flags.DEFINE_boolean(
    "check_rig",
    True,
    "Refuse a --calibration by which the cameras' hands lie too far apart for one hand.",
)


def convert_split(
    nyu_dir: str | os.PathLike,
    output_dir: str | os.PathLike,
    split: str,
    writing: record_set.ViewWriting,
    cameras: tuple[int, ...] = (1, 2, 3),
    use_labels: str = "auto",
    calibration: str = "",
) -> dict:
    """Converts one split into `output_dir`/`split`, by the flags of this module.

    Returns:
        The description.

    Raises:
        InputError: names the file or the flag; finished shards are kept, half ones removed.
    """
    folder = pathlib.Path(nyu_dir) / split
    listed = frames.list_frames(folder, cameras)
    found = _read_labels(folder, cameras, writing.center, use_labels)
    if found and not calibration:
        labels.check_same_frames(found)
    listing = frames.match_labels(folder, listed, found and found.xyz.shape[1], labels.LABEL_FILE)
    bad = labels.bad_labels(found, cameras, listing.indices - 1) if found else []
    if not writing.skip_bad_frames:
        record_set.refuse_bad(folder.parent, listing.skipped + bad)
    if not len(listing.indices):
        raise InputError(f"{folder}: no frame has a label; wrong --nyu_dir or joint_data.mat?")
    rig = _find_rig(calibration, found, cameras)
    places = np.asarray(cameras) - 1
    # Rows run to the last index: without labels, that of the frames.
    centre, centre_hashes = _find_centres(writing, split, cameras, found, int(listing.indices[-1]))
    kept = found.xyz[places] if found and use_labels == "auto" else None
    source = frames.NyuFrames(folder, cameras, listing.first(writing.limit), rig.frame_size)
    made = steps.Steps(source, cameras, rig, centre, kept, writing.cube_mm, writing.skip_bad_frames)
    if writing.hand == "left":
        made = mirrored.mirrored_steps(made)
    if calibration and writing.must_fit:
        check_rig(made, calibration)
    plan = record_set.make_plan(
        split,
        made,
        record_set.centre_in_words(writing.center, writing.center_file, centre),
        writing.steps_per_shard,
        found.sha256 if found else None,
        centre_hashes,
    )

    def facts(_):
        return {
            "reprojection_px": found.reprojection_px if found else None,
            "subject1_frames": _subject1(split, found),
        }

    return record_set.write_views(
        pathlib.Path(output_dir) / split,
        plan,
        "nyu",
        made,
        facts,
        tuple(bad),
        writing.workers,
        writing.progress,
    )


def _read_labels(folder, cameras, center, use_labels):
    """Labels where there are any and they may be read; an error where they are needed."""
    path = folder / labels.LABEL_FILE
    if use_labels == "none":
        if center == "joint":
            raise InputError(
                "--labels=none doesn't open them, and --center=joint crops at their palm centres; "
                "use --center=localiser, or --labels=extrinsics."
            )
        return None
    if path.exists():
        return labels.read_labels(path, cameras)
    if center == "joint":
        raise InputError(
            f"{path}: no such file, and --center=joint crops at its palm centres; copy it there, "
            "or use --center=localiser."
        )
    if use_labels == "auto":
        print(f"{path}: no such file; the records hold no key points, as with --labels=none.")
    return None


def _find_rig(calibration, found, cameras):
    last = max(cameras)
    if calibration:
        rig = read_calibration(calibration, last)
        return rigs.check_against_labels(rig, found.xyz[:last]) if found else rig
    return rigs.rig_from_labels(found.xyz, cameras) if found else rigs.unknown_rig(last)


def _find_centres(writing, split, cameras, found, last):
    """[C, N, 3] mm, or what finds them in frames; and the sha256 of each file."""
    places = np.asarray(cameras) - 1
    palm = found.xyz[places, :, labels.CENTRE_JOINT] if found else None
    if writing.center == "joint":
        return palm, None
    if writing.center in centres.FOUND:
        return centres.FoundCentres(writing.center, writing.localiser), None
    centres.check_pattern(writing.center_file, (split,), cameras)
    read, hashes = [], []
    for place, camera in enumerate(cameras):
        path = centres.centre_file(writing.center_file, split, camera)
        one, digest = centres.read_centres(path)
        count = last if palm is None else palm.shape[1]
        centres.check_centres(path, one, count, None if palm is None else palm[place])
        read.append(one)
        hashes.append(digest)
    return np.stack(read), hashes


def _subject1(split, found):
    whole = split == "test" and found is not None and found.xyz.shape[1] == TEST_FRAMES
    return SUBJECT1_FRAMES if whole else None


def _report(description, folder, seconds):
    record_set.print_summary(description, folder, seconds)
    for camera, residual in (description["extrinsics"]["residual_mm"] or {}).items():
        values = ", ".join(f"{name} {residual[name]:g}" for name in ("mean", "p95", "max"))
        print(
            f"    camera {camera} to 1, residual in mm: {values}; {residual['left_out']} frames "
            "far off"
        )
    for camera, off in (description["reprojection_px"] or {}).items():
        print(
            f"    camera {camera}, joint_xyz off joint_uvd, px: mean {off['mean']:g}, max "
            f"{off['max']:g}"
        )
    record_set.print_left_out(description)


def _flag_cameras():
    try:
        cameras = tuple(int(camera) for camera in _CAMERAS.value)
    except ValueError:
        cameras = ()
    if not cameras or min(cameras) < 1 or len(set(cameras)) < len(cameras):
        raise InputError(
            f"--cameras={','.join(_CAMERAS.value)}: wanted different numbers from 1 on, such as "
            "1,3."
        )
    return tuple(sorted(cameras))


def main(_):
    cameras = _flag_cameras()
    splits = tuple(_SPLITS.value)
    if not splits or set(splits) - set(SPLITS) or len(set(splits)) < len(splits):
        raise InputError(f"--splits={','.join(splits)}: wanted train, test or both.")
    if _CENTER.value == "file":
        centres.check_pattern(_CENTER_FILE.value, splits, cameras)
    centres.check_choice(_CENTER.value, _CENTER_FILE.value, _LOCALISER.value)
    # Sums of several threads round differently from one time to the next.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    for split in splits:
        begin = time.monotonic()
        description = convert_split(
            _NYU_DIR.value,
            _OUTPUT_DIR.value,
            split,
            record_set.ViewWriting.of_flags(),
            cameras,
            _LABELS.value,
            _CALIBRATION.value,
        )
        folder = os.path.join(_OUTPUT_DIR.value, split)
        _report(description, folder, time.monotonic() - begin)


if __name__ == "__main__":
    errors.run(main)
