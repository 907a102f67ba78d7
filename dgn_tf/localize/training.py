"""Training of the localiser: data made as it goes, the step, validation."""

import math
import os
import pathlib
from concurrent.futures import ThreadPoolExecutor

import keras
import tensorflow as tf

from dgn_tf.localize import evaluation
from dgn_tf.localize.losses import WEIGHTS, localiser_terms
from dgn_tf.localize.model_folder import save_localiser
from dgn_tf.localize.network import Localiser
from dgn_tf.synthesis import whole_frames
from dgn_tf.synthesis.whole_frames import HEIGHT, WIDTH, WholeFrameSettings, render_whole_frames
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
            measured = evaluation.evaluate(self._locate, self._batches)
            logs.update({f"val_{name}": value for name, value in measured.items()})
            step = int(self.model.optimizer.iterations.numpy())
            info = {**self._info, "step": step, "validation": measured}
            with writing_here(self._folder):
                save_localiser(network, self._folder / "last", self._flags, info)
            if measured["capped_mm"] < self._best and math.isfinite(measured["capped_mm"]):
                self._best = measured["capped_mm"]
                with writing_here(self._folder):
                    save_localiser(network, self._folder / "best", self._flags, info)
