"""Trains the network that finds hands in whole depth frames, on synthetic frames alone.

    python -m dgn_tf.train_localiser --output_dir=runs/localiser

writes `best/` (by the validation split) and `last/`: weights.h5, config.json, flags.txt; and
checkpoints: the same command resumes a run that was stopped.
"""

import contextlib
import os
import pathlib

from absl import logging

from dgn_tf import command_line, errors, setting
from dgn_tf.config import TrainLocaliser
from dgn_tf.errors import InputError

command_line.define_flags(TrainLocaliser)

MAY_CHANGE = setting.may_change(TrainLocaliser)


def main(_):
    settings = command_line.from_flags(TrainLocaliser)
    if not settings.output_dir:
        raise InputError("--output_dir is wanted: the folder of the run, such as runs/localiser.")
    if settings.steps % settings.steps_per_epoch:
        raise InputError(
            f"--steps={settings.steps} is no multiple of "
            f"--steps_per_epoch={settings.steps_per_epoch}; change one of them."
        )
    with contextlib.ExitStack() as held:
        train(settings, held)


def start_from(network, folder: str) -> None:
    """Gives a localiser the weights of a folder; InputError where they are of other sizes."""
    from dgn_tf.localize.network import load_localiser

    trained = load_localiser(folder)
    if trained.channels != network.channels:
        raise InputError(
            f"--init_weights={folder}: a localiser of channels {trained.channels}; wanted "
            f"{network.channels}."
        )
    network.set_weights(trained.get_weights())


def train(settings: TrainLocaliser, held: contextlib.ExitStack) -> None:
    """Runs or resumes the training that the settings describe.

    `held` keeps others out of the run's folder until it is left.
    """
    import keras

    from dgn_tf.localize import training
    from dgn_tf.localize.network import Localiser
    from dgn_tf.template import DEFAULT_TEMPLATE_PATH, HandTemplate
    from dgn_tf.training import callbacks, run_folder
    from dgn_tf.training.schedule import WarmupHoldDecay, averaging_optimizer

    values = setting.values_of(settings)
    flagfile = command_line.as_flagfile(values)
    template = HandTemplate.load(settings.template or DEFAULT_TEMPLATE_PATH)
    identity = values | {"template_hash": template.hash}
    folder = pathlib.Path(settings.output_dir)
    keras.utils.set_random_seed(settings.seed)
    network = Localiser()
    network(network.example_inputs())
    if settings.init_weights:
        start_from(network, settings.init_weights)
    run_folder.begin_alone(folder, held)
    defaults = setting.values_of(TrainLocaliser())
    run_folder.open_run_folder(folder, identity, flagfile, MAY_CHANGE, defaults)
    steps, start = settings.steps, settings.decay_start
    start = int(0.4 * steps) if start < 0 else start
    schedule = WarmupHoldDecay(settings.learning_rate, settings.warmup_steps, start, steps)
    optimizer = averaging_optimizer(
        settings.optimizer, schedule, settings.weight_decay, settings.ema_momentum
    )
    model = training.LocaliserTraining(network, settings.clip_norm)
    model.compile(optimizer)
    optimizer.build(network.trainable_variables)
    checkpoints = run_folder.Checkpoints(folder, network, optimizer)
    checkpoints.restore()
    step = int(optimizer.iterations.numpy())
    logging.info("at step %d of %d", step, steps)
    if step >= steps:
        logging.info("nothing to do: %s has all its %d steps", folder, step)
        return
    info = {"seed": settings.seed, "commit": run_folder.commit(), "template": template.name}
    run_folder.mend_log(folder / "log.csv", step // settings.steps_per_epoch)
    batches = training.validation_frames(template, settings.validation_frames)
    per_epoch = settings.steps_per_epoch
    model.fit(
        training.training_data(template, settings.seed, settings.batch_size, step),
        initial_epoch=step // per_epoch,
        epochs=steps // per_epoch,
        steps_per_epoch=per_epoch,
        callbacks=[
            callbacks.StopWhenNotFinite(),
            callbacks.MeanTerms(),
            training.ValidateLocaliser(batches, folder, flagfile, info),
            callbacks.WriteLog(folder),
            callbacks.SaveCheckpoint(checkpoints),
        ],
        verbose=1 if os.isatty(1) else 2,
    )


if __name__ == "__main__":
    errors.run(main)
