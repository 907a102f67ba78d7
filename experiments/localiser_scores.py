"""How well hands are found in whole synthetic frames: a localiser against blobs of a hand's size.

    python -m experiments.localiser_scores --json=runs/localiser.json

A test split of its own: neither training nor the choice of the checkpoint sees it.
"""

import numpy as np
import tensorflow as tf
from absl import flags

from dgn_tf import errors
from dgn_tf.json_file import write_json
from dgn_tf.localize import training
from dgn_tf.localize.finders import load_finder
from dgn_tf.localize.network import load_localiser
from dgn_tf.synthesis import whole_frames
from dgn_tf.template import load_template

_LOCALISER = flags.DEFINE_string("localiser", "", "Its folder; empty: the one that ships.")
_FRAMES = flags.DEFINE_integer("frames", 1000, "Of the test split.", lower_bound=20)
_JSON = flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")

SALT, SEED, BATCH = 1005, 1, 50
THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 0.7)
SEEN = (0, 40, 100, 250, 600, 20480)  # visible pixels of the hand in the thinned frame


def frames(count: int) -> list[dict]:
    """Batches of the test split."""
    config = whole_frames.whole_frame_config(whole_frames.SynthesisConfig(salt=SALT))
    settings = whole_frames.WholeFrameSettings()
    return [
        whole_frames.render_whole_frames(
            load_template(), config, settings, SEED, start, min(BATCH, count - start)
        )
        for start in range(0, count, BATCH)
    ]


def results(locate, batches) -> dict[str, np.ndarray]:
    """`evaluation.frame_results` of all frames, their scores and the pixels of their hands."""
    parts = []
    for batch in batches:
        located = locate(tf.constant(batch["depth"]), tf.constant(batch["intrinsics"]))
        pixels = [(batch["owner"] == hand).sum(axis=(1, 2)) for hand in range(whole_frames.HANDS)]
        parts.append(
            {
                **training.frame_results(located, batch),
                "score": np.asarray(located["score"])[:, 0],
                "pixels": np.max(pixels, axis=0),
            }
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def by_pixels(found: dict[str, np.ndarray]) -> dict[str, dict]:
    """Figures by how many pixels of the thinned frame show the hand."""
    table = {}
    for low, high in zip(SEEN[:-1], SEEN[1:], strict=True):
        own = found["has_hand"] & (found["pixels"] >= low) & (found["pixels"] < high)
        if own.any():
            error = found["error"][own]
            table[f"{low} to {high - 1}"] = {
                "frames": int(own.sum()),
                "median_mm": float(np.median(error)),
                "within_60": float((error < 60).mean()),
            }
    return table


def by_threshold(found: dict[str, np.ndarray]) -> dict[str, dict]:
    """What a threshold of the score keeps, and what of that is wrong."""
    hand = found["has_hand"]
    table = {}
    for least in THRESHOLDS:
        kept = found["score"] >= least
        table[f"{least:g}"] = {
            "found": float(kept[hand].mean()),
            "off_by_60_among_found": float((found["error"][hand & kept] >= 60).mean()),
            "false_alarms": float(kept[~hand].mean()) if (~hand).any() else 0.0,
        }
    return table


def main(_):
    batches = frames(_FRAMES.value)
    network = results(tf.function(load_localiser(_LOCALISER.value).locate), batches)
    blob = load_finder("blob")

    def sideless(depth, intrinsics):
        found = blob(depth, intrinsics)
        return {**found, "left": tf.zeros_like(found["score"])}

    scores = {
        "frames": _FRAMES.value,
        "localiser": training.figures(network),
        "blobs": training.figures(results(tf.function(sideless), batches)),
        "by_pixels": by_pixels(network),
        "by_threshold": by_threshold(network),
    }
    for name, value in scores.items():
        if isinstance(value, dict):
            print(name)
            for key, figure in value.items():
                if isinstance(figure, dict):
                    figure = ", ".join(f"{k} {v:.3g}" for k, v in figure.items())
                    print(f"  {key:16} {figure}")
                else:
                    print(f"  {key:16} {figure:.4g}")
    if _JSON.value:
        write_json(scores, _JSON.value)


if __name__ == "__main__":
    errors.run(main)
