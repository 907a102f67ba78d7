"""Trains Dual Grid Net.

    python -m dgn_tf.train --flagfile=configs/synthetic.flags --output_dir=runs/synthetic

A run is resumed by giving the same command again: same flags, same data position, same
optimiser and averages. With --strategy it trains on several devices, to the same weights.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from absl import logging

from dgn_tf import command_line, config, errors, setting
from dgn_tf.config import Train
from dgn_tf.errors import InputError
from dgn_tf.shipped import shipped_file
from dgn_tf.training.building import build_model, build_optimizer, network_config

if TYPE_CHECKING:
    from dgn_tf.template import HandTemplate
    from dgn_tf.training.real_frames import RealFrames
    from dgn_tf.training.unlabelled import UnlabelledViews

command_line.define_flags(Train)

MAY_CHANGE = setting.may_change(Train)


_SAMPLE_RIG = pathlib.Path(__file__).parents[1] / "samples" / "rig"


def main(_):
    settings = command_line.from_flags(Train)
    records = settings.unlabelled_records
    if settings.smoke and records and not pathlib.Path(records).is_dir():
        settings = dataclasses.replace(settings, unlabelled_records=_sample_records(settings))
    train(checked(settings))


def _sample_records(settings: Train) -> str:
    """The split of samples/rig as records, beside the run: what --smoke learns from alone."""
    if not _SAMPLE_RIG.is_dir():
        raise InputError(
            f"--unlabelled_records={settings.unlabelled_records}: no such folder, and --smoke's "
            "sample, samples/rig, comes with the repository alone: run it there."
        )
    folder = f"{settings.output_dir or _folder_of_flagfile(sys.argv)}_sample_rig"
    print(f"--smoke: {settings.unlabelled_records} is not there; samples/rig is used: {folder}")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "data_prep.rig_to_tfrecord"),
            "--frames=" + ",".join(str(_SAMPLE_RIG / f"camera{number}") for number in (1, 2, 3)),
            f"--calibration={_SAMPLE_RIG / 'calibration.json'}",
            "--depth_unit=0.25",
            f"--output_dir={folder}",
        ],
        stdout=subprocess.DEVNULL,
    )
    if done.returncode:  # it has said why
        raise InputError(f"samples/rig could not be converted into {folder}, see above.")
    return f"{folder}/train"


def checked(settings: Train) -> Train:
    """The settings as they are run with; InputError where they don't go together."""
    settings = dataclasses.replace(
        settings,
        output_dir=settings.output_dir or _folder_of_flagfile(sys.argv),
        init_weights=shipped_file(settings.init_weights),
    )
    if settings.data == "records" and not settings.synthetic_records:
        raise InputError(
            "--data=records wants --synthetic_records=DIR; python -m "
            "data_prep.synthetic_to_tfrecord --output_dir=DIR makes one."
        )
    if settings.real_records and not (settings.real_keypoint_weight and settings.labelled_fraction):
        raise InputError(
            "--real_records wants --real_keypoint_weight and --labelled_fraction above 0: without "
            "them nothing is learnt from the records."
        )
    if settings.real_records and settings.unlabelled_records:
        raise InputError(
            "--real_records and --unlabelled_records are one or the other: learn from the labels, "
            "or without them."
        )
    _check_unlabelled(settings)
    _check_strategy(settings)
    if settings.bfloat16 and settings.mixed_precision:
        raise InputError(
            "--bfloat16 and --mixed_precision are one or the other: --bfloat16 on CPUs, "
            "--mixed_precision on GPUs."
        )
    if settings.smoke:
        settings = dataclasses.replace(settings, **config.SMOKE)
    if settings.steps % settings.steps_per_epoch:
        # Checkpoints and validation lie at the ends of epochs: the last steps would have neither.
        raise InputError(
            f"--steps={settings.steps} is no multiple of "
            f"--steps_per_epoch={settings.steps_per_epoch}; change one of them."
        )
    records = pathlib.Path(settings.unlabelled_records)
    if settings.unlabelled_records and not records.is_dir():
        raise InputError(
            f"--unlabelled_records={records}: no such folder. python -m data_prep.nyu_to_tfrecord "
            "--nyu_dir=DIR --labels=none --center=localiser --calibration=FILE "
            f"--output_dir={records.parent} writes NYU's, python -m data_prep.rig_to_tfrecord "
            "--frames=DIR1,DIR2 --calibration=FILE --depth_unit=1 those of your own cameras; "
            "--smoke alone tries it on the small rig that ships."
        )
    return settings


