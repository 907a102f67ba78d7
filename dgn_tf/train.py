"""Trains Dual Grid Net.

    python -m dgn_tf.train --flagfile=configs/synthetic.flags --output_dir=runs/synthetic

A run is resumed by giving the same command again: same flags, same data position, same
optimiser and averages. With --strategy it trains on several devices, to the same weights.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
from typing import TYPE_CHECKING

from absl import flags, logging

from dgn_tf import errors
from dgn_tf.errors import InputError
from dgn_tf.training.building import ENERGY, build_model, build_optimizer, network_config

if TYPE_CHECKING:
    from dgn_tf.template import HandTemplate
    from dgn_tf.training.real_frames import RealFrames
    from dgn_tf.training.unlabelled import UnlabelledViews

__all__ = ["ENERGY", "build_model", "build_optimizer", "network_config", "train"]

FLAGS = flags.FLAGS

flags.DEFINE_string("output_dir", None, "Folder of the run: checkpoints, best/, last/, logs.")
flags.DEFINE_enum("data", "online", ["online", "records"], "Synthesise as it trains, or read.")
flags.DEFINE_string("synthetic_records", "", "With --data=records: folder of synthetic records.")
flags.DEFINE_string("synthesis_config", "", "JSON of the sampler; empty: the training sampler.")
flags.DEFINE_string(
    "easy_config", "configs/synthetic_easy.json", "JSON of the sampler of the first --easy_steps."
)
flags.DEFINE_integer(
    "easy_steps", 0, "With --data=online: steps on easy frames at the start; 0: none.", 0
)
flags.DEFINE_string(
    "real_records", "", "Folder of labelled frames, such as data/nyu_records/train; empty: none."
)
flags.DEFINE_float(
    "real_fraction", 0.5, "With --real_records: their share of each batch; 1: they go alone.", 0, 1
)
flags.DEFINE_list(
    "real_cameras", None, "Numbers of the real or unlabelled cameras to learn from; empty: all."
)
flags.DEFINE_float(
    "labelled_fraction", 1.0, "Share of the time steps whose labels are used, evenly spread.", 0, 1
)
flags.DEFINE_float(
    "held_out",
    0.1,
    "Share of the time steps of --real_records (of the labelled ones) or "
    "--unlabelled_records that chooses best/ instead; 0: none.",
    0,
    0.5,
)
flags.DEFINE_integer(
    "real_validation_frames", 480, "Views of the part held out that are measured.", lower_bound=1
)
flags.DEFINE_float(
    "real_keypoint_weight", 1.0, "Of the key points of T, real frames.", lower_bound=0
)
flags.DEFINE_string(
    "unlabelled_records",
    "",
    "Folder of views to learn from by the energy of Eq. 5, such as "
    "data/nyu_records/train; labels in it are not used. Empty: none.",
)
flags.DEFINE_integer(
    "unlabelled_steps",
    8,
    "Unlabelled time steps (single views with --nomulti_view) in a training "
    "step, beside --batch_size synthetic frames.",
    lower_bound=1,
)
flags.DEFINE_float(
    "unlabelled_fraction",
    1.0,
    "Share of the unlabelled time steps to learn from, in ten runs of "
    "neighbouring ones that --seed draws.",
    0,
    1,
)
flags.DEFINE_bool(
    "fit_test_split",
    False,
    "Let --unlabelled_records be the test split: the model fits the very "
    "frames that it will be measured on (without labels; its card says so).",
)
flags.DEFINE_bool("multi_view", True, "Synchronised unlabelled views; false: each view alone.")
flags.DEFINE_float(
    "energy_weight",
    1.0,
    "Of the energy against the supervised terms; 0: measured, not learnt from.",
    lower_bound=0,
)
flags.DEFINE_float(
    "estimates_fraction",
    0.0,
    "Share of the synthetic frames that show the network's own "
    "estimates of the unlabelled views (active augmentation, Sec. 4.4); 0: none.",
    0,
    1,
)
# Defaults are those of EnergyConfig; the paper gives no value.
flags.DEFINE_float("omega", 1.0, "Of lifting against ICP, 0: without (Eq. 6).", lower_bound=0)
flags.DEFINE_float("lambda1", 1.0, "Of the priors: collision, arap, offset (Eq. 5).", lower_bound=0)
flags.DEFINE_float("lambda2", 1.0, "Of the multi-view terms (Eq. 5).", lower_bound=0)
flags.DEFINE_float("collision", 1.0, "Of collision among the priors (1 in Eq. 9).", lower_bound=0)
flags.DEFINE_float("kappa1", 0.01, "Of arap among the priors, 1 / mm (Eq. 9).", lower_bound=0)
flags.DEFINE_float("kappa2", 0.01, "Of offset among the priors, 1 / mm (Eq. 9).", lower_bound=0)
flags.DEFINE_float("vertex", 1.0, "Of the views' median among them (1 in Eq. 14).", lower_bound=0)
flags.DEFINE_float("eta1", 1.0, "Of ICP against the other views (Eq. 14).", lower_bound=0)
flags.DEFINE_float("eta2", 1.0, "Of lifting against the other views (Eq. 14).", lower_bound=0)
flags.DEFINE_float(
    "free_space",
    0.0,
    "Of vertices where a camera looks past the hand, in each view and the "
    "others; 0: without, as the paper.",
    lower_bound=0,
)
flags.DEFINE_string(
    "pose_prior", "", "Poses of data_prep.fit_template, for on-line frames; empty: none."
)
flags.DEFINE_string("template", "", "Hand template (.npz); empty: the one that ships.")
flags.DEFINE_enum("embedding", "layered", ["layered", "atlas", "mds"], "Mesh coordinates.")
flags.DEFINE_enum("network", "default", ["default", "paper"], "Configuration to start from.")
flags.DEFINE_list("image_channels", None, "Channels by level, image hourglass; empty: preset's.")
flags.DEFINE_list("mesh_channels", None, "Channels by level, mesh hourglass; empty: preset's.")
flags.DEFINE_integer("blocks", None, "Residual blocks a level.", lower_bound=1)
flags.DEFINE_integer("features", None, "Channels of the feature map I_f.", lower_bound=1)
flags.DEFINE_enum("norm", None, ["batch", "none"], "Normalisation in the image hourglass.")
flags.DEFINE_enum("mesh_norm", None, ["batch", "none"], "Normalisation in the mesh hourglass.")
flags.DEFINE_enum(
    "activation",
    None,
    ["relu", "leaky_relu"],
    "Of the convolutions; leaky_relu passes a tenth of what is below 0. Empty: preset's.",
)
flags.DEFINE_enum("scale", None, ["umeyama", "symmetric", "none"], "Scale of SimilarityFit.")
flags.DEFINE_enum(
    "similarity_solver",
    "svd",
    ["svd", "horn"],
    "How a training step finds the rotations of Eq. 3: by SVD, or by the plain arithmetic of the "
    "exported model. Both agree.",
)
flags.DEFINE_integer("extension_stride", None, "1: every pixel; 2: one of each 2x2 block.", 1, 2)
flags.DEFINE_integer("batch_size", 32, "Frames a step.", lower_bound=1)
flags.DEFINE_integer("steps", 10_000, "Steps of the whole run.", lower_bound=1)
flags.DEFINE_integer("steps_per_epoch", 250, "Steps between checkpoints.", lower_bound=1)
flags.DEFINE_float("learning_rate", 2e-3, "Rate held between rise and fall.", lower_bound=0)
flags.DEFINE_integer("warmup_steps", 300, "Steps of the rate's rise.", lower_bound=0)
flags.DEFINE_integer(
    "decay_start", -1, "Step at which the rate begins to fall; -1: at 60 % of --steps."
)
flags.DEFINE_enum("optimizer", "adamw", ["adamw", "muon"], "Muon: of the kernels, else AdamW.")
flags.DEFINE_float("weight_decay", 1e-4, "The optimiser's decoupled decay.", lower_bound=0)
flags.DEFINE_float("clip_norm", 0.0, "Gradients are clipped to this norm; 0: not.", lower_bound=0)
flags.DEFINE_float("ema_momentum", 0.998, "Of the weights' averages; 0: none.", 0, 1)
flags.DEFINE_integer("seed", 1, "Of the weights and the data.", lower_bound=0)
flags.DEFINE_string("init_weights", "", "weights.h5 or model folder to start from.")
flags.DEFINE_bool(
    "init_other_template",
    False,
    "Take --init_weights although of another template: what the "
    "networks see of a depth frame carries over, the map of the mesh is learnt anew.",
)
flags.DEFINE_bool(
    "revive",
    True,
    "Give channels of --init_weights that a ReLU lets through on no validation frame back: the "
    "network computes the same at first, but they learn again.",
)
flags.DEFINE_bool(
    "stop_when_shut",
    True,
    "End the run, by name, where a residual block lets no channel through on any validation frame.",
)
flags.DEFINE_enum("loss", "robust", ["robust", "mse"], "Huber and L1 (mm), or Eq. 4's squares.")
flags.DEFINE_float("correspondence_weight", 10.0, "Of the I_m term.", lower_bound=0)
flags.DEFINE_float("alpha", 1.0, "Of the P_r term (Eq. 4).", lower_bound=0)
flags.DEFINE_float("vertices_sampled_weight", 1.0, "Of the P_s term.", lower_bound=0)
flags.DEFINE_float("keypoint_weight", 1.0, "Of the key points of T.", lower_bound=0)
flags.DEFINE_float("layer_weight", 5.0, "Of the layer's cross entropy.", lower_bound=0)
flags.DEFINE_integer("validation_frames", 480, "Frames that choose the checkpoint.", lower_bound=1)
flags.DEFINE_string(
    "validation_config", "configs/synthetic_val_2.json", "JSON of the validation split's sampler."
)
flags.DEFINE_bool("jit_compile", False, "XLA (slower on CPU, see BUILD.md).")
flags.DEFINE_bool("mixed_precision", False, "float16 convolutions; for GPUs.")
flags.DEFINE_bool(
    "bfloat16",
    False,
    "bfloat16 convolutions and matrix products in the training step; for CPUs "
    "with AVX-512 BF16 or AMX.",
)
flags.DEFINE_enum(
    "strategy",
    "one",
    ["one", "mirrored", "multiworker"],
    "Devices: one; all of this process, "
    "which share each batch; or those of every worker process that TF_CONFIG names.",
)
flags.DEFINE_float(
    "worker_wait_s",
    300.0,
    "With --strategy=multiworker: longest wait for the other workers at the start, s.",
    lower_bound=0,
)
flags.DEFINE_bool("summaries", True, "TensorBoard scalars and pictures.")
flags.DEFINE_bool(
    "keep_weights",
    False,
    "Keep the weights of every epoch, as model folders epochs/STEP; else best/ and last/ alone.",
)
flags.DEFINE_bool("smoke", False, "A minute's run over every part of the trainer.")

# A resumed run may be prolonged and its rate's fall moved: the steps done stay the same.
MAY_CHANGE = frozenset(
    {
        "steps",
        "decay_start",
        "validation_frames",
        "validation_config",
        "summaries",
        "keep_weights",
        "stop_when_shut",
        "real_validation_frames",
        "real_records",  # may lie elsewhere: their content is compared
        "unlabelled_records",  # likewise
        "pose_prior",  # likewise
        "strategy",  # the arithmetic is the same but for rounding
        "similarity_solver",  # likewise
    }
)
NOT_SETTINGS = frozenset({"output_dir", "worker_wait_s"})
SMOKE = {
    "steps": 12,
    "steps_per_epoch": 6,
    "batch_size": 8,
    "validation_frames": 8,
    "real_validation_frames": 8,
    "unlabelled_steps": 2,
}


def main(_):
    if not FLAGS.output_dir:
        raise InputError("--output_dir is wanted: the folder of the run, such as runs/synthetic.")
    if FLAGS.data == "records" and not FLAGS.synthetic_records:
        raise InputError(
            "--data=records wants --synthetic_records=DIR; python -m "
            "data_prep.synthetic_to_tfrecord --output_dir=DIR makes one."
        )
    if FLAGS.real_records and not (FLAGS.real_keypoint_weight and FLAGS.labelled_fraction):
        raise InputError(
            "--real_records wants --real_keypoint_weight and --labelled_fraction above 0: without "
            "them nothing is learnt from the records."
        )
    if FLAGS.real_records and FLAGS.unlabelled_records:
        raise InputError(
            "--real_records and --unlabelled_records are one or the other: learn from the labels, "
            "or without them."
        )
    _check_unlabelled_flags()
    _check_strategy_flags()
    if FLAGS.bfloat16 and FLAGS.mixed_precision:
        raise InputError(
            "--bfloat16 and --mixed_precision are one or the other: bfloat16 on CPUs, float16 on "
            "GPUs."
        )
    if FLAGS.smoke:
        for name, value in SMOKE.items():
            setattr(FLAGS, name, value)
    if FLAGS.steps % FLAGS.steps_per_epoch:
        # Checkpoints and validation lie at the ends of epochs: the last steps would have neither.
        raise InputError(
            f"--steps={FLAGS.steps} is no multiple of --steps_per_epoch={FLAGS.steps_per_epoch}; "
            "change one of them."
        )
    train(FLAGS.flag_values_dict())


def _check_unlabelled_flags():
    if FLAGS.unlabelled_records and not FLAGS.unlabelled_fraction:
        raise InputError("--unlabelled_fraction=0 leaves nothing to learn from; wanted above 0.")
    if FLAGS.estimates_fraction and not FLAGS.unlabelled_records:
        raise InputError(
            "--estimates_fraction wants --unlabelled_records: the frames show what the network "
            "estimates for their views."
        )
    if FLAGS.estimates_fraction and FLAGS.data == "records":
        raise InputError(
            "--estimates_fraction wants --data=online: its frames are rendered in place of "
            "synthesised ones, and records are rendered already."
        )


def _check_strategy_flags():
    if FLAGS.strategy == "one":
        return
    if FLAGS.unlabelled_records:
        # The energy's means are over all usable views, its draws over all views of a batch.
        raise InputError(
            "--unlabelled_records wants --strategy=one: its terms are not cut among devices."
        )
    if FLAGS.jit_compile:
        raise InputError("--jit_compile wants --strategy=one: its steps are not cut by XLA.")


@dataclasses.dataclass
class _Run:
    """A run as its flags describe it; `settings` are what decides its arithmetic."""

    values: dict
    folder: pathlib.Path
    defaults: dict
    settings: dict
    flagfile: str
    template: "HandTemplate"
    info: dict
    real: "RealFrames | None"
    unlabelled: "UnlabelledViews | None"


def train(values: dict) -> None:
    """Runs or resumes the training that the flags `values` describe."""
    import tensorflow as tf

    from dgn_tf.training import datasets, devices

    run = _described(values)
    frames = datasets.frames_of_kinds(run.settings)
    where = devices.open_devices(values["strategy"], frames, values["worker_wait_s"])
    with where.workers_alive(run.folder), contextlib.ExitStack() as held:
        tf.keras.utils.set_random_seed(values["seed"])
        with where.scope():
            model = build_model(run.template, run.settings)
        _fit(run, model, where, held)
        where.barrier()  # a worker that goes early looks to the others as one that died


def _described(values: dict) -> _Run:
    from dgn_tf.training import datasets, run_folder

    own = {f.name: f.default for f in FLAGS.flags_by_module_dict()[_flags_module()]}
    settings = {k: v for k, v in values.items() if k in own and k not in NOT_SETTINGS}
    flagfile = "".join(f"--{k}={_flag_text(v)}\n" for k, v in settings.items() if v is not None)
    template = _template(settings)
    settings["template_hash"] = template.hash
    info = {"seed": values["seed"], "commit": run_folder.commit()}
    real = datasets.real_frames(settings, network_config(settings).image_size)
    settings["real_records_hash"] = None
    if real:
        info["real_frames"] = real.facts(template)
        settings["real_records_hash"] = info["real_frames"]["content_hash"]
        logging.info("real frames: %s", info["real_frames"])
    unlabelled = datasets.unlabelled_views(settings, network_config(settings).image_size)
    settings["unlabelled_records_hash"] = None
    if unlabelled:
        info["unlabelled_views"] = unlabelled.facts()
        settings["unlabelled_records_hash"] = info["unlabelled_views"]["content_hash"]
        logging.info("unlabelled views: %s", info["unlabelled_views"])
    prior = datasets.pose_prior_facts(settings)
    settings["pose_prior_hash"] = prior and prior["content_hash"]
    if prior:
        info["pose_prior"] = prior
        logging.info("pose prior: %s", prior)
    folder = pathlib.Path(values["output_dir"])
    return _Run(values, folder, own, settings, flagfile, template, info, real, unlabelled)


def _fit(run: _Run, model, where, held: contextlib.ExitStack) -> None:
    from dgn_tf.training import callbacks, datasets, estimate_pool, estimates, run_folder

    values, settings, folder, template = run.values, run.settings, run.folder, run.template
    if settings["init_weights"] and not run_folder.has_checkpoint(folder):
        from dgn_tf.model_folder import load_weights

        load_weights(model.network, settings["init_weights"], settings["init_other_template"])
        if settings["revive"]:
            from dgn_tf.training.shut_channels import revive

            count = revive(model.network, datasets.validation_batches(template, settings))
            logging.info("%d shut channels of --init_weights were given back", count)
    resumed = run_folder.has_checkpoint(folder)
    if where.chief:
        # Only now: flags that are wrong so far leave no folder behind.
        run_folder.begin_alone(folder, held)
        resumed = run_folder.open_run_folder(
            folder, settings, run.flagfile, MAY_CHANGE, run.defaults
        )
    # Not before: the averages begin at the weights that the optimiser is built with.
    with where.scope():
        build_optimizer(model)
    pool, saved = None, {}
    if run.unlabelled and settings["estimates_fraction"]:
        views = run.unlabelled.views_of(settings["unlabelled_steps"])
        model.estimates = estimates.EstimateRing(template, views)
        pool, saved = estimate_pool.EstimatePool(values["seed"]), {"estimates": model.estimates}
    checkpoints = run_folder.Checkpoints(folder, model.network, model.optimizer, **saved)
    checkpoints.restore()
    step = int(model.optimizer.iterations.numpy())
    where.check_agreement(settings, step)
    logging.info("%s at step %d of %d", "resumed" if resumed else "begun", step, values["steps"])
    if step >= values["steps"]:
        logging.info("nothing to do: %s has all its %d steps", folder, step)
        return

    parts = [callbacks.StopWhenNotFinite(), callbacks.MeanTerms()]
    if where.chief:
        run_folder.mend_log(folder / "log.csv", step // values["steps_per_epoch"])
        parts += _keepers(run, checkpoints)
    if pool:
        pool.restore(model.estimates, step)
        parts.append(callbacks.FeedEstimates(pool))
    per_epoch = values["steps_per_epoch"]
    batches = functools.partial(
        datasets.training_data, template, settings, step, run.real, run.unlabelled, pool
    )
    held.enter_context(datasets.records_are_readable(settings))
    model.fit(
        where.batches(batches),
        initial_epoch=step // per_epoch,
        epochs=-(-values["steps"] // per_epoch),
        steps_per_epoch=per_epoch,
        callbacks=parts,
        verbose=1 if os.isatty(1) else 2,
    )


def _keepers(run: _Run, checkpoints) -> list:
    """The callbacks that measure the model and write: of one process alone."""
    from dgn_tf.training import callbacks, datasets
    from dgn_tf.training.shut_channels import WatchShutChannels

    validation = datasets.validation_batches(run.template, run.settings)
    views, held_out, energies = run.values["real_validation_frames"], [], []
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
            keep=run.values["keep_weights"],
        ),
        WatchShutChannels(validation, run.values["stop_when_shut"]),
        callbacks.WriteLog(run.folder),
        callbacks.SaveCheckpoint(checkpoints),
    ]
    if run.values["summaries"]:
        parts.insert(1, callbacks.Summaries(run.folder / "summaries", validation[0]))
    return parts


def _template(settings: dict):
    from dgn_tf.template import DEFAULT_TEMPLATE_PATH, HandTemplate

    path = settings["template"] or DEFAULT_TEMPLATE_PATH
    return HandTemplate.load(path, embedding=settings["embedding"])


def _flags_module() -> str:
    """The name under which absl keeps this module's flags (`__main__`'s file when run)."""
    by_module = FLAGS.flags_by_module_dict()
    return next(name for name, found in by_module.items() if any(f.name == "smoke" for f in found))


def _flag_text(value) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return json.dumps(value) if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    errors.run(main)
