"""What a run learns from and is validated on, by its settings."""

import contextlib
import functools
import os
from collections.abc import Iterator

from dgn_tf.config import Train
from dgn_tf.errors import InputError, input_error_within, reason
from dgn_tf.records.batches import WHOLE, Batching, Share
from dgn_tf.records.reader import read_description, record_files
from dgn_tf.synthesis import pose_prior
from dgn_tf.training.estimates import EstimatePool
from dgn_tf.training.real_frames import RealFrames, mix, real_count
from dgn_tf.training.unlabelled import UnlabelledViews, put_beside

# Far from the seeds that anybody trains with; the test split has another (docs/design.md).
VALIDATION_SEED = 1_000_001


def training_data(
    template,
    settings: Train,
    step: int,
    real: RealFrames | None = None,
    unlabelled: UnlabelledViews | None = None,
    estimates: EstimatePool | None = None,
    share: Share = WHOLE,
):
    """Batches from `step` on; the same whether the run was interrupted or not.

    With `real` frames, --real_fraction of each batch is theirs; `unlabelled` views come on top
    of the batch, --unlabelled_steps of them. With `estimates`, --estimates_fraction of the
    synthetic frames show hands of theirs. With a `share` of the batch neither can be.
    """
    batch_size, seed = settings.batch_size, settings.seed
    if unlabelled:
        synthetic = synthetic_data(template, settings, batch_size, step, estimates)
        views = unlabelled.training(settings.unlabelled_steps, seed, step)
        return put_beside(synthetic, views)
    if real is None:
        return synthetic_data(template, settings, batch_size, step, share=share)
    count = real_count(batch_size, settings.real_fraction)
    rest = batch_size - count
    synthetic = synthetic_data(template, settings, rest, step, share=share) if rest else None
    return mix(real.training(template, count, seed, step, share), synthetic)


@contextlib.contextmanager
def records_are_readable(settings: Train) -> Iterator[None]:
    """Records that turn out to be damaged in the block end it with one line.

    Raises:
        InputError: a batch could not be read, and there are records to blame.
    """
    import tensorflow as tf

    flags = ("synthetic_records", "real_records", "unlabelled_records")
    used = [f"--{name}={value}" for name in flags if (value := getattr(settings, name))]
    try:
        yield
    except tf.errors.OpError as error:
        if not used or "IteratorGetNext" not in str(error):
            raise
        why = input_error_within(error) or f"{', '.join(used)}: can't be read ({reason(error)})"
        raise InputError(why) from None


def frames_of_kinds(settings: Train) -> list[int]:
    """Frames of each kind in a batch: real ones, where there are any, and synthetic ones."""
    batch_size = settings.batch_size
    if not settings.real_records:
        return [batch_size]
    count = real_count(batch_size, settings.real_fraction)
    return [count, batch_size - count]


def synthetic_data(
    template,
    settings: Train,
    batch_size: int,
    step: int,
    estimates: EstimatePool | None = None,
    share: Share = WHOLE,
):
    """Synthetic batches from `step` on, read or made on the way (--data)."""
    from dgn_tf.records.reader import record_dataset
    from dgn_tf.synthesis.online import online_dataset

    if settings.data == "records":
        return record_dataset(
            settings.synthetic_records,
            template,
            batching=Batching(
                batch_size=batch_size,
                shuffle=True,
                seed=settings.seed,
                start_step=step,
                repeat=True,
                share=share,
            ),
        )

    hands = None
    if estimates:
        # At least one: the flag says that there are to be some.
        count = max(1, round(settings.estimates_fraction * batch_size))
        hands = functools.partial(estimates.take, count=count)
    prior = _prior(settings)

    def online(file, first):
        config = _synthesis_config(file)
        return online_dataset(
            template,
            config,
            hands=hands,
            prior=prior,
            batching=Batching(
                seed=settings.seed, batch_size=batch_size, start_step=first, share=share
            ),
        )

    easy = settings.easy_steps
    batches = online(settings.synthesis_config, max(step, easy))
    if step < easy:
        # Palm and back look alike at first; on hands without noise they come apart sooner.
        batches = online(settings.easy_config, step).take(easy - step).concatenate(batches)
    return batches


def pose_prior_facts(settings: Train) -> dict | None:
    """What a model's `config.json` is to say of the poses behind its synthetic frames.

    Those of --pose_prior or, with --data=records, of the prior that the records were made with.

    Raises:
        InputError: --pose_prior goes with --data=records, its file can't be read, or the sampler of
            --synthesis_config draws no pose from it.
    """
    if settings.data == "records":
        if settings.pose_prior:
            raise InputError(
                "--pose_prior wants --data=online: records have their poses; write them again with "
                "data_prep.synthetic_to_tfrecord --pose_prior."
            )
        folder = os.path.dirname(record_files(settings.synthetic_records)[0])
        return read_description(folder or ".").get("pose_prior")
    prior = _prior(settings)
    return prior and prior.facts()


def _prior(settings):
    file = settings.pose_prior
    return pose_prior.load_for(_synthesis_config(settings.synthesis_config), file)


def real_frames(settings: Train, size: int) -> RealFrames | None:
    """The frames of --real_records as crops of `size` pixels; None without the flag."""
    if not settings.real_records:
        return None
    return RealFrames(
        settings.real_records,
        _camera_numbers(settings.real_cameras),
        settings.labelled_fraction,
        settings.held_out,
        size,
    )


def unlabelled_views(settings: Train, size: int) -> UnlabelledViews | None:
    """The views of --unlabelled_records as crops of `size` pixels; None without the flag."""
    if not settings.unlabelled_records:
        return None
    return UnlabelledViews(
        settings.unlabelled_records,
        _camera_numbers(settings.real_cameras),
        settings.multi_view,
        settings.held_out,
        size,
        settings.unlabelled_fraction,
        settings.fit_test_split,
    )


def _camera_numbers(cameras) -> tuple[int, ...]:
    try:
        return tuple(int(camera) for camera in cameras or ())
    except ValueError:
        raise InputError(
            f"--real_cameras={','.join(cameras)}: wanted numbers from 1, separated by commas."
        ) from None


def validation_batches(template, settings: Train) -> list:
    """The first `validation_frames` of the validation split, with targets."""
    import tensorflow as tf

    from dgn_tf.records.batches import targets
    from dgn_tf.synthesis.batches import synthesize_batch

    config = _synthesis_config(settings.validation_config)
    batches = []
    for first in range(0, settings.validation_frames, 48):
        count = min(48, settings.validation_frames - first)
        example = synthesize_batch(template, config, VALIDATION_SEED, first, count)
        batches.append(targets({k: tf.constant(v) for k, v in example.items()}, template))
    return batches


def _synthesis_config(file: str):
    from dgn_tf.synthesis.settings import SynthesisConfig

    return SynthesisConfig.load(file) if file else SynthesisConfig()
