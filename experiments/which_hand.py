"""How often `--hand=auto` tells a right hand from a left one, in whole synthetic frames.

    python -m experiments.which_hand --saved_model=saved_models/dgn

Every second frame is mirrored, which makes its right hand a left one. Frames in which no hand is
found are counted apart.
"""

import os

import numpy as np
from absl import flags

from dgn_tf import errors

_SAVED_MODEL = flags.DEFINE_string("saved_model", "saved_models/dgn", "Exported model.")
_CONFIG = flags.DEFINE_string("config", "configs/synthetic_val_2.json", "JSON of the sampler.")
_FRAMES = flags.DEFINE_integer("frames", 200, "Whole frames, 640 x 480.", lower_bound=2)
_SEED = flags.DEFINE_integer("seed", 21, "Of the frames.", lower_bound=0)


def main(_):
    from dgn_tf import data
    from dgn_tf.errors import InputError
    from dgn_tf.predictor import HandMeshPredictor
    from dgn_tf.template import load_template

    predictor = HandMeshPredictor(_SAVED_MODEL.value)
    template, config = load_template(), data.SynthesisConfig.load(_CONFIG.value)
    right, lost = [], 0
    for index in range(_FRAMES.value):
        frame = data.render_frame(template, config, _SEED.value, index)
        depth, camera = frame["depth"].astype(np.float32), frame["intrinsics"].copy()
        hand = "left" if index % 2 else "right"
        if hand == "left":
            depth, camera[2] = depth[:, ::-1], depth.shape[1] - 1 - camera[2]
        try:
            found = predictor(depth, camera, hand="auto", name=f"frame {index}")
        except InputError:
            lost += 1
            continue
        right.append(found.hand == hand)
    print(
        f"{len(right)} frames with a find: the side is right in {100 * np.mean(right):.0f} %; "
        f"{lost} without one"
    )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    errors.run(main)
