"""From a recording's parameters to an animation that Blender, game engines and viewers open.

    python -m dgn_tf.predict --depth='take/*.png' --camera=d435 --skip_without_hand \\
        --output_dir=OUT --parameters=take.json
    python -m dgn_tf.animate --input=take.json --output=take.glb

The ending names the form: .glb (glTF: mesh, skin and skeleton, metres, y up), .bvh (the skeleton,
centimetres, y up), .usda, .usdc or .usd (UsdSkel, metres, y up; extra `usd`). A frame in which no
hand was found holds the pose before it, and is listed. With --mano=MANO_RIGHT.pkl, your own file,
.npz holds MANO's parameters instead.
"""

import numpy as np
from absl import flags

from dgn_tf import errors
from dgn_tf.output_files import check_ending
from dgn_tf.writing import output_file, write_output

_USD = (".usda", ".usdc", ".usd")
_MANO = ".npz"
_ENDINGS = (".glb", ".bvh", *_USD, _MANO)

_INPUT = flags.DEFINE_string(
    "input", None, "What dgn_tf.predict --parameters wrote, .json or .npz.", required=True
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "The animation: .glb, .bvh, .usda, .usdc, .usd; or .npz: MANO's parameters.",
    required=True,
)
_HAND = flags.DEFINE_enum(
    "hand", "auto", ["auto", "right", "left"], "Which hand of a file of both; auto: the only one."
)
_FPS = flags.DEFINE_float(
    "fps",
    None,
    "Frames a second; empty: by the frames' time stamps where all have one, else 30. BVH has "
    "one rate: the stamps' mean.",
    lower_bound=0.1,
    upper_bound=10_000.0,
)
_SAVED_MODEL = flags.DEFINE_string(
    "saved_model", "", "The model that predicted; empty: the shipped one. Its template is animated."
)
_TEMPLATE = flags.DEFINE_string(
    "template",
    "",
    "The template itself, .npz, instead of the model's: such as that of predict --user_template.",
)
_CONSTANT_BONES = flags.DEFINE_bool(
    "constant_bones",
    False,
    "bvh: joints only rotate, with the recording's mean bones; else six channels for each joint, "
    "which keep its place exactly.",
)
_MANO_FILE = flags.DEFINE_string(
    "mano",
    "",
    "Your MANO_RIGHT or MANO_LEFT, .pkl or .npz, of the recording's hand; --output is .npz then.",
)
_FLAT_HAND_MEAN = flags.DEFINE_bool(
    "flat_hand_mean",
    True,
    "mano: hand_pose are the joints' rotations; --noflat_hand_mean: less the file's hands_mean, "
    "for code that adds it.",
)


def _template():
    from dgn_tf.model_folder import load_template_of
    from dgn_tf.shipped import shipped_model
    from dgn_tf.template import load_template

    if _TEMPLATE.value:
        return load_template(_TEMPLATE.value)
    return load_template_of(_SAVED_MODEL.value or shipped_model())


def _write_mano(sequence, file):
    from dgn_tf.mano import mano_parameters

    found = mano_parameters(sequence, _MANO_FILE.value, _FLAT_HAND_MEAN.value)
    with output_file(file, "--output") as beside, open(beside, "wb") as out:
        np.savez_compressed(
            out,
            **found._asdict(),
            flat_hand_mean=_FLAT_HAND_MEAN.value,
            hand=sequence.hand,
            frame_name=sequence.frame_names,
            valid=sequence.valid,
            time_s=sequence.times,
        )
    away = found.error_mm[sequence.valid]
    print(
        f"MANO's joints, posed again, are off by {away.mean():.2f} mm on the average, "
        f"{away.max():.2f} at most; betas within {np.abs(found.betas).max():.2f} deviations"
    )


def main(_):
    file = _OUTPUT.value
    ending = check_ending("output", file, _ENDINGS)
    if ending in _USD:
        from dgn_tf.animation import usd

        usd.check_usd(file)
    if bool(_MANO_FILE.value) != (ending == _MANO):
        raise errors.InputError(
            f"--output={file}: .npz holds MANO's parameters and goes with --mano=MANO_RIGHT.pkl, "
            "and --mano with it."
        )
    if _CONSTANT_BONES.value and ending != ".bvh":
        raise errors.InputError(f"--constant_bones is of .bvh alone, not of {ending}.")
    from dgn_tf.animation.sequence import hand_sequence
    from dgn_tf.parameter_file import read_parameters

    recorded = read_parameters(_INPUT.value)
    sequence = hand_sequence(recorded, _template(), _HAND.value, _FPS.value)
    if ending == ".glb":
        from dgn_tf.animation.gltf import glb

        write_output(file, glb(sequence), "--output")
    elif ending == _MANO:
        _write_mano(sequence, file)
    elif ending == ".bvh":
        from dgn_tf.animation.bvh import bone_errors_mm, bvh

        write_output(file, bvh(sequence, _CONSTANT_BONES.value), "--output")
        if _CONSTANT_BONES.value:
            away = bone_errors_mm(sequence)
            print(
                f"constant bones: joints are off by {away.mean():.2f} mm, {away.max():.2f} at most"
            )
    else:
        with output_file(file, "--output") as beside:
            usd.write_usd(sequence, beside)
    count = len(sequence.frame_names)
    print(
        f"{file}: {sequence.hand} hand, {count} frames in {sequence.times[-1]:.2f} s, "
        f"{len(sequence.lost)} of them lost"
    )
    for name in sequence.lost:
        print(f"  lost, holds the pose before: {name}")


if __name__ == "__main__":
    errors.run(main)
