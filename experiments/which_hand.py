"""How well one frame tells a right hand from a left one, in whole synthetic frames.

    python -m experiments.which_hand --saved_model=saved_models/dgn

Every second frame is mirrored, which makes its right hand a left one. Frames in which no hand is
found are counted apart. The log odds a mm are what `dgn_tf.hand_side` decides recordings by.
"""

import numpy as np
from absl import flags

from dgn_tf import errors

_SAVED_MODEL = flags.DEFINE_string("saved_model", "saved_models/dgn", "Exported model.")
_CONFIG = flags.DEFINE_string("config", "configs/synthetic_val_2.json", "JSON of the sampler.")
_FRAMES = flags.DEFINE_integer("frames", 200, "Whole frames, 640 x 480.", lower_bound=2)
_SEED = flags.DEFINE_integer("seed", 21, "Of the frames.", lower_bound=0)


def main(_):
    from dgn_tf.predictor import HandMeshPredictor, NoHandError
    from dgn_tf.synthesis.settings import SynthesisConfig
    from dgn_tf.synthesis.whole_frames import render_frame
    from dgn_tf.template import load_template

    predictor = HandMeshPredictor(_SAVED_MODEL.value)
    template, config = load_template(), SynthesisConfig.load(_CONFIG.value)
    evidence, lost = [], 0  # mm for the side that is true
    for index in range(_FRAMES.value):
        frame = render_frame(template, config, _SEED.value, index)
        depth, camera = frame["depth"].astype(np.float32), frame["intrinsics"].copy()
        hand = "left" if index % 2 else "right"
        if hand == "left":
            depth, camera[2] = depth[:, ::-1], depth.shape[1] - 1 - camera[2]
        try:
            for_right = predictor.side_evidence(depth, camera, name=f"frame {index}")
        except NoHandError:
            lost += 1
            continue
        evidence.append(for_right if hand == "right" else -for_right)
    right = 100 * np.mean(np.array(evidence) > 0)
    print(
        f"{len(evidence)} frames with a find: the side is right in {right:.0f} %; {lost} without "
        f"one; log odds {log_odds_per_mm(evidence):.2f} a mm"
    )


def log_odds_per_mm(evidence) -> float:
    """Slope of the logistic regression, through 0, of the true side on the evidence for it, mm."""
    from scipy.optimize import minimize_scalar

    mm = np.asarray(evidence, float)
    return float(
        minimize_scalar(
            lambda slope: np.logaddexp(0, -slope * mm).mean(), bounds=(0.0, 50.0), method="bounded"
        ).x
    )


if __name__ == "__main__":
    errors.run(main)
