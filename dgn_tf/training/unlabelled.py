"""Unlabelled views, single or synchronised, beside the synthetic frames of every batch (Sec. 4).

Labels that the records may have are dropped where they are read: no step and no choice of a
checkpoint depends on them.
"""

import dataclasses
import math

import tensorflow as tf

from dgn_tf.losses.energy import Energy, mean_terms
from dgn_tf.network_config import NETWORK_INPUTS
from dgn_tf.records.batches import Batching
from dgn_tf.records.view_crops import AugmentConfig
from dgn_tf.records.views import StepChoice, step_dataset, view_dataset
from dgn_tf.training.real_frames import (
    HELD_OUT_BATCH,
    HELD_OUT_SEED,
    status_of,
    training_description,
)

UNLABELLED = "unlabelled"  # the batch's key under which the views stand
FITTED = "experiment: fitted, without labels, to the frames of the test split"
KEPT = (*NETWORK_INPUTS, "camera_from_rig", "rig_known")  # of view_dataset: no label is among them


@dataclasses.dataclass(frozen=True)
class UnlabelledViews:
    """A split of multi-view records to learn from without labels.

    Attributes:
        folder: of the split's records (`--unlabelled_records`).
        cameras: numbers (from 1) of those whose views are used; none: every one.
        multi_view: examples are time steps with their C synchronised views; else single views.
        held_out: share of the time steps, in blocks, that no training step sees.
        size: side of the crops, pixels.
        fraction: share of the other time steps to learn from, in runs of neighbouring ones.
        test_split: the split may be the test split, whose frames the model is then fitted to.
    """

    folder: str
    cameras: tuple[int, ...] = ()
    multi_view: bool = True
    held_out: float = 0.1
    size: int = 64
    fraction: float = 1.0
    test_split: bool = False

    def description(self) -> dict:
        """`description.json` of the records, once they are fit to learn from.

        Raises:
            InputError: nothing there, records of another kind or of the test split, a camera
                that they lack.
        """
        return training_description(
            "--unlabelled_records",
            self.folder,
            self.cameras,
            "python -m data_prep.nyu_to_tfrecord --nyu_dir=DIR --labels=none --center=localiser "
            "--calibration=FILE --output_dir={output} writes NYU's to {split}, and python -m "
            "data_prep.rig_to_tfrecord --frames=DIR1,DIR2 --calibration=FILE --depth_unit=1 "
            "--output_dir={output} those of a rig of one's own",
            self.test_split,
        )

    def facts(self) -> dict:
        """What a model's `config.json` and its card are to say of the views behind it.

        `centre` and `extrinsics` tell whether labels had a part in the conversion.

        Raises:
            InputError: see `description`.
        """
        description = self.description()
        return {
            "content_hash": description["content_hash"],
            "time_steps": description["frames"],
            "cameras": list(self.cameras) or description["cameras"],
            "multi_view": self.multi_view,
            "centre": description["centre"],
            "extrinsics": description.get("extrinsics", {}).get("source"),
            "held_out": self.held_out,
            "fraction": self.fraction,
            "status": FITTED if description["split"] == "test" else status_of(description),
        }

    def views_of(self, batch_size: int) -> int:
        """Views in a batch of B time steps or single views; InputError as in `description`."""
        cameras = len(self.cameras or self.description()["cameras"])
        return batch_size * (cameras if self.multi_view else 1)

    def training(self, batch_size: int, seed: int, start_step: int = 0) -> tf.data.Dataset:
        """Endless augmented batches of what is not held out; batch k depends on seed and k.

        Args:
            batch_size: B, time steps or single views.
            seed: of the order and the augmentation.
            start_step: number of the first batch.

        Returns:
            Batches of `KEPT` in the shapes of `step_dataset`, with view_valid [B, C]; or, of
            single views, in those of `view_dataset`.
        """
        batching = Batching(batch_size, seed=seed, start_step=start_step)
        return self._views(batching, "train", AugmentConfig(), self.fraction)

    def held_out_batches(self, views: int) -> list[dict]:
        """About `views` held-out views, in whole time steps, not augmented; always the same.

        Returns:
            batches as `training` gives them; none where nothing is held out.
        """
        if not self.held_out:
            return []
        left, most = views, HELD_OUT_BATCH
        if self.multi_view:
            cameras = len(self.cameras or self.description()["cameras"])
            left, most = max(1, views // cameras), max(1, HELD_OUT_BATCH // cameras)
        batch_size = min(left, most)
        found = self._views(Batching(batch_size, seed=HELD_OUT_SEED, repeat=False), "held_out")
        batches = []
        for batch in found.take(-(-left // batch_size)):
            batches.append({name: value[:left] for name, value in batch.items()})
            left -= len(batches[-1]["cube"])
        return batches

    def _views(self, batching, part, augment=None, fraction=1.0):
        choice = StepChoice(part, self.held_out, fraction)
        given = (self.folder, batching, self.cameras, augment, choice, self.size)
        if self.multi_view:
            found = step_dataset(*given)
            return found.map(lambda batch: {name: batch[name] for name in (*KEPT, "view_valid")})
        found = view_dataset(*given)
        return found.map(lambda batch: {name: batch[name] for name in KEPT})


def put_beside(synthetic: tf.data.Dataset, views: tf.data.Dataset) -> tf.data.Dataset:
    """Synthetic batches as they are, with one of `views` under the key `UNLABELLED`."""
    both = tf.data.Dataset.zip((synthetic, views))
    return both.map(lambda batch, unlabelled: {**batch, UNLABELLED: unlabelled}).prefetch(2)


def single_views(views: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The network's inputs of unlabelled views: [B, C, ...] -> [B * C, ...], step by step."""
    inputs = {name: views[name] for name in NETWORK_INPUTS}
    if len(views["depth"].shape) == 3:
        return inputs
    cameras = views["depth"].shape[1]
    cube = tf.repeat(inputs.pop("cube"), cameras)
    flat = {name: tf.reshape(v, [-1, *v.shape[2:]]) for name, v in inputs.items()}
    return {**flat, "cube": cube}


def run_together(network, batch: dict, training: bool) -> tuple[dict, dict]:
    """One forward pass over the unlabelled views and the frames of a batch of `put_beside`.

    Returns:
        The network's outputs for the views [B * C, ...] and for the frames.
    """
    views = single_views(batch[UNLABELLED])
    count = views["cube"].shape[0] or tf.shape(views["cube"])[0]
    inputs = {name: tf.concat([views[name], batch[name]], axis=0) for name in NETWORK_INPUTS}
    outputs = network(inputs, training=training)
    first = {name: value[:count] for name, value in outputs.items()}
    return first, {name: value[count:] for name, value in outputs.items()}


def energy_terms(energy: Energy, outputs, views, sampling, seed=None) -> dict[str, tf.Tensor]:
    """Eq. 5's terms of synchronised views, or those of single ones: name -> [B * C], `usable`."""
    if len(views["depth"].shape) == 4:
        return energy.step_terms(outputs, views, sampling, seed)
    return energy.view_terms(outputs, views, sampling, seed)


class HeldOutEnergy:
    """Energy of the network's estimates for held-out views; traced once, however often called.

    Args:
        network: `DualGridNet`.
        energy: its terms and weights.
    """

    def __init__(self, network, energy: Energy):
        @tf.function(reduce_retracing=True)
        def measure(views):
            outputs = network(single_views(views), training=False)
            terms = energy_terms(energy, outputs, views, network.sampling)
            means = mean_terms(terms)
            usable = tf.reduce_sum(tf.cast(terms["usable"], tf.float32))
            return usable, {"energy": energy.total(means), **means}

        self._measure = measure

    def __call__(self, batches) -> dict[str, float]:
        """Measures the present weights on batches of `UnlabelledViews.held_out_batches`.

        Returns:
            `energy` and each of its terms, unweighted, as means over the views that have a hand
            to fit (always the same of their pixels are matched); NaN where there is none.
        """
        sums: dict[str, float] = {}
        count = 0.0
        for views in batches:
            usable, means = self._measure(views)
            count += float(usable)
            for name, value in means.items():
                sums[name] = sums.get(name, 0.0) + float(usable) * float(value)
        if not count:
            return dict.fromkeys(sums, math.nan)
        return {name: total / count for name, total in sums.items()}
