"""Writes the depth frames of one's own camera rig as multi-view TFRecord files, without labels.

    python -m data_prep.rig_to_tfrecord --frames=rig/cam1,rig/cam2,rig/cam3 \\
        --calibration=rig/calibration.json --depth_unit=1 --output_dir=data/rig_records

What a record holds is dgn_tf/records/view_schema.py's to say; none has key points. The same flags
give the same bytes, whatever --workers is, and a run that was killed goes on with the shards that
are missing. A single camera is a rig too: its calibration needs nothing but intrinsics.
"""

import dataclasses
import os
import pathlib
import time

import numpy as np
import tensorflow as tf
from absl import flags

from data_prep import rig_frames
from data_prep.multi_view import centres, mirrored, record_set, steps
from data_prep.multi_view.calibration import read_calibration
from data_prep.multi_view.rig_check import FAR_APART_MM, check_rig
from dgn_tf import errors
from dgn_tf.depth_io import check_encoding
from dgn_tf.errors import InputError
from dgn_tf.template import HANDS

# Centres of mass lie on the surface that a camera sees: a hand's thickness apart, not a hand apart.

_FRAMES = flags.DEFINE_list(
    "frames",
    None,
    "16-bit depth PNGs of each camera, camera 1 first: folders, or quoted patterns "
    "such as 'rig/depth_1_*.png'. They show the hand of --hand.",
    required=True,
)
_CALIBRATION = flags.DEFINE_string(
    "calibration",
    None,
    "JSON file of the rig: intrinsics (fx, fy, cx, cy, width, height; one or "
    "a list) and, for several cameras, camera_from_camera1 [C, 4, 4] in mm.",
    required=True,
)
_DEPTH_UNIT = flags.DEFINE_float(
    "depth_unit",
    None,
    "mm for one step of the images: 1 for most cameras, 0.125 for an Intel "
    "SR305; 0 in an image is missing depth.",
    required=True,
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder for the records; --split gets one in it.", required=True
)
_SPLIT = flags.DEFINE_enum(
    "split", "train", ("train", "test"), "What the frames are for; training refuses test."
)
_SYNC = flags.DEFINE_enum(
    "sync",
    "name",
    rig_frames.SYNCS,
    "Frames taken together have the same name in their folders (or the same text for the wildcards "
    "of their patterns), or the same place in the order of names.",
)
_CENTER = flags.DEFINE_enum(
    "center",
    "localiser",
    (*centres.FOUND, "file"),
    "Centre of the crops: the hand that a localiser finds, the centre of mass of the nearest blob, "
    "or lines of --center_file.",
)
_LOCALISER = flags.DEFINE_string(
    "localiser", "", "Folder of a localiser for --center=localiser; empty: the one that ships."
)
_CENTER_FILE = flags.DEFINE_string(
    "center_file",
    "",
    "Text of one `x y z` a time step in the order of names, mm, camera frame, "
    "y down, or `invalid invalid invalid`; {camera} in the name stands for the camera's number, "
    "{split} for --split. Empty unless --center=file.",
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
    "Leave out unreadable frames and those that one camera lacks: counted, and listed in "
    "description.json. Otherwise the first is an error.",
)
flags.DEFINE_integer("limit", 0, "Time steps at most, from the first on; 0: all.", lower_bound=0)
flags.DEFINE_boolean(
    "check_rig",
    True,
    "Refuse a calibration by which the cameras' hands lie too far apart for one hand.",
)


