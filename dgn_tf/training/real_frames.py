"""Frames with key-point labels alone, beside synthetic ones in every batch (Sec. 3.4)."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.evaluation.mesh_truth import columns_by_name
from dgn_tf.records.batches import WHOLE, Batching, Share
from dgn_tf.records.schema import DESCRIPTION_FILE
from dgn_tf.records.view_crops import AugmentConfig
from dgn_tf.records.views import WRITER, StepChoice, view_dataset, view_description

# What both kinds of frame have, and what synthetic ones have besides.
SHARED = ("depth", "intrinsics", "centre", "cube", "keypoints")
SYNTHETIC_TRUTH = (
    "vertices",
    "mesh_coords",
    "mesh_layer",
    "correspondence_mask",
    "palm_axis",
)

NYU_TRAINING_FRAMES = 72_757  # time steps of NYU's training split
ESTIMATED = "experiment: its labels are a network's estimates, of dgn_tf.annotate"
EXPERIMENT = "experiment: not NYU's whole training split; these weights are not to be shipped"
HELD_OUT_SEED = 1_000_002  # of the choice among the held-out views
HELD_OUT_BATCH = 48


@dataclasses.dataclass(frozen=True)
class RealFrames:
    """A split of multi-view records, each view an example of its own.

    Attributes:
        folder: of the training split's records (`--real_records`).
        cameras: numbers (from 1) of those whose views are used; none: every one.
        labelled_fraction: share of the time steps whose labels are used at all, evenly
            spread: of those learnt from as of those held out.
        held_out: share of the time steps, in blocks, that no training step sees.
        size: side of the crops, pixels.
    """

    folder: str
    cameras: tuple[int, ...] = ()
    labelled_fraction: float = 1.0
    held_out: float = 0.1
    size: int = 64

    def description(self, template) -> dict:
        """`description.json` of the records, once they are fit to learn from.

        Raises:
            InputError: nothing there, records of another kind, of the test split or without
                labels, none of the template's evaluated key points, a camera that they lack.
        """
        flag = f"--real_records={self.folder}"
        description = training_description(
            "--real_records",
            self.folder,
            self.cameras,
            f"python -m {WRITER} --nyu_dir=DIR --output_dir={{output}} writes them to {{split}}",
        )
        if not description["labels"]:
            raise InputError(
                f"{flag}: converted with --labels=none; convert again with --labels=auto."
            )
        columns_by_name(description["keypoints"], template, flag)
        return description

    def facts(self, template) -> dict:
        """What a model's `config.json` and its card are to say of the real frames behind it.

        Raises:
            InputError: see `description`.
        """
        description = self.description(template)
        return {
            "content_hash": description["content_hash"],
            "time_steps": description["frames"],
            "cameras": list(self.cameras) or description["cameras"],
            "centre": description["centre"],
            "labelled_fraction": self.labelled_fraction,
            "held_out": self.held_out,
            "status": ESTIMATED if "labels_are" in description else status_of(description),
        }

    def training(
        self, template, batch_size: int, seed: int, start_step: int = 0, share: Share = WHOLE
    ) -> tf.data.Dataset:
        """Endless augmented batches of what is not held out; batch k depends on seed and k.

        The key points are the template's, by name; those without a label are not valid.
        """
        views = view_dataset(
            self.folder,
            camera=self.cameras,
            augment=AugmentConfig(),
            size=self.size,
            batching=Batching(
                batch_size=batch_size,
                shuffle=True,
                seed=seed,
                start_step=start_step,
                repeat=True,
                share=share,
            ),
            choice=StepChoice(
                labelled_fraction=self.labelled_fraction, part="train", held_out=self.held_out
            ),
        )
        return self._for_template(views, template)

    def held_out_batches(self, template, frames: int) -> list[dict]:
        """Up to `frames` held-out views as they are, not augmented; the same at each call.

        Returns:
            batches of `view_dataset`; none where nothing is held out.
        """
        if not self.held_out:
            return []
        batch_size = min(frames, HELD_OUT_BATCH)
        views = view_dataset(
            self.folder,
            camera=self.cameras,
            augment=None,
            size=self.size,
            batching=Batching(
                batch_size=batch_size, shuffle=True, seed=HELD_OUT_SEED, repeat=False
            ),
            choice=StepChoice(
                labelled_fraction=self.labelled_fraction, part="held_out", held_out=self.held_out
            ),
        )
        views = self._for_template(views, template)
        batches = []
        for batch in views.take(-(-frames // batch_size)):
            batches.append({name: value[:frames] for name, value in batch.items()})
            frames -= len(batches[-1]["cube"])
        return batches

    def _for_template(self, views: tf.data.Dataset, template) -> tf.data.Dataset:
        names = self.description(template)["keypoints"]
        if tuple(names) == tuple(template.keypoint_names):
            return views
        columns = columns_by_name(names, template, f"--real_records={self.folder}")
        return views.map(lambda batch: _in_order(batch, columns))


def _in_order(batch: dict, columns: np.ndarray) -> dict:
    valid = tf.gather(batch["keypoints_valid"], np.maximum(columns, 0), axis=1)
    keypoints = tf.gather(batch["keypoints"], np.maximum(columns, 0), axis=1)
    return {**batch, "keypoints": keypoints, "keypoints_valid": valid * (columns >= 0)}


def status_of(description: dict) -> str:
    """Of a description.json: NYU's training split, or the mark of an experiment."""
    whole = description["frames"] + len(description["skipped"]) >= NYU_TRAINING_FRAMES
    return "NYU's training split" if whole else EXPERIMENT


