"""From depth images on disk to hand meshes, key points and pictures.

    python -m dgn_tf.predict --saved_model=saved_models/dgn --depth='samples/*.png' \\
        --intrinsics=475,475,320,240 --depth_unit=1 --output_dir=OUT

writes for each frame `<stem>.ply` (the mesh, mm, camera frame), `<stem>.json` (key points by
NYU's names, transforms, joint angles, confidence) and `<stem>.png` (depth, correspondence, mesh,
overlay). With --user_template=me.npz (dgn_tf.calibrate) the mesh is that user's hand, fitted to the
frame's depth from the model's estimate. --parameters=FILE writes the recording's rotations, scales
and joint angles in one file, of which dgn_tf.animate makes animations.
The results appear together once all frames are done, or, after an error, not at all.
"""

from typing import Any

from absl import flags

from dgn_tf import errors, frame_command
from dgn_tf.output_files import check_ending
from dgn_tf.serving.inference_only import assume_frozen_weights
from dgn_tf.serving.runtimes import BACKENDS
from dgn_tf.shipped import shipped_model

flags.adopt_module_key_flags(frame_command)  # for --help
_SAVED_MODEL = flags.DEFINE_string(
    "saved_model",
    "",
    "Folder of an exported model (saved_models/dgn) or of one version of it; empty: the shipped "
    "one, of the package dgn_hand_model or of the checkout.",
)
_USER_TEMPLATE = flags.DEFINE_string(
    "user_template",
    "",
    "Template of dgn_tf.calibrate: that user's hand, with joints that hold, "
    "is fitted to each frame from the model's estimate; empty: the estimate as it is.",
)
_BACKEND = flags.DEFINE_enum(
    "backend",
    "tensorflow",
    BACKENDS,
    "What runs the model; onnxruntime and openvino run the files of export --onnx beside it.",
)
_PARAMETERS = flags.DEFINE_string(
    "parameters",
    "",
    "A file for the parameters of all frames: rotations, scales, bone lengths, shape, joint "
    "angles. Of the ending .json or .npz, both say what their fields are; empty: none.",
)
_MAX_HANDS = flags.DEFINE_integer(
    "max_hands",
    1,
    "2: up to two hands a frame, written as NAME_0 and NAME_1, the likelier first, each of the "
    "side that lies nearer to its points unless --hand says one. Frames stand alone: dgn_tf.live "
    "follows hands from one to the next.",
    lower_bound=1,
    upper_bound=2,
)

_FILTER = flags.DEFINE_enum(
    "filter",
    "none",
    ["none", "one_euro"],
    "one_euro: the frames are one recording, in their order, and its hand is held steady as "
    "dgn_tf.live does it; none: frames stand alone.",
)
_RATE = flags.DEFINE_float(
    "rate", 30.0, "Frames a second of the recording that --filter holds steady.", lower_bound=2.0
)


def main(_):
    saved_model = _SAVED_MODEL.value or shipped_model()
    hands = _MAX_HANDS.value
    if hands > 1 and (_USER_TEMPLATE.value or flags.FLAGS.center_mm):
        raise errors.InputError("--max_hands=2 goes without --user_template and --center_mm.")
    if _FILTER.value == "none" and flags.FLAGS["rate"].present:
        raise errors.InputError("--rate has no effect without --filter=one_euro.")
    if _FILTER.value != "none" and hands > 1:
        raise errors.InputError("--filter is of one hand: leave out --max_hands=2.")
    if _PARAMETERS.value:
        from dgn_tf import parameter_file

        check_ending("parameters", _PARAMETERS.value, parameter_file.ENDINGS)
    frames = frame_command.frames_of_flags(
        hands, saved_model=saved_model, user_template=_USER_TEMPLATE.value
    )
    from dgn_tf import predictor

    predict: Any = predictor.HandMeshPredictor(saved_model, backend=_BACKEND.value)
    if hands > 1:
        side = flags.FLAGS.hand if flags.FLAGS["hand"].present else "auto"
        frame_command.predict_frames(
            predict, frames, "predict", side, parameters=_parameters(predict, hands)
        )
        return
    hand = frame_command.hand_of(predict, frames)
    warnings = frame_command.check_side(predict, frames, hand)
    if _USER_TEMPLATE.value:
        from dgn_tf.hand_fit.user_hand import UserMeshes
        from dgn_tf.model_folder import load_template_of
        from dgn_tf.template import load_template

        user = load_template(_USER_TEMPLATE.value)
        predict = UserMeshes(predict, user, load_template_of(saved_model))
    if _FILTER.value != "none":
        from dgn_tf.live.steadiness import SteadyMeshes

        predict = SteadyMeshes(predict, _RATE.value)
    frame_command.predict_frames(
        predict, frames, "predict", hand, warnings, _parameters(predict, hands)
    )


def _parameters(predict, hands: int):
    """The table that --parameters asks for, or None."""
    if not _PARAMETERS.value:
        return None
    from dgn_tf.parameter_file import ParameterTable

    return ParameterTable(_PARAMETERS.value, predict.template, hands)


if __name__ == "__main__":
    assume_frozen_weights()
    errors.run(main)
