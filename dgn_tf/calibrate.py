"""One user's bone lengths and shape, from frames of the hand without labels, as a template.

    python -m dgn_tf.calibrate --weights=saved_models/dgn --records=data/my_rig --split=train \\
        --output=me.npz
    python -m dgn_tf.calibrate --saved_model=saved_models/dgn --depth='frames/*.png' \\
        --intrinsics=475,475,320,240 --depth_unit=1 --output=me.npz
    python -m dgn_tf.predict --saved_model=saved_models/dgn --user_template=me.npz ...
    python -m dgn_tf.evaluate --weights=saved_models/dgn --user_template=me.npz ...

A shape that all frames share and a pose of each (joints that hold, angles within limits) are fitted
to the depth pixels from the network's estimates; what that gets wrong in the mean is undone where
the model folder has a `shape_bias.npz` (dgn_tf.learn_shape_bias). Show some hundred frames: the
hand open and half open, from several sides, nothing before it. The template that is written differs
from the model's by the user's shape alone; what it was made of stands in its `source`.
"""

import pathlib

from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "records", "", "Frames of one user: multi-view records, or a folder or glob of synthetic ones."
)
flags.DEFINE_string("split", "train", "Split of multi-view records: a folder in --records.")
flags.DEFINE_integer("camera", 1, "Camera of multi-view records; 0: each in turn.", lower_bound=0)
flags.DEFINE_string(
    "records_template",
    "",
    "Hand template (.npz) that synthetic records were rendered with; empty: the model's.",
)
flags.DEFINE_string("weights", "", "Model folder (a run's best/, saved_models/dgn): --records.")
flags.DEFINE_string("depth", "", "Depth images of one user, a pattern such as 'frames/*.png'.")
flags.DEFINE_string(
    "saved_model",
    "",
    "Exported model (folder or version): finds the hand in the images of --depth.",
)
flags.DEFINE_list("intrinsics", [], "fx,fy,cx,cy of the camera of --depth, pixels.")
flags.DEFINE_float("depth_unit", None, "mm for one step of a 16-bit image of --depth.")
flags.DEFINE_enum(
    "encoding", "u16", ["u16", "nyu"], "u16: 16-bit grey; nyu: NYU's 8-bit RGB, G * 256 + B mm."
)
flags.DEFINE_enum("hand", "right", ["right", "left"], "Which hand the images of --depth show.")
flags.DEFINE_string("output", "", "File (.npz) for the user's template.")
flags.DEFINE_string(
    "bias",
    "",
    "shape_bias.npz of dgn_tf.learn_shape_bias; empty: the model "
    "folder's, if it has one; `none`: it is not undone.",
)
flags.DEFINE_integer("limit", 192, "Frames at most, evenly spread; 0: all.", lower_bound=0)
flags.DEFINE_integer("steps", 6, "Steps of the joint fit.", lower_bound=1)
flags.DEFINE_integer(
    "batch_size", 32, "Frames of --records that the network sees at once.", lower_bound=1
)

_OF_RECORDS = ("split", "camera", "records_template", "weights", "batch_size")
_OF_DEPTH = ("saved_model", "intrinsics", "depth_unit", "encoding", "hand")


def main(_):
    output = _checked_output()
    from dgn_tf.hand_fit.shapes import bone_lengths
    from dgn_tf.hand_fit.user_shape import choose, fit_user
    from dgn_tf.model_folder import load_template_of

    folder = FLAGS.weights or FLAGS.saved_model
    template = load_template_of(folder)
    bias = _bias(folder, template)
    seen = _of_images(template) if FLAGS.depth else _of_records()
    frames = choose(seen, FLAGS.limit, FLAGS.depth or FLAGS.records)
    found = fit_user(template, frames, FLAGS.steps, bias)
    found.template.save(output)
    ratio = bone_lengths(found.template) / bone_lengths(template)
    print(
        f"{output}: {len(frames.depth)} frames, bones {ratio.mean():.3f} of the model's "
        f"({ratio.min():.3f} .. {ratio.max():.3f}), energy {found.energy[0]:.2f} -> "
        f"{found.energy[1]:.2f} mm, hash {found.template.hash[:12]}"
        + ("" if bias else "; the fit's bias is not known (dgn_tf.learn_shape_bias)")
    )


