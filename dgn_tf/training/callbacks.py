"""What happens around the steps: checkpoints, validation, pictures, the non-finite stop."""

import contextlib
import math
import pathlib
import time
import warnings

import keras
import numpy as np
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.model_folder import save_model_folder
from dgn_tf.training import schedule
from dgn_tf.training.estimates import EstimatePool
from dgn_tf.training.run_folder import Checkpoints, best_in_log, writing_here
from dgn_tf.training.unlabelled import HeldOutEnergy
from dgn_tf.training.validation import validate, validate_labels


def inner_optimizer(optimizer):
    """The optimiser below a mixed precision wrapper."""
    return getattr(optimizer, "inner_optimizer", optimizer)


@contextlib.contextmanager
def averaged_weights(network, optimizer):
    """The network with the moving averages of its weights, for the time of the block."""
    optimizer = inner_optimizer(optimizer)
    if not optimizer.use_ema:
        yield
        return
    variables = network.trainable_variables
    raw = [variable.numpy() for variable in variables]
    optimizer.finalize_variable_values(variables)
    try:
        yield
    finally:
        for variable, value in zip(variables, raw, strict=True):
            variable.assign(value)


def refuse_not_finite(model) -> None:
    """Raises InputError where a weight is NaN or infinite, before that is saved anywhere."""
    for weight in model.network.weights:
        if not np.isfinite(weight.numpy()).all():
            step = int(model.optimizer.iterations.numpy())
            raise InputError(
                f"the weight {weight.name} was not finite at step {step}: nothing of it was saved, "
                "and the last checkpoint is intact. Lower --learning_rate or --weight_decay, or "
                "set --clip_norm, and start again to resume."
            )


class WriteLog(keras.callbacks.CSVLogger):
    """log.csv, a line an epoch, as Keras writes it; a full disk ends the run with one line."""

    def __init__(self, folder):
        super().__init__(str(folder / "log.csv"), append=True)
        self._folder = folder

    def on_epoch_end(self, epoch, logs=None):
        with writing_here(self._folder):
            super().on_epoch_end(epoch, logs)


