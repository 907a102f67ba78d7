"""Learns what `dgn_tf.calibrate` gets wrong in the mean with a model, on synthetic users.

    python -m dgn_tf.learn_shape_bias --weights=saved_models/dgn

writes `shape_bias.npz` into the model folder; `dgn_tf.calibrate` undoes it from then on. Each user
has a hand shape of its own; the joint fit's answer to its frames is regressed on the truth. On
frames of a real camera the correction is as good as synthesis is like them.
"""

import pathlib

from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "weights", None, "Model folder (OUTPUT_DIR/best, saved_models/dgn).", required=True
)
flags.DEFINE_string("config", "configs/synthetic_val_2.json", "JSON of the frames' sampler.")
flags.DEFINE_integer("users", 64, "Synthetic users.", lower_bound=8)
flags.DEFINE_integer("frames", 48, "Frames of each user.", lower_bound=8)
flags.DEFINE_integer(
    "steps", 6, "Steps of the joint fit, as dgn_tf.calibrate will take.", lower_bound=1
)
flags.DEFINE_integer("seed", 100000, "Of the first user; the others follow.", lower_bound=0)
flags.DEFINE_string("output", "", "File (.npz); empty: shape_bias.npz in the model folder.")


def main(_):
    from dgn_tf import model_folder

    folder = model_folder.find_model_folder(FLAGS.weights)
    output = pathlib.Path(FLAGS.output or folder / model_folder.SHAPE_BIAS)
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise InputError(
            f"--output={output}: the name of a file in a folder that exists is wanted."
        )
    import numpy as np
    import tqdm

    from dgn_tf.hand_fit import synthetic_users
    from dgn_tf.hand_fit.shapes import shapes_of
    from dgn_tf.hand_fit.user_shape import learn_bias
    from dgn_tf.synthesis.settings import SynthesisConfig

    network = model_folder.load_network(folder)
    config = synthetic_users.calm(SynthesisConfig.load(FLAGS.config))
    seeds = range(FLAGS.seed, FLAGS.seed + FLAGS.users)
    pairs = synthetic_users.fitted_users(network, config, seeds, FLAGS.frames, FLAGS.steps)
    pairs = list(tqdm.tqdm(pairs, desc="users", unit="user", total=FLAGS.users, disable=None))
    fitted, true = (np.array(values) for values in zip(*pairs, strict=True))
    names = shapes_of(network.template).names
    sha256 = model_folder.weights_sha256(folder)
    bias = learn_bias(fitted, true, names, sha256, FLAGS.frames)
    bias.save(output)
    before, after = (np.sqrt(np.mean((values - true) ** 2)) for values in (fitted, bias(fitted)))
    print(
        f"{output}: {FLAGS.users} users, coefficients off by {before:.2f} deviations, "
        f"{after:.2f} with the bias undone (on the users that it was learnt on)"
    )


if __name__ == "__main__":
    errors.run(main)
