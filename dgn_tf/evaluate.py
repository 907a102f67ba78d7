"""Measures a model on records of synthetic frames.

    python -m dgn_tf.evaluate --records=data/synthetic_test --weights=saved_models/dgn \\
        --json=runs/test.json --plot=runs/test.png
"""

import pathlib

from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError

FLAGS = flags.FLAGS

flags.DEFINE_string("records", "", "Folder of records, or a glob of their files.")
flags.DEFINE_string("saved_model", "", "Exported model (folder or version) to measure.")
flags.DEFINE_string("weights", "", "Model folder (a run's best/, saved_models/dgn) to measure.")
flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")
flags.DEFINE_string("plot", "", "File (.png, .pdf, .svg) for the success curve; empty: none.")
flags.DEFINE_integer("limit", 0, "Frames at most, from the first on; 0: all.", lower_bound=0)
flags.DEFINE_integer("batch_size", 32, "Frames at once.", lower_bound=1)
flags.DEFINE_bool("surface", True, "Measure surface_mm too (20 ms a frame).")


def main(_):
    if bool(FLAGS.saved_model) == bool(FLAGS.weights):
        raise InputError("wanted one of --saved_model=DIR and --weights=DIR: what to measure.")
    if not FLAGS.records:
        raise InputError(
            "--records is wanted: a folder that data_prep.synthetic_to_tfrecord has written."
        )
    from dgn_tf import plots

    if FLAGS.plot:  # before the minutes of work
        plots.check_plot_file(FLAGS.plot)
    if FLAGS.json and pathlib.Path(FLAGS.json).is_dir():
        raise InputError(f"--json={FLAGS.json} is a folder; a file's name is wanted.")

    predict = _predictions(FLAGS.saved_model, FLAGS.weights)
    template = predict.template
    batches = _batches(FLAGS.records, template, FLAGS.batch_size, FLAGS.limit)
    found = _measure(predict, batches, template, FLAGS.limit, FLAGS.surface)

    from dgn_tf.metrics.joints import mean_interval_mm
    from dgn_tf.metrics.report import report, table

    names = evaluated_names(template)
    figures = report(found, names)
    print(table(figures, mean_interval_mm(found["joints"])))
    if FLAGS.json:
        from dgn_tf.json_file import write_json

        write_json(figures, FLAGS.json)
    if FLAGS.plot:
        plots.plot_errors({FLAGS.saved_model or FLAGS.weights: found["joints"]}, names, FLAGS.plot)


def evaluate_network(network, dataset, template, limit: int = 0, surface: bool = False) -> dict:
    """The figures of `--json` for a network in memory.

    Args:
        network: built `DualGridNet`.
        dataset: finite iterable of batches with truth and targets, see `dgn_tf.data`.
        template: the network's HandTemplate.
        limit: frames at most; 0 for all.
        surface: measure `surface_mm` too.
    """
    from dgn_tf.evaluation.predictions import NetworkPredictions
    from dgn_tf.metrics.report import report

    found = _measure(NetworkPredictions(network), dataset, template, limit, surface)
    return report(found, evaluated_names(template))


def evaluated_names(template) -> list[str]:
    """Names of the 14 evaluated key points, in NYU's order."""
    return [template.keypoint_names[i] for i in template.evaluated]


def _measure(predict, batches, template, limit, surface):
    import tensorflow as tf

    from dgn_tf.evaluation.frame_errors import frame_errors

    try:
        found = frame_errors(predict, batches, template, limit, surface)
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        first = str(error).strip().splitlines()[0][:200]
        raise InputError(
            f"--records can't be read to their end ({first}); write them again."
        ) from None
    if not found:
        raise InputError("--records hold no frame; write them again.")
    return found


def _predictions(saved_model: str, weights: str):
    from dgn_tf.evaluation import predictions
    from dgn_tf.model_folder import load_network
    from dgn_tf.serving.allow_list import find_version

    if weights:
        return predictions.NetworkPredictions(load_network(weights))
    find_version(saved_model)  # its absence first: the message names the flag
    return predictions.SavedModelPredictions(saved_model, _template_of(saved_model))


def _template_of(saved_model: str):
    """The template beside (or in the assets of) an exported model."""
    from dgn_tf.model_folder import TEMPLATE, find_model_folder, read_description
    from dgn_tf.template import HandTemplate

    folder = find_model_folder(saved_model)
    return HandTemplate.load(folder / TEMPLATE, embedding=read_description(folder)["embedding"])


def _batches(records: str, template, batch_size: int, limit: int):
    import tqdm

    from dgn_tf.data import record_dataset

    dataset = record_dataset(records, template, batch_size, shuffle=False, repeat=False)
    total = -(-limit // batch_size) if limit else None
    return tqdm.tqdm(dataset, desc="evaluate", unit="batch", total=total, disable=None)


if __name__ == "__main__":
    errors.run(main)