def progress_bar(done: int):
    """Bars of the run and of its epoch, for a terminal; `done` epochs lie behind a resumed run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TensorFlow Addons comes to its end: BUILD.md
        import tensorflow_addons as tfa

    class ProgressBar(tfa.callbacks.TQDMProgressBar):
        def on_train_begin(self, logs=None):
            super().on_train_begin(logs)
            self.overall_progress_tqdm.initial = done  # the rate is that of this process
            self.overall_progress_tqdm.update(done)

    return ProgressBar()


class PrintEpochs(keras.callbacks.Callback):
    """A readable line an epoch, and at the end where the weights are; log.csv has every figure.

    Args:
        folder: of the run.
        steps: of the whole run.
    """

    _SHOWN = {
        "val_keypoints_mm": "key points {:.2f} mm",
        "val_vertices_pr_mm": "vertices {:.2f} mm",
        "val_real_keypoints_mm": "real key points {:.2f} mm",
        "val_energy": "energy {:.2f}",
    }

    def __init__(self, folder, steps: int):
        super().__init__()
        self._folder, self._steps = folder, steps

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        shown = [text.format(logs[name]) for name, text in self._SHOWN.items() if name in logs]
        print(
            f"step {int(self.model.optimizer.iterations.numpy())} of {self._steps}: "
            f"loss {logs['loss']:.3f}; validation: {', '.join(shown) or '-'}; "
            f"{logs['steps_per_second']:.2f} steps/s",
            flush=True,
        )

    def on_train_end(self, logs=None):
        print(f"{self._folder / 'best'}: the weights of the best validation", flush=True)


class StopWhenNotFinite(keras.callbacks.Callback):
    """Ends the run by the name of the term that is not finite; its step changed no weight."""

    def on_train_batch_end(self, batch, logs=None):
        for name, value in (logs or {}).items():
            if name != "loss" and not math.isfinite(value):
                step = int(self.model.optimizer.iterations.numpy())
                raise InputError(
                    f"the term {name!r} was not finite at step {step}: that step changed no "
                    "weight, and the last checkpoint is intact. Lower --learning_rate, set "
                    "--clip_norm, or look at the records, and start again to resume."
                )


class MeanTerms(keras.callbacks.Callback):
    """Logs each term's mean over the epoch, where `train_step` returns single steps'."""

    def on_epoch_begin(self, epoch, logs=None):
        self._sums, self._steps, self._start = {}, 0, time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        for name, value in logs.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def on_epoch_end(self, epoch, logs=None):
        if self._steps:
            logs.update({name: total / self._steps for name, total in self._sums.items()})
        logs["steps_per_second"] = self._steps / (time.perf_counter() - self._start)


class Validate(keras.callbacks.Callback):
    """Measures the averaged weights at each epoch's end; keeps the best in `best/`.

    Args:
        batches: synthetic frames of a validation split, with targets.
        folder: the run's.
        flags, info: see `save_model_folder`.
        real_batches: labelled views held out of the training; where there are some, they
            choose the best checkpoint.
        unlabelled_batches: unlabelled views held out of the training; where there are some,
            the energy of the model's estimates for them chooses. Without either `batches` do.
        keep: whether each epoch's weights stay, in `epochs/STEP`.
    """

    def __init__(
        self,
        batches,
        folder,
        flags: str,
        info: dict,
        real_batches=(),
        unlabelled_batches=(),
        keep: bool = False,
    ):
        super().__init__()
        self._batches, self._flags, self._info = batches, flags, info
        self._real_batches, self._unlabelled_batches = real_batches, unlabelled_batches
        self._chosen_by = "real_keypoints_mm" if real_batches else "keypoints_mm"
        if unlabelled_batches:
            self._chosen_by = "energy"
        self._folder, self._keep = pathlib.Path(folder), keep
        self._best = best_in_log(self._folder / "log.csv", f"val_{self._chosen_by}")
        self._measure_energy: HeldOutEnergy | None = None

    def on_epoch_end(self, epoch, logs=None):
        network = self.model.network
        refuse_not_finite(self.model)
        with averaged_weights(network, self.model.optimizer), schedule.switched_off():
            figures = validate(network, self._batches)
            if self._real_batches:
                figures |= validate_labels(network, self._real_batches)
            if self._unlabelled_batches:
                if self._measure_energy is None:
                    self._measure_energy = HeldOutEnergy(network, self.model.energy)
                figures |= self._measure_energy(self._unlabelled_batches)
            logs.update({f"val_{name}": value for name, value in figures.items()})
            step = int(self.model.optimizer.iterations.numpy())
            info = {**self._info, "step": step, "validation": figures}
            places = ["last", f"epochs/{step}"] if self._keep else ["last"]
            if figures[self._chosen_by] < self._best:
                self._best = figures[self._chosen_by]
                places.append("best")
            with writing_here(self._folder):
                for place in places:
                    save_model_folder(network, self._folder / place, self._flags, info)


class SaveCheckpoint(keras.callbacks.Callback):
    """Checkpoints at each epoch's end: the places where a killed run goes on."""

    def __init__(self, checkpoints: Checkpoints):
        super().__init__()
        self._checkpoints = checkpoints

    def on_epoch_end(self, epoch, logs=None):
        self._checkpoints.save(int(self.model.optimizer.iterations.numpy()))


class FeedEstimates(keras.callbacks.Callback):
    """Hands each step's estimates to the loader, which renders them (Sec. 4.4)."""

    def __init__(self, pool: EstimatePool):
        super().__init__()
        self._pool = pool

    def on_train_batch_end(self, batch, logs=None):
        step = int(self.model.optimizer.iterations.numpy()) - 1
        self._pool.put(step, self.model.estimates.read(step))


class Summaries(keras.callbacks.Callback):
    """TensorBoard: every logged scalar, and pictures of a few validation examples."""

    def __init__(self, folder, batch, examples: int = 4):
        super().__init__()
        self._folder = pathlib.Path(folder)
        with writing_here(self._folder.parent):
            self._writer = tf.summary.create_file_writer(str(folder))
        self._batch = {name: value[:examples] for name, value in batch.items()}

    def on_epoch_end(self, epoch, logs=None):
        step = int(self.model.optimizer.iterations.numpy())
        with writing_here(self._folder.parent), self._writer.as_default(step=step):
            for name, value in logs.items():
                tf.summary.scalar(name, value)
            tf.summary.image("examples", self._pictures(), max_outputs=len(self._batch["cube"]))
            self._writer.flush()

    def _pictures(self):
        from dgn_tf.training.validation import training_panel  # Pillow and numba: here alone

        network = self.model.network
        outputs = network(self._batch, training=False)
        picture = [
            training_panel(
                network.template,
                {name: np.asarray(value[i]) for name, value in self._batch.items()},
                {name: np.asarray(value[i]) for name, value in outputs.items()},
            )
            for i in range(len(self._batch["cube"]))
        ]
        return np.stack(picture)
