"""Training of the localiser: data made as it goes, the step, validation."""

import math
import os
import pathlib
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf

from dgn_tf.localize import raster
from dgn_tf.localize.network import Localiser, save_localiser
from dgn_tf.localize.raster import FOUND
from dgn_tf.synthesis import whole_frames
from dgn_tf.synthesis.whole_frames import (
    HANDS,
    HEIGHT,
    WIDTH,
    WholeFrameSettings,
    render_whole_frames,
)
from dgn_tf.training.callbacks import averaged_weights, refuse_not_finite
from dgn_tf.training.run_folder import best_in_log, writing_here

VALIDATION_SALT, VALIDATION_SEED = 1004, 1
_SPEC = {
    "depth": ((HEIGHT, WIDTH), tf.float32),
    "intrinsics": ((4,), tf.float32),
    "owner": ((HEIGHT, WIDTH), tf.int8),
    "centre": ((whole_frames.HANDS, 3), tf.float32),
    "left": ((whole_frames.HANDS,), tf.bool),
    "visible": ((whole_frames.HANDS,), tf.bool),
}


def training_data(template, seed: int, batch_size: int, start_step: int) -> tf.data.Dataset:
    """Endless batches; batch k depends on the seed and k alone, so that a run can resume."""
    config, settings = whole_frames.whole_frame_config(), WholeFrameSettings()
    pool = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1))

    def synthesize(step):
        batch = render_whole_frames(
            template, config, settings, seed, int(step) * batch_size, batch_size, pool
        )
        return [batch[name] for name in _SPEC]

    def load(step):
        arrays = tf.numpy_function(synthesize, [step], [kind for _, kind in _SPEC.values()])
        batch = dict(zip(_SPEC, arrays, strict=True))
        for name, (shape, _) in _SPEC.items():
            batch[name].set_shape((batch_size, *shape))
        return batch

    return tf.data.Dataset.range(start_step, tf.int64.max).map(load).prefetch(3)


def validation_frames(template, frames: int, batch_size: int = 50) -> list[dict]:
    """Batches of a split that training never sees."""
    config = whole_frames.whole_frame_config(whole_frames.SynthesisConfig(salt=VALIDATION_SALT))
    return [
        render_whole_frames(
            template,
            config,
            WholeFrameSettings(),
            VALIDATION_SEED,
            start,
            min(batch_size, frames - start),
        )
        for start in range(0, frames, batch_size)
    ]


class LocaliserTraining(keras.Model):
    """Keras's loop around the localiser's terms."""

    def __init__(self, network: Localiser, clip_norm: float = 0.0):
        super().__init__()
        self.network, self._clip_norm = network, clip_norm

    def train_step(self, batch):
        with tf.GradientTape() as tape:
            outputs = self.network(batch, training=True)
            terms = {
                name: tf.reduce_mean(term) for name, term in localiser_terms(outputs, batch).items()
            }
            loss = tf.add_n([WEIGHTS[name] * term for name, term in terms.items()])
        variables = self.network.trainable_variables
        gradients = tape.gradient(loss, variables)
        if self._clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm)
        finite = tf.math.is_finite(loss)
        # A step that is not finite changes no weight; the run ends after it, by name.
        gradients = [tf.where(finite, gradient, 0.0) for gradient in gradients]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return {"loss": loss, **terms}


class ValidateLocaliser(keras.callbacks.Callback):
    """Measures the averaged weights at each epoch's end; keeps the best in `best/`.

    Args:
        batches: of `validation_frames`.
        folder: the run's.
        flags, info: see `save_localiser`.
    """

    def __init__(self, batches, folder, flags: str, info: dict):
        super().__init__()
        self._batches, self._flags, self._info = batches, flags, info
        self._folder = pathlib.Path(folder)
        self._best = best_in_log(self._folder / "log.csv", "val_capped_mm")
        self._locate = None

    def on_epoch_end(self, epoch, logs=None):
        network = self.model.network
        refuse_not_finite(self.model)
        if self._locate is None:
            self._locate = tf.function(network.locate)
        with averaged_weights(network, self.model.optimizer):
            measured = evaluate(self._locate, self._batches)
            logs.update({f"val_{name}": value for name, value in measured.items()})
            step = int(self.model.optimizer.iterations.numpy())
            info = {**self._info, "step": step, "validation": measured}
            with writing_here(self._folder):
                save_localiser(network, self._folder / "last", self._flags, info)
            if measured["capped_mm"] < self._best and math.isfinite(measured["capped_mm"]):
                self._best = measured["capped_mm"]
                with writing_here(self._folder):
                    save_localiser(network, self._folder / "best", self._flags, info)


# What the localiser learns from: terms by name, one value per frame.


WEIGHTS = {"hand": 1.0, "left": 0.3, "offset": 0.02}
_HUBER_MM = 10.0


