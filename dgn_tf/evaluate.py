"""Measures a model on records, or anybody's prediction files on labels.

    python -m dgn_tf.evaluate --records=data/synthetic_test --weights=saved_models/dgn \\
        --json=runs/test.json --plot=runs/test.png
    python -m dgn_tf.evaluate --records=data/nyu_records --split=test \\
        --saved_model=saved_models/dgn --predictions_out=runs/dgn.txt
    python -m dgn_tf.evaluate --predictions=DGN=runs/dgn.txt,A2J=a2j.txt --labels=test_uvd_14.txt \\
        --plot=runs/comparison.png
"""

import os
import pathlib

from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError

FLAGS = flags.FLAGS

flags.DEFINE_string("records", "", "Folder of records, or a glob of their files.")
flags.DEFINE_string("split", "test", "Split of multi-view records: a folder in --records.")
flags.DEFINE_integer("camera", 1, "Camera of multi-view records; 0: each in turn.", lower_bound=0)
flags.DEFINE_string(
    "records_template",
    "",
    "Hand template (.npz) that synthetic records were "
    "rendered with, to measure a model of another; empty: the model's own.",
)
flags.DEFINE_string("saved_model", "", "Exported model (folder or version) to measure.")
flags.DEFINE_string("weights", "", "Model folder (a run's best/, saved_models/dgn) to measure.")
flags.DEFINE_string(
    "user_template",
    "",
    "Template of dgn_tf.calibrate: its hand, with joints that hold, is fitted "
    "to each frame from the estimate of --weights; empty: the estimate as it is.",
)
flags.DEFINE_string(
    "truth",
    "",
    "True meshes of multi-view records: .npz with index [M], origin [M, 3] and vertices [M, V, 3], "
    "mm, camera 1; empty: surface_mm is not known.",
)
flags.DEFINE_string(
    "truth_template", "", "Mesh of --truth: .npz with vertices [V, 3] at rest and faces [F, 3]."
)
flags.DEFINE_string(
    "predictions_out",
    "",
    "File (.txt, .txt.gz) for the 14 predicted key points of multi-view records, one line a "
    "frame: u v d in px and mm, nan for a frame without prediction; empty: none.",
)
flags.DEFINE_string(
    "labels_out", "", "File for the true key points in the form of --predictions_out; empty: none."
)
flags.DEFINE_multi_string(
    "predictions",
    [],
    "Prediction files to score, FILE or NAME=FILE; repeat it or put commas for several: they share "
    "one table and one plot.",
)
flags.DEFINE_string("labels", "", "Truth of --predictions: a file of the same form.")
flags.DEFINE_string(
    "intrinsics", "nyu", "Camera of --predictions and --labels: `nyu`, or fx,fy,cx,cy in pixels."
)
flags.DEFINE_integer(
    "subject1_frames",
    -1,
    "Frames of the split, from the first on, that show subject 1; 0: one subject; -1: NYU's 2440 "
    "for its 8252 test frames, else one subject.",
    lower_bound=-1,
)
flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")
flags.DEFINE_string("plot", "", "File (.png, .pdf, .svg) for the success curve; empty: none.")
flags.DEFINE_integer("limit", 0, "Frames at most, from the first on; 0: all.", lower_bound=0)
flags.DEFINE_integer("batch_size", 32, "Frames at once.", lower_bound=1)
flags.DEFINE_bool("surface", True, "Measure surface_mm too (20 ms a frame).")

_OF_RECORDS = (
    "records",
    "records_template",
    "saved_model",
    "weights",
    "user_template",
    "truth",
    "truth_template",
    "predictions_out",
    "labels_out",
    "split",
    "camera",
    "limit",
)
_OF_VIEWS = ("split", "camera", "truth", "predictions_out", "labels_out")


def main(_):
    if FLAGS.predictions or FLAGS.labels:
        _check_files_asked()
        _evaluate_files()
        return
    if bool(FLAGS.saved_model) == bool(FLAGS.weights):
        raise InputError(
            "wanted one of --saved_model=DIR and --weights=DIR: what to measure; or "
            "--predictions=FILE and --labels=FILE."
        )
    if FLAGS.user_template and not FLAGS.weights:
        raise InputError("--user_template wants --weights=DIR, the model that it was made with.")
    if not FLAGS.records:
        raise InputError(
            "--records is wanted: a folder that data_prep.synthetic_to_tfrecord or "
            "data_prep.nyu_to_tfrecord has written."
        )
    if bool(FLAGS.truth) != bool(FLAGS.truth_template):
        raise InputError("--truth and --truth_template are wanted together, or none of them.")
    _check_outputs()
    from dgn_tf.evaluation.mesh_truth import columns_by_name, of_other_template
    from dgn_tf.evaluation.view_records import find_view_records
    from dgn_tf.template import load_template

    folder = find_view_records(FLAGS.records, FLAGS.split, bool(FLAGS["split"].present))
    if folder is not None:
        if FLAGS.records_template:
            raise InputError(
                "--records_template is for synthetic records; the key points of "
                "multi-view records have names."
            )
        _evaluate_views(folder)
        return
    asked = [name for name in _OF_VIEWS if FLAGS[name].present]
    if asked:
        raise InputError(
            f"--{asked[0]} is for multi-view records of data_prep.nyu_to_tfrecord; "
            f"--records={FLAGS.records} are none."
        )
    predict = _predictions(FLAGS.saved_model, FLAGS.weights)
    template, mesh = predict.template, None
    if FLAGS.records_template:
        template = load_template(FLAGS.records_template)
        mesh = (template.faces, template.wrist_loop)
    batches = _batches(FLAGS.records, template, FLAGS.batch_size, FLAGS.limit)
    if mesh is not None:
        columns = columns_by_name(template.keypoint_names, predict.template, FLAGS.records)
        batches = of_other_template(batches, columns)
    found = _measure(predict, batches, predict.template, FLAGS.limit, FLAGS.surface, mesh)
    _tell(found, evaluated_names(predict.template), None, {"hand": _hand_of(FLAGS.records)})


