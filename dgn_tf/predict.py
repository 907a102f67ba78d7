"""From depth images on disk to hand meshes, key points and pictures.

    python -m dgn_tf.predict --saved_model=saved_models/dgn --depth='samples/*.png' \\
        --intrinsics=475,475,320,240 --depth_unit=1 --output_dir=OUT

writes for each frame `<stem>.ply` (the mesh, mm, camera frame), `<stem>.json` (key points by
NYU's names, transforms, joint angles, confidence) and `<stem>.png` (depth, correspondence, mesh,
overlay).
The results appear together once all frames are done, or, after an error, not at all.
"""

import os

from absl import flags

from dgn_tf import errors, frame_command

_SAVED_MODEL = flags.DEFINE_string(
    "saved_model", None, "Folder of an exported model (saved_models/dgn) or of one version of it.",
    required=True,
)


def main(_):
    frames = frame_command.frames_of_flags()
    from dgn_tf import predictor

    predict = predictor.HandMeshPredictor(_SAVED_MODEL.value)
    frame_command.predict_frames(predict, frames, "predict")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    errors.run(main)
