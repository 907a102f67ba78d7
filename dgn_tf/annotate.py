"""Labels unlabelled views with a model: vertices, key points, transforms, confidence.

    python -m dgn_tf.annotate --records=data/nyu_records/train --weights=saved_models/dgn \\
        --output_dir=data/nyu_annotated/train --refine_steps=50
    python -m dgn_tf.annotate --records=data/my_rig/train --weights=runs/selfsup/best \\
        --output_dir=data/my_rig_annotated/train --joint_data=my_rig/train/joint_data.mat

The views of a time step are fused to one hand where the rig is known; each is annotated alone
otherwise, or with --nomulti_view. What is written are the same records with the estimates as
their key points, for --real_records of dgn_tf.train, with more in them (dgn_tf/annotation/schema.py
tells), and the key points as joint_data.mat, which data_prep.nyu_to_tfrecord reads. They are a
network's estimates and no human labels. Beside them, centres_1.txt and so on have the centres of
the last pass's crops, for --center=file: a crop that missed the hand finds it by the other views.
Of a left hand (--hand=left of the converters) the records stay mirrored, and those files are in the
camera's own frame: read them with --hand=left again.
"""

import dataclasses
import glob
import hashlib
import os
from typing import Any

from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError

FLAGS = flags.FLAGS

flags.DEFINE_string("records", "", "A split's folder of multi-view records.")
flags.DEFINE_string("weights", "", "Model folder (a run's best/, saved_models/dgn).")
flags.DEFINE_string("output_dir", "", "Folder for the annotated records and joint_data.mat.")
flags.DEFINE_string(
    "joint_data",
    "",
    "Another joint_data.mat to write, beside the frames say; must not exist yet. "
    "Empty: only the one in --output_dir.",
)
flags.DEFINE_list("cameras", [], "Cameras whose views are used, from 1; empty: all.")
flags.DEFINE_bool(
    "multi_view", True, "Fuse a time step's views where the rig is known; false: each view alone."
)
flags.DEFINE_integer(
    "passes",
    2,
    "Times that the network sees a view; from the second on, cropped around the estimate before.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "refine_steps",
    0,
    "Steps that lower the energy of Eq. 5 from the estimate; 0: none.",
    lower_bound=0,
)
flags.DEFINE_float(
    "min_confidence",
    0.0,
    "Frames below this confidence (0 to 1, uncalibrated) keep no key points.",
    lower_bound=0,
    upper_bound=1,
)
flags.DEFINE_integer("batch_size", 8, "Time steps at once.", lower_bound=1)
flags.DEFINE_integer("limit", 0, "Time steps at most, evenly spread; 0: all.", lower_bound=0)
# Weights of the refinement's energy by the paper's letters, as dgn_tf.train has them.
LETTERS = ("omega", "lambda1", "lambda2", "kappa1", "kappa2", "eta1", "eta2")
for _letter in LETTERS:
    flags.DEFINE_float(
        _letter,
        None,
        "Of --refine_steps' energy, see the flag of dgn_tf.train; unset: its default.",
        lower_bound=0,
    )
flags.DEFINE_float(
    "free_space",
    0.0,
    "Of vertices where a camera looks past the hand, in --refine_steps' energy; "
    "above 0 they have no say in the fusion either. 0: without, as the paper.",
    lower_bound=0,
)