def evaluate_network(network, dataset, template, limit: int = 0, surface: bool = False) -> dict:
    """The figures of `--json` for a network in memory.

    Args:
        network: built `DualGridNet`.
        dataset: finite iterable of batches with truth and targets, see `dgn_tf.records`.
        template: the network's HandTemplate.
        limit: frames at most; 0 for all.
        surface: measure `surface_mm` too.
    """
    from dgn_tf.evaluation.predictions import NetworkPredictions
    from dgn_tf.evaluation.report import report

    found = _measure(NetworkPredictions(network), dataset, template, limit, surface)
    return report(found, evaluated_names(template))


def evaluated_names(template) -> list[str]:
    """Names of the 14 evaluated key points, in NYU's order."""
    return [template.keypoint_names[i] for i in template.evaluated]


def _check_files_asked():
    if not FLAGS.predictions:
        raise InputError("--labels wants --predictions=FILE, what to score.")
    if not FLAGS.labels:
        raise InputError("--predictions wants --labels=FILE, the truth in the same form.")
    asked = [name for name in _OF_RECORDS if FLAGS[name].present]
    if asked:
        raise InputError(
            f"--{asked[0]} and --predictions don't go together: a model is measured on records, a "
            "prediction file on --labels."
        )
    _check_outputs()


def _check_outputs():
    """Before the minutes of work."""
    if FLAGS.plot:
        from dgn_tf import plots

        plots.check_plot_file(FLAGS.plot)
    for name in ("json", "plot", "predictions_out", "labels_out"):
        file = getattr(FLAGS, name)
        if file and pathlib.Path(file).is_dir():
            raise InputError(f"--{name}={file} is a folder; a file's name is wanted.")


def _evaluate_files():
    from dgn_tf.evaluation import prediction_files
    from dgn_tf.evaluation.report import comparison_table, report
    from dgn_tf.template import EVALUATED, nyu_keypoint_names

    files = prediction_files.name_files(FLAGS.predictions)
    intrinsics = prediction_files.parse_intrinsics(FLAGS.intrinsics)
    labels = prediction_files.read_labels(FLAGS.labels)
    names = [nyu_keypoint_names()[i] for i in EVALUATED]
    subject1_frames = _subject1_frames(len(labels))
    scored = {
        name: prediction_files.score_file(file, labels, intrinsics) for name, file in files.items()
    }
    if len(scored) == 1:
        (one,) = scored.values()
        _tell(
            one.errors,
            names,
            subject1_frames,
            _counts(one.left_out, one.labels_missing),
            label=next(iter(scored)),
        )
        return
    figures = {}
    for name, one in scored.items():
        counts = _counts(one.left_out, one.labels_missing, f"{name}: ")
        figures[name] = {**report(one.errors, names, subject1_frames), **counts}
    print(comparison_table(figures))
    _write(figures, {name: one.errors["joints"] for name, one in scored.items()}, names)