def block_truth(batch, outputs) -> dict[str, tf.Tensor]:
    """What each block shows: share [B, 32, 40] of its surface that is a hand's, whether a left
    hand's (likewise a share of that), and that hand's centre [B, 32, 40, 3] mm."""
    owner = raster.blocks(tf.cast(batch["owner"], tf.float32))
    counts = [
        tf.reduce_sum(tf.cast(owner == number, tf.float32) * outputs["near"], axis=-1)
        for number in range(HANDS)
    ]
    visible = tf.cast(batch["visible"], tf.float32)[:, tf.newaxis, tf.newaxis]
    count = tf.stack(counts, axis=-1) * visible  # [B, 32, 40, 2]
    hands = tf.reduce_sum(count, axis=-1)
    share = hands / tf.maximum(outputs["pixels"], 1.0)
    of_hand = count / tf.maximum(hands, 1.0)[..., tf.newaxis]
    left = tf.linalg.matvec(of_hand, tf.cast(batch["left"], tf.float32)[:, tf.newaxis])
    centre = tf.einsum("bijh,bhc->bijc", of_hand, batch["centre"])
    return {"share": share, "left": left, "centre": centre}


def localiser_terms(outputs, batch) -> dict[str, tf.Tensor]:
    """Terms of the loss [B] each.

    hand: cross entropy over the blocks with depth; left: over the blocks that show a hand; offset:
    Huber of the distance from the voted to the true centre, mm, over the same.
    """
    truth = block_truth(batch, outputs)
    there = tf.cast(outputs["pixels"] > 0, tf.float32)
    cross = tf.nn.sigmoid_cross_entropy_with_logits(truth["share"], outputs["hand"])
    # A mean over all blocks would let a hand far away, of few blocks, count for nothing.
    hand_blocks = tf.reduce_sum(truth["share"], axis=[1, 2])
    terms = {"hand": tf.reduce_sum(cross * there, axis=[1, 2]) / (hand_blocks + 20.0)}
    weight = truth["share"] / tf.maximum(hand_blocks, 1e-6)[:, tf.newaxis, tf.newaxis]
    cross = tf.nn.sigmoid_cross_entropy_with_logits(truth["left"], outputs["left"])
    terms["left"] = tf.reduce_sum(cross * weight, axis=[1, 2])
    off = outputs["point"] + outputs["offset"] - truth["centre"]
    square = tf.reduce_sum(tf.square(off), axis=-1)
    # Pseudo-Huber: smooth everywhere.
    distance = _HUBER_MM * (tf.sqrt(1.0 + square / _HUBER_MM**2) - 1.0)
    terms["offset"] = tf.reduce_sum(distance * weight, axis=[1, 2])
    return terms


# How well hands are found in whole frames whose hands are known.


CLOSE_MM = (30.0, 60.0)


def frame_results(located: dict, batch: dict) -> dict[str, np.ndarray]:
    """Compares the best place of each frame with the nearest hand that is seen in it.

    Args:
        located: centre [B, K, 3] mm, score [B, K] and left [B, K], as `best_hands` returns them.
        batch: as `render_whole_frames` returns it.

    Returns:
        [B] each: has_hand; error, mm (inf where no hand is seen); found; side_right, whether the
        side of that hand is told.
    """
    centre, score, left = (np.asarray(located[name])[:, 0] for name in ("centre", "score", "left"))
    visible = np.asarray(batch["visible"])
    apart = np.linalg.norm(np.asarray(batch["centre"]) - centre[:, np.newaxis], axis=-1)
    apart = np.where(visible, apart, np.inf)
    nearest = apart.argmin(axis=1)
    rows = np.arange(len(apart))
    return {
        "has_hand": visible.any(axis=1),
        "error": apart[rows, nearest],
        "found": score >= FOUND,
        "side_right": (left >= 0.5) == np.asarray(batch["left"])[rows, nearest],
    }


def figures(results: dict[str, np.ndarray]) -> dict[str, float]:
    """Figures of a set of frames.

    Returns:
        Over the frames with a hand: capped_mm, mean error cut off at 150 mm; median_mm; within_N,
        shares of them; missed, share without a find; side, share of right sides among those within
        60 mm. Over the others: false_alarms.
    """
    hand = results["has_hand"]
    error, close = results["error"][hand], results["error"][hand] < CLOSE_MM[-1]
    values = {
        "capped_mm": np.minimum(error, 150.0).mean(),
        "median_mm": np.median(error),
        **{f"within_{int(limit)}": (error < limit).mean() for limit in CLOSE_MM},
        "missed": 1.0 - results["found"][hand].mean(),
        "side": results["side_right"][hand][close].mean() if close.any() else 0.0,
        "false_alarms": results["found"][~hand].mean() if (~hand).any() else 0.0,
    }
    return {name: float(value) for name, value in values.items()}


def evaluate(locate, batches) -> dict[str, float]:
    """`figures` over batches of known frames.

    Args:
        locate: depth [B, 128, 160], intrinsics [B, 4] -> what `best_hands` returns.
        batches: as `render_whole_frames` makes them.
    """
    results = [
        frame_results(locate(tf.constant(batch["depth"]), tf.constant(batch["intrinsics"])), batch)
        for batch in batches
    ]
    return figures({name: np.concatenate([one[name] for one in results]) for name in results[0]})
