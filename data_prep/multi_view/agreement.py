"""Which of each view's blobs is the hand: the place that the views of a time step agree on."""

import numpy as np


def agreed_centres(
    candidates: np.ndarray,
    scores: np.ndarray,
    camera_from_rig: np.ndarray,
    reach_mm: float = 100.0,
) -> np.ndarray:
    """Chooses one candidate a view, so that they are one thing seen from several sides.

    Each candidate of each view is a hypothesis of where the hand is. A view gives it the best
    score among its own candidates within `reach_mm` of there, or else the lowest score that it
    has: one view's doubt costs little, and an elbow that is nearest in one view has no support in
    the others. Visible surfaces of one hand, seen from two sides, have their centres of mass at
    most some `reach_mm` apart. Where no two views agree on anything (the rig may be wrong), each
    keeps its own best.

    Args:
        candidates: [C, K, 3] mm, each in its own camera's frame.
        scores: [C, K]; -inf: no such candidate.
        camera_from_rig: [C, 4, 4] rigid, mm.
        reach_mm: see above.

    Returns:
        [C, 3] mm, camera frames: the view's own candidate within reach that scores best, else the
        place that the others agree on; NaN where there is neither.
    """
    there = np.isfinite(scores)
    if not there.any():
        return np.full([len(candidates), 3], np.nan)
    rotation, shift = camera_from_rig[:, :3, :3], camera_from_rig[:, :3, 3]
    # rig = R^T (camera - t): for row vectors (camera - t) R.
    in_rig = np.einsum("ckj,cji->cki", candidates - shift[:, None], rotation)
    places = in_rig[there]  # [H, 3]
    near = np.linalg.norm(places[:, None, None] - in_rig, axis=-1) <= reach_mm  # [H, C, K]
    support = np.where(near & there, scores, -np.inf)
    sees = there.any(axis=1)
    lowest = np.where(there, scores, np.inf).min(axis=1)
    total = np.where(sees, np.maximum(support.max(axis=2), lowest), 0.0).sum(axis=1)
    best = int(np.argmax(total))
    moved = np.einsum("cij,j->ci", rotation, places[best]) + shift
    own = np.isfinite(support[best].max(axis=1))
    if own.sum() < 2:
        alone = candidates[np.arange(len(candidates)), scores.argmax(axis=1)]
        return np.where(sees[:, None], alone, np.nan)
    chosen = candidates[np.arange(len(candidates)), support[best].argmax(axis=1)]
    return np.where(own[:, None], chosen, moved)