def _folder_of_flagfile(arguments: list[str]) -> str:
    """runs/<name of the flag file>: where a run goes that was given no --output_dir."""
    for argument in arguments:
        if argument.startswith("--flagfile="):
            return f"runs/{pathlib.PurePath(argument).stem}"
    raise InputError("--output_dir is wanted: the folder of the run, such as runs/synthetic.")


def _check_unlabelled(settings: Train) -> None:
    if settings.unlabelled_records and not settings.unlabelled_fraction:
        raise InputError("--unlabelled_fraction=0 leaves nothing to learn from; wanted above 0.")
    if settings.estimates_fraction and not settings.unlabelled_records:
        raise InputError(
            "--estimates_fraction wants --unlabelled_records: the frames show what the network "
            "estimates for their views."
        )
    if settings.estimates_fraction and settings.data == "records":
        raise InputError(
            "--estimates_fraction wants --data=online: its frames are rendered in place of "
            "synthesised ones, and records are rendered already."
        )


def _check_strategy(settings: Train) -> None:
    if settings.strategy == "one":
        return
    if settings.unlabelled_records:
        # The energy's means are over all usable views, its draws over all views of a batch.
        raise InputError(
            "--unlabelled_records wants --strategy=one: its terms are not cut among devices."
        )
    if settings.jit_compile:
        raise InputError("--jit_compile wants --strategy=one: its steps are not cut by XLA.")


@dataclasses.dataclass
class _Run:
    """A run as its flags describe it; `identity` is what decides its arithmetic, for `run.json`."""

    settings: Train
    folder: pathlib.Path
    identity: dict
    flagfile: str
    template: "HandTemplate"
    info: dict
    real: "RealFrames | None"
    unlabelled: "UnlabelledViews | None"


def train(settings: Train) -> None:
    """Runs or resumes the training that the settings describe."""
    import keras

    from dgn_tf.training import datasets, devices

    run = _described(settings)
    frames = datasets.frames_of_kinds(run.settings)
    where = devices.open_devices(settings.strategy, frames, settings.worker_wait_s)
    with where.workers_alive(run.folder), contextlib.ExitStack() as held:
        keras.utils.set_random_seed(settings.seed)
        with where.scope():
            model = build_model(run.template, run.settings)
        _fit(run, model, where, held)
        where.barrier()  # a worker that goes early looks to the others as one that died


def _described(settings: Train) -> _Run:
    from dgn_tf.training import datasets, run_folder

    template = _template(settings)
    size = network_config(settings).image_size
    info: dict = {"seed": settings.seed, "commit": run_folder.commit()}
    hashes: dict[str, str | None] = {"template_hash": template.hash}
    real = datasets.real_frames(settings, size)
    unlabelled = datasets.unlabelled_views(settings, size)
    described: tuple[tuple[str, str, Any], ...] = (
        ("real_frames", "real_records", real and real.facts(template)),
        ("unlabelled_views", "unlabelled_records", unlabelled and unlabelled.facts()),
        ("pose_prior", "pose_prior", datasets.pose_prior_facts(settings)),
    )
    for name, flag, facts in described:
        hashes[f"{flag}_hash"] = facts and facts["content_hash"]
        if facts:
            info[name] = facts
            logging.info("%s: %s", name, facts)
    values = setting.values_of(settings)
    folder, flagfile = pathlib.Path(settings.output_dir), command_line.as_flagfile(values)
    return _Run(settings, folder, values | hashes, flagfile, template, info, real, unlabelled)