def convert_rig(
    frames: tuple[str, ...],
    calibration: str | os.PathLike,
    depth_unit: float,
    output_dir: str | os.PathLike,
    writing: record_set.ViewWriting,
    split: str = "train",
    sync: str = "name",
) -> dict:
    """Converts a rig's frames into `output_dir`/`split`, by the flags of this module.

    Returns:
        The description.

    Raises:
        InputError: names the file or the flag; finished shards are kept, half ones removed.
    """
    check_encoding("u16", depth_unit)
    listed = [rig_frames.find_frames(given) for given in frames]
    cameras = tuple(range(1, len(listed) + 1))
    rig = read_calibration(calibration, len(cameras), exactly=True)
    source = rig_frames.match_frames(listed, sync, rig.frame_size, depth_unit)
    if not writing.skip_bad_frames:
        record_set.refuse_bad(pathlib.Path(source.root), source.listing.skipped)
        source.check_first()
    centre, hashes = _find_centres(writing, split, cameras, len(source.paths))
    source = dataclasses.replace(source, listing=source.listing.first(writing.limit))
    made = steps.Steps(source, cameras, rig, centre, None, writing.cube_mm, writing.skip_bad_frames)
    if writing.hand == "left":
        made = mirrored.mirrored_steps(made)
    if writing.must_fit:
        check_rig(made, calibration)
    words = record_set.centre_in_words(writing.center, writing.center_file, centre)
    plan = {
        **record_set.make_plan(split, made, words, writing.steps_per_shard, centre_sha256=hashes),
        "depth_unit_mm": depth_unit,
    }

    def facts(records):
        return {"centres_apart_mm": steps.centres_apart(records, cameras)}

    return record_set.write_views(
        pathlib.Path(output_dir) / split,
        plan,
        "rig",
        made,
        facts,
        (),
        writing.workers,
        writing.progress,
    )


def _find_centres(writing, split, cameras, count):
    """[C, N, 3] mm, or what finds them in frames; and the sha256 of each file."""
    if writing.center in centres.FOUND:
        return centres.FoundCentres(writing.center, writing.localiser), None
    if not writing.center_file:
        raise InputError("--center=file wants --center_file: a text of `x y z`, mm, one a step.")
    if len(cameras) > 1 and "{camera}" not in writing.center_file:
        raise InputError(
            f"--center_file={writing.center_file} is one file for {len(cameras)} cameras; write "
            "{camera} into its name."
        )
    read, hashes = [], []
    for camera in cameras:
        path = centres.centre_file(writing.center_file, split, camera)
        one, digest = centres.read_centres(path)
        centres.check_centres(path, one, count, None)
        read.append(one)
        hashes.append(digest)
    return np.stack(read), hashes


def report(description: dict, folder: str | os.PathLike, seconds: float) -> None:
    """Tells what was written, what was left out, and whether the rig fits the frames."""
    record_set.print_summary(description, folder, seconds)
    for camera, apart in description["centres_apart_mm"].items():
        print(
            f"    camera {camera}: its centres lie {apart['median']:g} mm from camera 1's in the "
            f"rig frame (median of {apart['steps']} steps; 95 %: {apart['p95']:g})"
        )
        if apart["median"] > FAR_APART_MM:
            print(
                "      too far for one hand: is camera_from_camera1 inverted, in metres or in "
                "another order than --frames, or do the frames not belong together?"
            )
    record_set.print_left_out(description)
    if not description["views"]:
        print("  no view has a hand; is --depth_unit right?")


def main(_):
    frames = tuple(_FRAMES.value)
    if not all(frames):
        raise InputError(f"--frames={','.join(frames)}: wanted a folder or pattern between commas.")
    centres.check_choice(_CENTER.value, _CENTER_FILE.value, _LOCALISER.value)
    # Sums of several threads round differently from one time to the next.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    begin = time.monotonic()
    description = convert_rig(
        frames,
        _CALIBRATION.value,
        _DEPTH_UNIT.value,
        _OUTPUT_DIR.value,
        record_set.ViewWriting.of_flags(),
        _SPLIT.value,
        _SYNC.value,
    )
    folder = os.path.join(_OUTPUT_DIR.value, _SPLIT.value)
    report(description, folder, time.monotonic() - begin)


if __name__ == "__main__":
    errors.run(main)