def _checked_output() -> pathlib.Path:
    """--output, once the flags go together."""
    if bool(FLAGS.records) == bool(FLAGS.depth):
        raise InputError("wanted one of --records and --depth: frames of one user.")
    source, model, others = (
        ("depth", "saved_model", _OF_RECORDS) if FLAGS.depth else ("records", "weights", _OF_DEPTH)
    )
    for name in others:
        if FLAGS[name].present:
            raise InputError(f"--{name} does not go with --{source}; see --help.")
    for name in (model, "output"):
        if not FLAGS[name].value:
            raise InputError(f"--{name} is wanted with --{source}; see --help.")
    output = pathlib.Path(FLAGS.output)
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise InputError(
            f"--output={output}: the name of a file in a folder that exists is wanted."
        )
    return output


def _bias(folder, template):
    """Of --bias, see there."""
    from dgn_tf.hand_fit.shapes import shapes_of
    from dgn_tf.hand_fit.user_shape import ShapeBias, load_bias
    from dgn_tf.model_folder import weights_sha256

    if FLAGS.bias == "none":
        return None
    if FLAGS.bias:
        return ShapeBias.load(FLAGS.bias, shapes_of(template).names, weights_sha256(folder))
    return load_bias(folder, template)


def _of_images(template):
    """What --saved_model sees in the images of --depth; those without a hand are left out."""
    import tqdm

    from dgn_tf import depth_io
    from dgn_tf.frame_files import check_size, find_frames, parse_numbers
    from dgn_tf.hand_fit.seen_frames import MeshReader, joined
    from dgn_tf.predictor import HandMeshPredictor, NoHandError, check_depth, check_intrinsics

    depth_io.check_encoding(FLAGS.encoding, FLAGS.depth_unit)
    intrinsics = check_intrinsics(parse_numbers("intrinsics", FLAGS.intrinsics, "fx,fy,cx,cy"))
    files = find_frames(FLAGS.depth)
    predict, read = HandMeshPredictor(FLAGS.saved_model), MeshReader(template)
    several = []
    for file in tqdm.tqdm(files, desc="calibrate", unit="frame", disable=None):
        depth = depth_io.read_depth(file, FLAGS.encoding, FLAGS.depth_unit)
        check_size(depth, intrinsics, file)
        depth = check_depth(depth, intrinsics, str(file))
        try:
            mesh = predict(depth, intrinsics, hand=FLAGS.hand, name=str(file))
        except NoHandError:
            continue
        several.append(read(mesh, depth, intrinsics))
    if not several:
        raise InputError(
            f"--depth={FLAGS.depth}: no hand was found in any of the {len(files)} "
            "frames; check --depth_unit and --intrinsics."
        )
    return joined(several)


def _of_records():
    """What --weights see in --records."""
    from dgn_tf.evaluation.view_records import find_view_records
    from dgn_tf.hand_fit.seen_frames import FrameReader
    from dgn_tf.hand_fit.user_shape import seen_frames
    from dgn_tf.model_folder import load_network
    from dgn_tf.records.batches import Batching
    from dgn_tf.records.reader import record_dataset
    from dgn_tf.records.views import view_dataset
    from dgn_tf.template import load_template

    network = load_network(FLAGS.weights)
    folder = find_view_records(FLAGS.records, FLAGS.split, bool(FLAGS["split"].present))
    if folder is None:
        template = network.template
        if FLAGS.records_template:
            template = load_template(FLAGS.records_template)
        batches = record_dataset(
            FLAGS.records,
            template,
            batching=Batching(batch_size=FLAGS.batch_size, shuffle=False, repeat=False),
        )
    else:
        batches = view_dataset(
            str(folder),
            camera=FLAGS.camera,
            augment=None,
            size=network.config.image_size,
            batching=Batching(batch_size=FLAGS.batch_size, shuffle=False, repeat=False),
        )
    return seen_frames(FrameReader(network), batches)


if __name__ == "__main__":
    errors.run(main)
