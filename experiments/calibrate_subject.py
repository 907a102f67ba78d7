"""Calibration on synthetic users whose bones are not the template's: lengths, vertices, noise on.

    python -m experiments.calibrate_subject --output=runs/users.json

For each user a template is calibrated from --frames frames and --held_out others are predicted: by
the network alone, and by its estimate fitted to the depth with joints that hold, with the template
as it is, the user's, and (the bound) the true one. The shape bias that is undone was learnt on
other users (dgn_tf.learn_shape_bias). --output is written after each user, and what it holds is not
done again. `bones` is the mean over the bones of |length / true length - 1| in %, `vertices` the
mean distance from the true vertices in mm.
"""

import dataclasses
import json
import pathlib

import numpy as np
from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError

FLAGS = flags.FLAGS

flags.DEFINE_string("weights", "saved_models/dgn", "Model folder.")
flags.DEFINE_string("config", "configs/synthetic_test.json", "Synthesis of the frames.")
flags.DEFINE_string("bias", "", "shape_bias.npz; empty: the model folder's, if it has one; `none`.")
flags.DEFINE_string("output", "", "JSON file for the figures; empty: they are printed alone.")
flags.DEFINE_integer("users", 8, "Users.", lower_bound=1)
flags.DEFINE_enum(
    "draw",
    "far",
    ["far", "normal"],
    "Shapes of the users: far: each of the template's at 1.5 "
    "deviations, the signs drawn; normal: standard normal, cut off at 2, as synthesis draws them.",
)
flags.DEFINE_integer("frames", 192, "Frames to calibrate from.", lower_bound=8)
flags.DEFINE_integer("held_out", 64, "Others, to predict.", lower_bound=8)
flags.DEFINE_bool(
    "calm",
    True,
    "Users show their hand to be measured, see `hand_fit.synthetic_users.calm`; else the "
    "held-out frames are as hard as the config's, occluders and poses.",
)
flags.DEFINE_integer("steps", 6, "Steps of the fits.", lower_bound=1)
flags.DEFINE_integer("seed", 7000, "Of the first user; the others follow.", lower_bound=0)

_ASKED = ("config", "draw", "frames", "held_out", "calm", "steps", "bias")


def main(_):
    from dgn_tf.json_file import write_json
    from dgn_tf.model_folder import load_network, weights_sha256
    from dgn_tf.synthesis.settings import SynthesisConfig

    asked = {name: FLAGS[name].value for name in _ASKED}
    asked["weights"] = weights_sha256(FLAGS.weights)
    rows = _known(asked)
    subject = Subject(load_network(FLAGS.weights), SynthesisConfig.load(FLAGS.config))
    print("  ".join(["user"] + [name.rjust(15) for name in COLUMNS]))
    for seed in range(FLAGS.seed, FLAGS.seed + FLAGS.users):
        if str(seed) not in rows:
            rows[str(seed)] = subject(seed)
        _tell(str(seed), rows[str(seed)])
        if FLAGS.output:
            write_json({"asked": asked, "users": rows}, FLAGS.output)
    used = [rows[str(seed)] for seed in range(FLAGS.seed, FLAGS.seed + FLAGS.users)]
    for name, of in (("median", np.median), ("min", np.min), ("max", np.max)):
        _tell(name, {column: float(of([row[column] for row in used])) for column in used[0]})


COLUMNS = (
    "bones_generic",
    "bones_fitted",
    "bones_user",
    "network",
    "fitted_generic",
    "fitted_user",
    "fitted_true",
    "less_than_best",
)


def _tell(name, row):
    print("  ".join([name.ljust(6)] + [f"{row[column]:15.2f}" for column in COLUMNS]), flush=True)


def _known(asked) -> dict:
    """The users that --output holds."""
    if not FLAGS.output or not pathlib.Path(FLAGS.output).is_file():
        return {}
    written = json.loads(pathlib.Path(FLAGS.output).read_text())
    if written["asked"] != asked:
        raise InputError(
            f"--output={FLAGS.output} was measured with other weights or flags "
            f"({written['asked']}); name another file."
        )
    return written["users"]


