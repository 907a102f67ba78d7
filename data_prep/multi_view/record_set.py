"""Writes a split's time steps as a set of records, and tells what became of them."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

from absl import flags

from data_prep.multi_view import centres, steps
from data_prep.multi_view.calibration import Rig
from data_prep.sharded_records import write_set
from dgn_tf.errors import InputError
from dgn_tf.records import view_schema
from dgn_tf.records.record_folder import hand_of
from dgn_tf.template.hand_template import nyu_keypoint_names

_LISTED = 10  # of skipped frames on the screen; description.json has them all


@dataclasses.dataclass(frozen=True)
class ViewWriting:
    """How frames of several cameras become records: flags that the writers share, by their names.

    Attributes:
        center, center_file, localiser: where the crops' centres come from.
        cube_mm: side of the crops' cube.
        workers: processes; 0: one for each processor.
        steps_per_shard: time steps in a file.
        skip_bad_frames: leave out, and list, what can't be read; else it ends the conversion.
        hand: that the frames show; of a left one everything is mirrored.
        must_fit: refuse a calibration by which the views can't be one hand's (--check_rig).
        limit: time steps at most, from the first on; 0: all.
        progress: show a bar.
    """

    center: str = "joint"
    center_file: str = ""
    localiser: str = ""
    cube_mm: float = 300.0
    workers: int = 0
    steps_per_shard: int = 256
    skip_bad_frames: bool = False
    hand: str = "right"
    must_fit: bool = True
    limit: int = 0
    progress: bool = True

    @classmethod
    def of_flags(cls) -> "ViewWriting":
        """As the command line of a writer says, whose flags have these names."""
        names = [field.name for field in dataclasses.fields(cls) if field.name in flags.FLAGS]
        given: dict[str, Any] = {name: flags.FLAGS[name].value for name in names}
        return cls(**given, must_fit=flags.FLAGS.check_rig)


def make_plan(
    split: str,
    made: steps.Steps,
    centre: str,
    steps_per_shard: int,
    labels_sha256: str | None = None,
    centre_sha256: list[str] | None = None,
) -> dict:
    """What the records depend on, as JSON values.

    Args:
        split: its name.
        made: the time steps.
        centre: what the crops are centred at, in words.
        steps_per_shard: time steps in a file, about.
        labels_sha256: of the file of labels, hex.
        centre_sha256: of the files of centres, hex.
    """
    count = len(made.frames.listing.indices)
    return {
        "format_version": view_schema.FORMAT_VERSION,
        "kind": view_schema.KIND,
        "split": split,
        "cameras": list(made.cameras),
        "hand": made.hand,
        "count": count,
        "shards": -(-count // steps_per_shard),
        "keypoints": list(nyu_keypoint_names()),
        "cube_mm": made.cube_mm,
        "centre": centre,
        "labels": made.keypoints is not None,
        "listing_sha256": made.frames.hash(),
        "labels_sha256": labels_sha256,
        "centre_sha256": centre_sha256,
        "calibration": made.rig.calibration,
        "skip_bad_frames": made.skip_bad,
    }


def write_views(
    folder: str | os.PathLike,
    plan: dict,
    prefix: str,
    made: steps.Steps,
    facts: Callable[[Callable[[], Iterable[bytes]]], dict],
    masked: tuple[dict, ...] = (),
    workers: int = 0,
    progress: bool = True,
) -> dict:
    """Writes what is missing of a split's records, then its description.json.

    Args:
        folder: of the split, made if need be.
        plan: of `make_plan`.
        prefix: of the files' names.
        made: the time steps.
        facts: further entries of the description; its argument goes through all records.
        masked: [{"file", "why"}] of labels, to be listed before the skipped frames.
        workers: shards written at once, 0 for one per processor.
        progress: show a bar.

    Returns:
        The description.

    Raises:
        InputError: see `sharded_records.write_set`; or a frame is bad and none may be skipped.
    """

    def batches(numbers):
        for number in numbers:
            yield [made.encode(number)]

    def details(records):
        counted = steps.account(made, records)
        spec = view_schema.feature_spec(len(made.cameras), len(nyu_keypoint_names()))
        spec |= view_schema.mirror_spec() if made.hand == "left" else {}
        return {
            "frames": plan["count"],
            **{key: counted[key] for key in ("views", "keypoints_valid", "keypoints_masked")},
            "depth_unit_mm": made.frames.depth_unit_mm,
            "window_per_cube": steps.WINDOW_PER_CUBE,
            "extrinsics": _describe_rig(made.rig, made.cameras),
            **facts(records),
            "skipped": [*masked, *counted["skipped"]],
            "without_hand": counted["without_hand"],
            "features": {name: f"{s.dtype.name} {list(s.shape)}" for name, s in spec.items()},
        }

    return write_set(
        folder,
        plan,
        prefix,
        batches,
        details,
        workers,
        progress,
        frames_per_record=len(made.cameras),
    )


def refuse_bad(root: pathlib.Path, bad: list[dict]) -> None:
    """Raises InputError that names the first of `bad` [{"file", "why"}], files below `root`."""
    if not bad:
        return
    first = bad[0]
    more = f"; {len(bad) - 1} more like it" if len(bad) > 1 else ""
    raise InputError(
        f"{root / first['file']}: {first['why'].removesuffix('; masked')}{more}. Copy what is "
        "wrong again, or leave it out with --skip_bad_frames."
    )


def centre_in_words(center: str, center_file: str, found) -> str:
    """What description.json says of --center, --center_file and what `found` the centres."""
    if isinstance(found, centres.FoundCentres):
        return found.words
    return centres.ORACLE if center == "joint" else f"file:{os.path.basename(center_file)}"


def _describe_rig(rig: Rig, cameras) -> dict:
    residual = rig.residual_mm
    if residual is not None:
        residual = {camera: v for camera, v in residual.items() if int(camera) in cameras}
    return {
        "source": rig.source,
        "residual_mm": residual,
        "camera_from_rig": {str(c): rig.camera_from_rig[c - 1].tolist() for c in cameras},
    }


def print_summary(description: dict, folder: str | os.PathLike, seconds: float) -> None:
    """Tells how much was written, and from where the centres and the rig come."""
    cameras = description["cameras"]
    print(
        f"{folder}: {description['frames']} steps, {description['views']} of "
        f"{description['frames'] * len(cameras)} views, {description['keypoints_valid']} key "
        f"points, {description['keypoints_masked']} masked; {seconds:.1f} s; "
        f"content {description['content_hash'][:16]}"
    )
    if hand_of(description) == "left":
        print("  hand: left; the records hold its mirror image, a right one")
    print(f"  centre: {description['centre']}")
    print(f"  extrinsics: {description['extrinsics']['source']}")


def print_left_out(description: dict) -> None:
    """Tells which frames and views were left out."""
    for key, what in (("skipped", "skipped"), ("without_hand", "views without a hand")):
        found = description[key]
        print(f"  {what}: {len(found)}")
        for entry in found[:_LISTED]:
            print(f"    {entry['file']}: {entry['why']}")
        if len(found) > _LISTED:
            print(f"    and {len(found) - _LISTED} more, in description.json")