def real_count(batch_size: int, real_fraction: float) -> int:
    """Real frames in each batch; the rest is synthetic.

    Raises:
        InputError: the fraction leaves no real frame.
    """
    count = round(batch_size * real_fraction)
    if not count:
        raise InputError(
            f"--real_fraction={real_fraction} of --batch_size={batch_size} is no frame; raise one."
        )
    return count


def mix(real: tf.data.Dataset, synthetic: tf.data.Dataset | None) -> tf.data.Dataset:
    """Joins each batch of views with one of synthetic frames, the real frames first.

    Args:
        real: batches of `view_dataset`.
        synthetic: batches of `dgn_tf.synthesis` with targets; None: the real frames go alone.

    Returns:
        Batches of `SHARED`, `keypoints_valid` [B, J] float32, `is_real` [B] bool and, with
        synthetic frames, `SYNTHETIC_TRUTH`: zeros where `is_real`.
    """
    if synthetic is None:
        return real.map(_alone).prefetch(2)
    return tf.data.Dataset.zip((real, synthetic)).map(_join).prefetch(2)


def _alone(real):
    batch = {name: real[name] for name in (*SHARED, "keypoints_valid")}
    return {**batch, "is_real": tf.ones(real["cube"].shape, tf.bool)}


def _join(real, synthetic):
    def after(first, second):
        return tf.concat([first, second], axis=0)

    count = real["cube"].shape[0]
    ones = tf.ones(tf.shape(synthetic["keypoints"])[:2])
    batch = {name: after(real[name], synthetic[name]) for name in SHARED}
    batch["keypoints_valid"] = after(real["keypoints_valid"], ones)
    batch["is_real"] = after(tf.ones([count], tf.bool), tf.zeros_like(synthetic["cube"], tf.bool))
    for name in SYNTHETIC_TRUTH:
        truth = synthetic[name]
        batch[name] = after(tf.zeros([count, *truth.shape[1:]], truth.dtype), truth)
    return batch


# Folders of multi-view records that a run may learn from.


def training_description(
    flag: str, folder: str, cameras: Sequence[int], how_to_make: str, test_split: bool = False
) -> dict:
    """`description.json` of a split's records, once they are there and fit to learn from.

    Args:
        flag: that named the folder, such as `--real_records`.
        folder: of the split's records.
        cameras: numbers (from 1) of --real_cameras; none: every one.
        how_to_make: what the message about a missing folder says; {output} and {split} in it
            stand for the writer's --output_dir and the folder that it then writes.
        test_split: the test split will do, too.

    Raises:
        InputError: nothing there, records of another kind or of the test split, a camera that
            they lack.
    """
    flag, path = f"{flag}={folder}", pathlib.Path(folder)
    if not (path / DESCRIPTION_FILE).is_file():
        if (path / "train").is_dir():
            raise InputError(f"{flag}: the folder of several splits; name {path / 'train'}.")
        output = path.parent if path.name == "train" else path
        made = how_to_make.format(output=output, split=output / "train")
        raise InputError(f"{flag}: no finished records there; {made}.")
    description = view_description(folder)
    if description["split"] == "test" and not test_split:
        raise InputError(f"{flag} is the test split, which nothing may learn from.")
    for camera in cameras:
        if camera not in description["cameras"]:
            known = ", ".join(str(number) for number in description["cameras"])
            raise InputError(
                f"--real_cameras={camera}: {path} has cameras {known}; name some of them."
            )
    return description