def _evaluate_views(folder):
    import numpy as np
    import tqdm

    from dgn_tf.evaluation.mesh_truth import MeshTruth
    from dgn_tf.evaluation.predictions import crop_size
    from dgn_tf.evaluation.view_records import KeptPredictions, ViewFrames
    from dgn_tf.records.record_folder import hand_of

    wants_lines = FLAGS.predictions_out or FLAGS.labels_out
    if wants_lines and not FLAGS.camera:
        raise InputError(
            "--predictions_out and --labels_out have one line a frame: name one --camera, not 0."
        )
    truth = MeshTruth(FLAGS.truth, FLAGS.truth_template) if FLAGS.truth else None
    predict = _predictions(FLAGS.saved_model, FLAGS.weights)
    template = predict.template
    frames = ViewFrames(folder, FLAGS.camera, template, truth)
    description = frames.description
    print(
        f"{folder}, camera {FLAGS.camera or 'each'}, {hand_of(description)} hand; centres of the "
        f"crops: {description['centre']}"
    )
    kept = KeptPredictions(predict, template)
    total = min(FLAGS.limit or frames.views, frames.views)
    batches = tqdm.tqdm(
        frames.batches(FLAGS.batch_size, crop_size(FLAGS.saved_model or FLAGS.weights)),
        desc="evaluate",
        unit="batch",
        total=-(-total // FLAGS.batch_size),
        disable=None,
    )
    found = _measure(
        kept if wants_lines else predict,
        batches,
        template,
        FLAGS.limit,
        FLAGS.surface,
        None if truth is None else (truth.faces, truth.wrist_loop),
    )
    if FLAGS.predictions_out:
        kept.write(FLAGS.predictions_out, frames.last_frame, FLAGS.limit)
    if FLAGS.labels_out:
        kept.write_labels(FLAGS.labels_out, frames.last_frame, FLAGS.limit)
    left_out = 0 if FLAGS.limit else frames.views - len(found["joints"])
    facts = {
        "split": description["split"],
        "camera": FLAGS.camera,
        "hand": hand_of(description),
        "centre": description["centre"],
        **_counts(left_out, int(np.isnan(found["joints"]).sum())),
    }
    _tell(
        found,
        evaluated_names(template),
        _subject1_frames(None, description.get("subject1_frames")),
        facts,
    )


def _subject1_frames(frames: int | None, described: int | None = None) -> int | None:
    """Of the flag; else of what is known about the split, see the flag."""
    from dgn_tf.evaluation import nyu

    if FLAGS.subject1_frames >= 0:
        return FLAGS.subject1_frames or None
    return nyu.SUBJECT1_FRAMES if frames == nyu.TEST_FRAMES else described


def _counts(left_out: int, missing: int, label: str = "") -> dict[str, int]:
    """What doesn't count in the figures, told aloud where there is any."""
    if left_out:
        print(f"{label}{left_out} frames have no prediction and are left out of every figure.")
    if missing:
        print(f"{label}{missing} of the evaluated key points have no truth and count nowhere.")
    return {"left_out": left_out, "keypoints_missing": missing}


def _tell(found, names, subject1_frames, facts, label=""):
    """Prints the table of one method's errors and writes what is asked for."""
    from dgn_tf.evaluation.joints import mean_interval_mm
    from dgn_tf.evaluation.report import report, table

    figures = {**report(found, names, subject1_frames), **facts}
    print(table(figures, mean_interval_mm(found["joints"])))
    _write(figures, {label or FLAGS.saved_model or FLAGS.weights: found["joints"]}, names)


def _write(figures, errors_by_label, names):
    import numpy as np

    for label, joints in errors_by_label.items():
        if wrong := int(np.isinf(joints).sum()):
            frames = int(np.isinf(joints).any(axis=1).sum())
            print(
                f"{label}: {wrong} key points of {frames} frames are predicted as nan or infinite: "
                "a mean over them is none (-), and each such frame a failure."
            )
    if FLAGS.json:
        from dgn_tf.json_file import write_json

        write_json(figures, FLAGS.json)
    if FLAGS.plot:
        from dgn_tf import plots

        plots.plot_errors(errors_by_label, names, FLAGS.plot)


def _measure(predict, batches, template, limit, surface, true_mesh=None):
    import tensorflow as tf

    from dgn_tf.evaluation.frame_errors import frame_errors

    try:
        found = frame_errors(predict, batches, template, limit, surface, true_mesh)
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        if reason := errors.input_error_within(error):
            raise InputError(reason) from None
        first = errors.reason(error)
        raise InputError(
            f"--records can't be read to their end ({first}); write them again."
        ) from None
    if not found:
        raise InputError("--records hold no frame; write them again.")
    return found


def _predictions(saved_model: str, weights: str):
    from dgn_tf.evaluation import predictions
    from dgn_tf.model_folder import load_network, load_template_of
    from dgn_tf.serving.allow_list import find_version

    if FLAGS.user_template:
        from dgn_tf.hand_fit.user_hand import UserPredictions
        from dgn_tf.template import load_template

        return UserPredictions(load_network(weights), load_template(FLAGS.user_template))
    if weights:
        return predictions.NetworkPredictions(load_network(weights))
    find_version(saved_model)  # its absence first: the message names the flag
    return predictions.SavedModelPredictions(saved_model, load_template_of(saved_model))


def _hand_of(records: str) -> str:
    from dgn_tf.records.reader import read_description, record_files
    from dgn_tf.records.record_folder import hand_of

    return hand_of(read_description(os.path.dirname(record_files(records)[0]) or "."))


def _batches(records: str, template, batch_size: int, limit: int):
    import tqdm

    from dgn_tf.records.batches import Batching
    from dgn_tf.records.reader import record_dataset

    dataset = record_dataset(
        records, template, batching=Batching(batch_size=batch_size, shuffle=False, repeat=False)
    )
    total = -(-limit // batch_size) if limit else None
    return tqdm.tqdm(dataset, desc="evaluate", unit="batch", total=total, disable=None)


if __name__ == "__main__":
    errors.run(main)
