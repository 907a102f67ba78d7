"""Trains the network that finds hands in whole depth frames, on synthetic frames alone.

    python -m dgn_tf.train_localiser --output_dir=runs/localiser

writes `best/` (by the validation split) and `last/`: weights.h5, config.json, flags.txt; and
checkpoints: the same command resumes a run that was stopped.
"""

import contextlib
import os
import pathlib

from absl import flags, logging

from dgn_tf import errors
from dgn_tf.errors import InputError

FLAGS = flags.FLAGS

flags.DEFINE_string("output_dir", None, "Folder of the run.", required=True)
flags.DEFINE_string("template", "", "Hand template (.npz); empty: the one that ships.")
flags.DEFINE_integer("batch_size", 48, "Frames a step.", lower_bound=1)
flags.DEFINE_integer("steps", 4000, "Steps of the whole run.", lower_bound=1)
flags.DEFINE_integer("steps_per_epoch", 200, "Steps between checkpoints.", lower_bound=1)
flags.DEFINE_float("learning_rate", 2e-3, "Rate held between rise and fall.", lower_bound=0)
flags.DEFINE_integer("warmup_steps", 100, "Steps of the rate's rise.", lower_bound=0)
flags.DEFINE_integer("decay_start", -1, "Step at which the rate begins to fall; -1: at 40 %.")
flags.DEFINE_enum("optimizer", "adamw", ["adamw", "muon"], "Muon: of the kernels, else AdamW.")
flags.DEFINE_float("weight_decay", 1e-4, "The optimiser's decoupled decay.", lower_bound=0)
flags.DEFINE_float("clip_norm", 5.0, "Gradients are clipped to this norm; 0: not.", lower_bound=0)
flags.DEFINE_float("ema_momentum", 0.99, "Of the weights' averages; 0: none.", 0, 1)
flags.DEFINE_integer("seed", 1, "Of the weights and the data.", lower_bound=0)
flags.DEFINE_string(
    "init_weights",
    "",
    "Folder of a localiser to start from (dgn_tf/localize/assets is the one "
    "that ships); empty: random weights.",
)
flags.DEFINE_integer("validation_frames", 500, "Frames that choose the best.", lower_bound=1)

MAY_CHANGE = frozenset({"steps", "decay_start", "validation_frames"})
NOT_SETTINGS = frozenset({"output_dir"})


def main(_):
    if FLAGS.steps % FLAGS.steps_per_epoch:
        raise InputError(
            f"--steps={FLAGS.steps} is no multiple of --steps_per_epoch={FLAGS.steps_per_epoch}; "
            "change one of them."
        )
    own = FLAGS.get_key_flags_for_module(__name__)
    with contextlib.ExitStack() as held:
        train({f.name: f.value for f in own}, {f.name: f.default for f in own}, held)


def start_from(network, folder: str) -> None:
    """Gives a localiser the weights of a folder; InputError where they are of other sizes."""
    from dgn_tf.localize.model_folder import load_localiser

    trained = load_localiser(folder)
    if trained.channels != network.channels:
        raise InputError(
            f"--init_weights={folder}: a localiser of channels {trained.channels}; wanted "
            f"{network.channels}."
        )
    network.set_weights(trained.get_weights())


def train(values: dict, defaults: dict, held: contextlib.ExitStack) -> None:
    """Runs or resumes the training that the flags `values` describe, of these `defaults`.

    `held` keeps others out of the run's folder until it is left.
    """
    import tensorflow as tf

    from dgn_tf.localize import training
    from dgn_tf.localize.network import Localiser
    from dgn_tf.template import DEFAULT_TEMPLATE_PATH, HandTemplate
    from dgn_tf.training import callbacks, run_folder
    from dgn_tf.training.schedule import WarmupHoldDecay, averaging_optimizer

    settings = {name: value for name, value in values.items() if name not in NOT_SETTINGS}
    flagfile = "".join(f"--{name}={value}\n" for name, value in settings.items())
    template = HandTemplate.load(values["template"] or DEFAULT_TEMPLATE_PATH)
    settings["template_hash"] = template.hash
    folder = pathlib.Path(values["output_dir"])
    tf.keras.utils.set_random_seed(values["seed"])
    network = Localiser()
    network(network.example_inputs())
    if values["init_weights"]:
        start_from(network, values["init_weights"])
    run_folder.begin_alone(folder, held)
    run_folder.open_run_folder(folder, settings, flagfile, MAY_CHANGE, defaults)
    steps, start = values["steps"], values["decay_start"]
    start = int(0.4 * steps) if start < 0 else start
    schedule = WarmupHoldDecay(values["learning_rate"], values["warmup_steps"], start, steps)
    optimizer = averaging_optimizer(
        values["optimizer"], schedule, values["weight_decay"], values["ema_momentum"]
    )
    model = training.LocaliserTraining(network, values["clip_norm"])
    model.compile(optimizer)
    optimizer.build(network.trainable_variables)
    checkpoints = run_folder.Checkpoints(folder, network, optimizer)
    checkpoints.restore()
    step = int(optimizer.iterations.numpy())
    logging.info("at step %d of %d", step, steps)
    if step >= steps:
        logging.info("nothing to do: %s has all its %d steps", folder, step)
        return
    info = {"seed": values["seed"], "commit": run_folder.commit(), "template": template.name}
    run_folder.mend_log(folder / "log.csv", step // values["steps_per_epoch"])
    batches = training.validation_frames(template, values["validation_frames"])
    per_epoch = values["steps_per_epoch"]
    model.fit(
        training.training_data(template, values["seed"], values["batch_size"], step),
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
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    errors.run(main)