class Subject:
    """Measures users.

    Args:
        network: built `DualGridNet`.
        config: of the frames, before `calm`.
    """

    def __init__(self, network, config):
        from dgn_tf.evaluation.predictions import NetworkPredictions
        from dgn_tf.hand_fit.seen_frames import FrameReader
        from dgn_tf.hand_fit.shapes import shapes_of
        from dgn_tf.hand_fit.synthetic_users import calm
        from dgn_tf.hand_fit.user_shape import ShapeBias, load_bias
        from dgn_tf.model_folder import weights_sha256

        self._template, self._predict = network.template, NetworkPredictions(network)
        self._shapes, self._read = shapes_of(self._template), FrameReader(network)
        self._shown = calm(config)
        self._held_out = self._shown
        if not FLAGS.calm:
            pose = config.pose._replace(shape_sigma=0.0, scale_sigma=0.0)  # the user's own
            self._held_out = dataclasses.replace(config, pose=pose)
        self._bias = None
        if FLAGS.bias and FLAGS.bias != "none":
            self._bias = ShapeBias.load(
                FLAGS.bias, self._shapes.names, weights_sha256(FLAGS.weights)
            )
        elif not FLAGS.bias:
            self._bias = load_bias(FLAGS.weights, self._template)

    def __call__(self, seed) -> dict[str, float]:
        """The columns of one user."""
        from dgn_tf.hand_fit.shapes import bone_lengths, personal_template
        from dgn_tf.hand_fit.synthetic_users import frames_of, user_of
        from dgn_tf.hand_fit.user_hand import UserHand
        from dgn_tf.hand_fit.user_shape import choose, fit_user, seen_frames

        template, shapes = self._template, self._shapes
        true = user_of(template, self._drawn(seed))
        shown = frames_of(true, self._shown, seed, 0, FLAGS.frames)
        frames = choose(seen_frames(self._read, shown), 0, f"user {seed}")
        found = fit_user(template, frames, FLAGS.steps, self._bias)
        alone = personal_template(template, shapes, found.fitted, len(frames.depth))
        figures: dict[str, float] = {}
        for name, hand in (("generic", template), ("fitted", alone), ("user", found.template)):
            off = np.abs(bone_lengths(hand) / bone_lengths(true) - 1) * 100
            figures[f"bones_{name}"] = float(off.mean())
            figures[f"bones_{name}_worst"] = float(off.max())
        held_out = self._seen(frames_of(true, self._held_out, seed, FLAGS.frames, FLAGS.held_out))
        for name, hand in (("generic", template), ("user", found.template), ("true", true)):
            figures[f"fitted_{name}"] = _error(held_out, UserHand(hand, template, FLAGS.steps))
        figures["network"] = _error(held_out, None)
        best = min(figures["network"], figures["fitted_generic"])
        figures["less_than_best"] = 100 * (1 - figures["fitted_user"] / best)
        return figures

    def _seen(self, batches):
        """Of each batch the true vertices, the network's, and what the fit wants."""
        return [
            (batch["vertices"], self._predict(batch)["vertices"], self._read(batch))
            for batch in batches
        ]

    def _drawn(self, seed):
        """[K] the user's coefficients: of the template's own shapes alone."""
        rng, own = np.random.default_rng(seed), len(self._template.shape_names)
        coefficients = np.zeros(len(self._shapes.names))
        if FLAGS.draw == "far":
            coefficients[:own] = 1.5 * rng.choice([-1, 1], own)
        else:
            coefficients[:own] = np.clip(rng.normal(size=own), -2, 2)
        return coefficients


def _error(held_out, hand) -> float:
    """Mean distance of the vertices from the true ones, mm: the network's, or those of a `UserHand`
    as `UserPredictions` takes them."""
    from dgn_tf.hand_fit.user_shape import usable

    distances = []
    for true, vertices, seen in held_out:
        rows = np.flatnonzero(usable(seen))
        if hand is not None and len(rows):
            vertices = vertices.copy()
            vertices[rows] = hand(seen.rows(rows))["vertices"]
        distances.append(np.linalg.norm(vertices - true, axis=-1).mean(axis=1))
    return float(np.concatenate(distances).mean())


if __name__ == "__main__":
    errors.run(main)
