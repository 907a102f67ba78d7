"""Writes synthetic hands as sharded TFRecord files, in parallel, resumable and reproducible.

    python -m data_prep.synthetic_to_tfrecord --output_dir=OUT --config=configs/synthetic_test.json

A sample depends on the template, the config, the seed and its number alone. So the same flags give
the same bytes, whatever --workers is, and a run that was killed goes on with the shards that are
missing.
"""

import dataclasses
import json
import os

from absl import flags

from data_prep.sharded_records import write_set
from dgn_tf import errors
from dgn_tf.errors import InputError
from dgn_tf.records import schema
from dgn_tf.synthesis.batches import synthesize_batch
from dgn_tf.synthesis.pose_prior import PosePrior, load_for
from dgn_tf.synthesis.settings import SynthesisConfig
from dgn_tf.template import HANDS, load_template

_BATCH = 16

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the records.", required=True)
_CONFIG = flags.DEFINE_string(
    "config", "", "JSON file of a SynthesisConfig; empty for the training distribution."
)
_POSE_PRIOR = flags.DEFINE_string(
    "pose_prior", "", "Poses of data_prep.fit_template to draw some from; empty: none."
)
_TEMPLATE = flags.DEFINE_string("template", "", "Hand template (.npz); empty for the one shipped.")
_HAND = flags.DEFINE_enum(
    "hand",
    "right",
    HANDS,
    "left: the frames are those of left hands, which mirror the right hands that the seed draws. "
    "As records hold left hands mirrored, they hold the same right hands, each marked as a left.",
)
_COUNT = flags.DEFINE_integer("count", 2000, "Number of frames.", lower_bound=1)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of all random draws.", lower_bound=0, upper_bound=2**32 - 1
)
_SHARDS = flags.DEFINE_integer("shards", 8, "Number of files.", lower_bound=1, upper_bound=99999)
_WORKERS = flags.DEFINE_integer(
    "workers", 0, "Shards written at once; 0 for one per processor.", lower_bound=0
)


@dataclasses.dataclass(frozen=True)
class Frames:
    """Which frames a set of records holds.

    Attributes:
        config: what they are sampled from.
        count: how many.
        seed: of all random draws.
        prior: poses to draw some from, see `synthesize_batch`.
        hand: see the flag.
    """

    config: SynthesisConfig
    count: int
    seed: int = 0
    prior: PosePrior | None = None
    hand: str = "right"


def write_records(
    output_dir: str | os.PathLike,
    template,
    frames: Frames,
    shards: int,
    workers: int = 0,
    progress: bool = True,
) -> dict:
    """Writes what is missing of a set of records, then their description.json.

    Args:
        output_dir: folder, made if need be.
        template: HandTemplate.
        frames: which ones.
        shards: files.
        workers: shards written at once, 0 for one per processor.
        progress: show a bar.

    Returns:
        The description: counts, hashes, config.

    Raises:
        InputError: the folder holds other records or cannot be written, or shards > count.
    """
    config, count, seed, prior = frames.config, frames.count, frames.seed, frames.prior
    left = frames.hand == "left"
    if shards > count:
        raise InputError(f"--shards={shards}: more files than frames (--count={count}).")
    plan = {
        "format_version": schema.FORMAT_VERSION,
        "template_name": template.name,
        "template_hash": template.hash,
        "mesh_hash": schema.mesh_hash(template),
        "keypoints": len(template.keypoints),
        "seed": seed,
        "hand": frames.hand,
        "count": count,
        "shards": shards,
        "config": json.loads(config.to_json()),
        **({"pose_prior": prior.facts()} if prior else {}),
    }

    def batches(numbers):
        for first in range(numbers.start, numbers.stop, _BATCH):
            size = min(_BATCH, numbers.stop - first)
            batch = synthesize_batch(template, config, seed, first, size, threads=1, prior=prior)
            yield [
                schema.encode_example(
                    {name: v[row] for name, v in batch.items()}, first + row, left
                )
                for row in range(size)
            ]

    def details(_):
        spec = schema.feature_spec(plan["keypoints"])
        spec |= schema.mirror_spec() if left else {}
        return {
            "depth_unit_mm": schema.DEPTH_UNIT_MM,
            "vertex_unit_mm": schema.VERTEX_UNIT_MM,
            "features": {name: f"{one.dtype.name} {list(one.shape)}" for name, one in spec.items()},
        }

    return write_set(output_dir, plan, "synthetic", batches, details, workers, progress)


def main(_):
    template = load_template(_TEMPLATE.value or None)
    config = SynthesisConfig.load(_CONFIG.value) if _CONFIG.value else SynthesisConfig()
    description = write_records(
        _OUTPUT_DIR.value,
        template,
        Frames(
            config,
            _COUNT.value,
            _SEED.value,
            load_for(config, _POSE_PRIOR.value),
            _HAND.value,
        ),
        _SHARDS.value,
        _WORKERS.value,
    )
    print(
        f"{description['count']} frames of {description['hand']} hands in {description['shards']} "
        f"files in {_OUTPUT_DIR.value}, content {description['content_hash']}"
    )


if __name__ == "__main__":
    errors.run(main)