def _fit(run: _Run, model, where, held: contextlib.ExitStack) -> None:
    from dgn_tf.training import callbacks, datasets, estimates, run_folder

    settings, folder, template = run.settings, run.folder, run.template
    if settings.init_weights and not run_folder.has_checkpoint(folder):
        from dgn_tf.model_folder import load_weights

        load_weights(model.network, settings.init_weights, settings.init_other_template)
        if settings.revive:
            from dgn_tf.training.shut_channels import revive

            count = revive(model.network, datasets.validation_batches(template, settings))
            logging.info("%d shut channels of --init_weights were given back", count)
    resumed = run_folder.has_checkpoint(folder)
    if where.chief:
        # Only now: flags that are wrong so far leave no folder behind.
        run_folder.begin_alone(folder, held)
        resumed = run_folder.open_run_folder(
            folder, run.identity, run.flagfile, MAY_CHANGE, setting.values_of(Train())
        )
    # Not before: the averages begin at the weights that the optimiser is built with.
    with where.scope():
        build_optimizer(model)
    pool, saved = None, {}
    if run.unlabelled and settings.estimates_fraction:
        views = run.unlabelled.views_of(settings.unlabelled_steps)
        model.estimates = estimates.EstimateRing(template, views)
        pool, saved = estimates.EstimatePool(settings.seed), {"estimates": model.estimates}
    checkpoints = run_folder.Checkpoints(folder, model.network, model.optimizer, **saved)
    checkpoints.restore()
    step = int(model.optimizer.iterations.numpy())
    where.check_agreement(run.identity, step)
    logging.info("%s at step %d of %d", "resumed" if resumed else "begun", step, settings.steps)
    if step >= settings.steps:
        logging.info("nothing to do: %s has all its %d steps", folder, step)
        return

    parts = [callbacks.StopWhenNotFinite(), callbacks.MeanTerms()]
    if where.chief:
        run_folder.mend_log(folder / "log.csv", step // settings.steps_per_epoch)
        parts += _keepers(run, checkpoints)
    if pool:
        pool.restore(model.estimates, step)
        parts.append(callbacks.FeedEstimates(pool))
    per_epoch = settings.steps_per_epoch
    batches = functools.partial(
        datasets.training_data, template, settings, step, run.real, run.unlabelled, pool
    )
    held.enter_context(datasets.records_are_readable(settings))
    if os.isatty(1):
        parts.append(callbacks.progress_bar(step // per_epoch))
    model.fit(
        where.batches(batches),
        initial_epoch=step // per_epoch,
        epochs=-(-settings.steps // per_epoch),
        steps_per_epoch=per_epoch,
        callbacks=parts,
        verbose=0,
    )


def _keepers(run: _Run, checkpoints) -> list:
    """The callbacks that measure the model and write: of one process alone."""
    from dgn_tf.training import callbacks, datasets
    from dgn_tf.training.shut_channels import WatchShutChannels

    validation = datasets.validation_batches(run.template, run.settings)
    views, held_out, energies = run.settings.real_validation_frames, [], []
    if run.real:
        held_out = run.real.held_out_batches(run.template, views)
    if run.unlabelled:
        energies = run.unlabelled.held_out_batches(views)
    parts = [
        callbacks.Validate(
            validation,
            run.folder,
            run.flagfile,
            run.info,
            held_out,
            energies,
            keep=run.settings.keep_weights,
        ),
        WatchShutChannels(validation, run.settings.stop_when_shut),
        callbacks.WriteLog(run.folder),
        callbacks.SaveCheckpoint(checkpoints),
        callbacks.PrintEpochs(run.folder, run.settings.steps),
    ]
    if run.settings.summaries:
        parts.insert(1, callbacks.Summaries(run.folder / "summaries", validation[0]))
    return parts


def _template(settings: Train) -> "HandTemplate":
    from dgn_tf.template import DEFAULT_TEMPLATE_PATH, HandTemplate

    path = settings.template or DEFAULT_TEMPLATE_PATH
    return HandTemplate.load(path, embedding=settings.embedding)


if __name__ == "__main__":
    errors.run(main)