def main(_):
    for name in ("records", "weights", "output_dir"):
        if not FLAGS[name].value:
            raise InputError(f"--{name} is wanted; see --help.")
    cameras = _cameras()
    from dgn_tf.annotation import joint_data, records, schema
    from dgn_tf.records import record_folder

    if FLAGS.joint_data:
        joint_data.check_new(FLAGS.joint_data, "--joint_data")
    own = os.path.join(FLAGS.output_dir, joint_data.JOINT_DATA)
    if not record_folder.is_claimed(FLAGS.output_dir):  # a data set's own folder, it may be
        for file in (own, *glob.glob(os.path.join(FLAGS.output_dir, "centres_*.txt"))):
            joint_data.check_new(file, "--output_dir")
    from dgn_tf.records.feature_scan import scan_feature
    from dgn_tf.records.views import open_views

    views = open_views(FLAGS.records)
    used = views.places(cameras)
    network = _network(views)
    annotator, settings = _annotator(network, views, used)
    plan = records.make_plan(views, settings, FLAGS.limit)
    description = records.write_annotated(
        views, annotator, FLAGS.output_dir, plan, FLAGS.batch_size
    )
    names = [file["name"] for file in description["files"]]

    def labels():
        for record in records.read_annotated(FLAGS.output_dir, names):
            yield schema.in_camera(schema.parse_labels(record, views.keypoints))

    arrays = joint_data.joint_arrays(labels(), views.cameras)
    last = max(index for (index,) in scan_feature(views.store, "index"))
    centres = joint_data.centre_arrays(labels(), views.cameras, last)
    joint_data.write_centres(FLAGS.output_dir, centres)
    joint_data.write_joint_data(own, arrays, "--output_dir")
    if FLAGS.joint_data:
        joint_data.write_joint_data(FLAGS.joint_data, arrays, "--joint_data")
    _tell(description["annotated"], own, description["hand"])
    for line in records.warnings(description["annotated"]["residuals"]):
        print(f"WARNING: {line}")


def _cameras():
    try:
        return tuple(int(camera) for camera in FLAGS.cameras)
    except ValueError:
        raise InputError(
            f"--cameras={','.join(FLAGS.cameras)}: wanted numbers such as 1,3."
        ) from None


def _network(views):
    from dgn_tf.model_folder import load_network

    # Views are fused by the raw confidence, by which fusion was measured.
    network = load_network(FLAGS.weights, calibrated=False)
    template = network.template
    if tuple(views.description["keypoints"]) != tuple(template.keypoint_names):
        raise InputError(
            f"{FLAGS.records}: its key points are not those of the model ({template.name}); "
            "annotate with a model of a template that has them."
        )
    return network


def _annotator(network, views, used):
    """The annotator, and its settings for description.json."""
    from dgn_tf.annotation.annotator import AnnotateConfig, Annotator
    from dgn_tf.annotation.records import knows_rig
    from dgn_tf.losses.energy import EnergyConfig

    together = FLAGS.multi_view and knows_rig(views)
    if FLAGS.multi_view and not together:
        print(
            f"{FLAGS.records}: its cameras don't know where they stand; each view is annotated "
            "alone. Convert with --calibration to fuse them."
        )
    given: dict[str, Any] = {name: FLAGS[name].value for name in (*LETTERS, "free_space")}
    energy = EnergyConfig(**{name: value for name, value in given.items() if value is not None})
    config = AnnotateConfig(
        passes=FLAGS.passes,
        refine_steps=FLAGS.refine_steps,
        energy=energy,
        min_confidence=FLAGS.min_confidence,
    )
    mask = [place in used for place in range(len(views.cameras))]
    settings = {
        "weights_sha256": _weights_hash(),
        "template_hash": network.template.hash,
        "cameras": [views.cameras[place] for place in used],
        "multi_view": together,
        "passes": FLAGS.passes,
        "refine_steps": FLAGS.refine_steps,
        "batch_size": FLAGS.batch_size,  # another one rounds differently
        "min_confidence": FLAGS.min_confidence,
        "energy": {name: str(value) for name, value in dataclasses.asdict(energy).items()},
    }
    return Annotator(network, config, mask, together), settings


def _weights_hash():
    from dgn_tf.model_folder import WEIGHTS, find_model_folder

    return hashlib.sha256((find_model_folder(FLAGS.weights) / WEIGHTS).read_bytes()).hexdigest()


def _tell(facts, joint_file, hand):
    print(
        f"{FLAGS.output_dir}: {facts['records']} time steps of a {hand} hand, "
        f"{facts['views_annotated']} views annotated, {facts['views_masked']} of them masked; "
        f"quartiles of the confidence {facts['confidence_quartiles']}. Estimates, no human "
        f"labels: {joint_file}"
    )
    for camera, entry in facts["residuals"].items():
        print(
            f"  camera {camera}: {entry['views']} views, median distance of its own estimate "
            f"{entry['view_distance_mm']} mm, of its pixels {entry['pixel_distance_mm']} mm"
        )


if __name__ == "__main__":
    errors.run(main)
