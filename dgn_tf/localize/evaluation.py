"""How well hands are found in whole frames whose hands are known."""

import numpy as np
import tensorflow as tf

from dgn_tf.localize.votes import FOUND

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
