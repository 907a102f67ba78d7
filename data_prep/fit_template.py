"""Fits a template to labelled key points; the poses serve synthesis as a prior (--pose_prior).

    python -m data_prep.fit_template --input=data/nyu/test --output=poses.npz \\
        --report=fit.json --pictures=fit.png

The palm by Eq. (3) in closed form, the fingers bone by bone, then all parameters of each frame. A
file from labels that are not NYU's whole training split is marked as an experiment, and so is what
learns from it.
"""

import pathlib

import numpy as np
from absl import flags
from PIL import Image

from data_prep import fit_report, keypoint_labels
from dgn_tf import errors
from dgn_tf.errors import InputError
from dgn_tf.hand_fit.keypoint_fit import FINGER_SCALES, MIN_PALM_KEYPOINTS, Fit, fit_keypoints
from dgn_tf.json_file import write_json
from dgn_tf.synthesis.pose_prior import FORMAT
from dgn_tf.template import HANDS, load_template
from dgn_tf.writing import output_file, whole_file

_INPUT = flags.DEFINE_string(
    "input",
    None,
    "Labels: NYU's joint_data.mat or its folder, a split's folder of records, or a "
    "text of test frames, one line of 14 or 36 x (u px, v px, d mm) a frame.",
    required=True,
)
_OUTPUT = flags.DEFINE_string("output", None, "The poses to write, .npz.", required=True)
_TEMPLATE = flags.DEFINE_string("template", "", "Hand template (.npz); empty for the one shipped.")
_CAMERA = flags.DEFINE_integer(
    "camera", 1, "Whose key points, from 1, the only one of a text.", lower_bound=1
)
_EVERY = flags.DEFINE_integer(
    "every", 1, "Line k of a text, from 0, is frame k * EVERY.", lower_bound=1
)
_HAND = flags.DEFINE_enum(
    "hand",
    "right",
    HANDS,
    "The hand that was labelled; a left one's key points are mirrored, the "
    "poses are a right hand's. Records say themselves.",
)
_SCALES = flags.DEFINE_enum(
    "finger_scales",
    "frame",
    FINGER_SCALES,
    "frame: each finger's own in each frame; subject: the "
    "median over a subject's frames; palm: that of the palm.",
)
_MAX_RESIDUAL = flags.DEFINE_float(
    "max_residual_mm",
    10.0,
    "Frames of a larger mean residual are no poses to draw from; 0: all are.",
    lower_bound=0,
)
_REPORT = flags.DEFINE_string("report", "", "The residuals as JSON; empty: none.")
_PICTURES = flags.DEFINE_string("pictures", "", "Picture (.png) of some fits; empty: none.")


def fit_labels(template, labels, finger_scales: str = "frame") -> tuple[Fit, np.ndarray]:
    """Fits those key points of `labels` that the template has too.

    Returns:
        The fit, and the indices of those key points.

    Raises:
        InputError: the template has no key points of the labels' names, fewer than three of its
            palm among them, or no frame has three.
    """
    shared = np.array(
        [j for j, name in enumerate(labels.names) if name in template.keypoint_names], np.int64
    )
    names = [labels.names[j] for j in shared]
    palm = [
        name
        for name in names
        if template.keypoint_weights[template.keypoint_names.index(name), 0] > 0.99
    ]
    if len(palm) < MIN_PALM_KEYPOINTS:
        raise InputError(
            f"--template={template.name}: shares {len(palm)} key points of the palm "
            f"with the labels, wanted {MIN_PALM_KEYPOINTS}; take a template with "
            "NYU's names."
        )
    fit = fit_keypoints(
        template, labels.keypoints[:, shared], names, finger_scales, labels.subjects
    )
    if not fit.fitted.any():
        raise InputError(
            f"--input: no frame of {labels.source} has {MIN_PALM_KEYPOINTS} key "
            "points of the palm; check the labels."
        )
    return fit, shared


def save_poses(path, fit: Fit, labels, template, max_residual_mm: float = 0.0) -> int:
    """Writes the .npz that `dgn_tf.synthesis.pose_prior` reads; beside, then renamed.

    Returns:
        How many poses are usable.

    Raises:
        InputError: the file can't be written.
    """
    by_frame = np.full(len(fit.fitted), np.inf)
    by_frame[fit.fitted] = np.nanmean(fit.residual_mm[fit.fitted], axis=1)
    usable = fit.fitted & (by_frame <= (max_residual_mm or np.inf))
    content = {
        "format": np.array(FORMAT),
        "template_name": np.array(template.name),
        "template_hash": np.array(template.hash),
        "source": np.array(labels.source),
        "status": np.array(labels.status),
        "part_names": np.array(template.part_names),
        "keypoint_names": np.array(labels.names),
        "joint_limits": template.joint_limits,
        "transforms": fit.transforms.astype(np.float32),
        "joint_angles": fit.angles.astype(np.float32),
        "bone_scales": fit.bone_scales.astype(np.float32),
        "observed": fit.observed,
        "residual_mm": fit.residual_mm.astype(np.float32),
        "fitted": fit.fitted,
        "usable": usable,
        "frames": labels.frames,
        "subjects": labels.subjects,
    }
    with output_file(path, "--output") as beside, open(beside, "wb") as file:
        np.savez_compressed(file, **content)
    return int(usable.sum())


def main(_):
    for flag in (_OUTPUT, _REPORT, _PICTURES):
        if flag.value and not pathlib.Path(flag.value).resolve().parent.is_dir():
            raise InputError(
                f"--{flag.name}={flag.value}: its folder does not exist; create it or "
                "choose another."
            )
    template = load_template(_TEMPLATE.value or None)
    labels = keypoint_labels.read_keypoints(_INPUT.value, _CAMERA.value, _EVERY.value, _HAND.value)
    fit, shared = fit_labels(template, labels, _SCALES.value)
    labels = labels.with_keypoints(shared)
    usable = save_poses(_OUTPUT.value, fit, labels, template, _MAX_RESIDUAL.value)
    report = fit_report.residual_report(fit, labels, template)
    print(fit_report.format_report(report))
    if _REPORT.value:
        write_json(report, _REPORT.value, "--report")
    if _PICTURES.value:
        try:
            with whole_file(_PICTURES.value) as beside:
                Image.fromarray(fit_report.fit_pictures(fit, labels, template)).save(beside)
        except (OSError, ValueError) as error:
            raise InputError(
                f"--pictures={_PICTURES.value}: cannot be written ({error}); choose a .png."
            ) from None
    print(f"{_OUTPUT.value}: {usable} poses to draw from; {labels.status}")


if __name__ == "__main__":
    errors.run(main)
