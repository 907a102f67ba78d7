"""Compares exported forms of one model on records: accuracy, size, time of one crop.

    python -m experiments.compare_precisions --records=data/synthetic_test \
        --models=fp32=runs/p/fp32,int8=runs/p/int8,lite=runs/p/fp32/1.fp32.tflite

The first is what the others are held against. Times are ratios within one run, in alternation.
"""

import functools
import pathlib
from collections.abc import Callable

from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError

FLAGS = flags.FLAGS

flags.DEFINE_string("records", None, "Folder of synthetic records.", required=True)
flags.DEFINE_list("models", None, "NAME=FILE or FOLDER of each form.", required=True)
flags.DEFINE_integer("limit", 0, "Frames at most, from the first on; 0: all.", lower_bound=0)
flags.DEFINE_integer("rounds", 12, "Repetitions of the timing.", lower_bound=3)
flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")

_ONE = 20  # crops a repetition


def main(_):
    from benchmarks import timing
    from dgn_tf.json_file import write_json
    from dgn_tf.records.batches import Batching
    from dgn_tf.records.reader import record_dataset

    models: dict[str, str] = dict(part.partition("=")[::2] for part in FLAGS.models)
    for name, path in models.items():
        if not path or not pathlib.Path(path).exists():
            raise InputError(
                f"--models: {name}={path} does not exist; wanted NAME=PATH of a "
                "SavedModel's folder or a .tflite file."
            )
    first = next(iter(models.values()))
    template = _template(first)
    runs = {name: _load(path, template) for name, path in models.items()}
    dataset = record_dataset(
        FLAGS.records, template, batching=Batching(batch_size=32, shuffle=False, repeat=False)
    )
    figures, one = _accuracy(runs, dataset, template, FLAGS.limit)
    jobs: dict[str, Callable[[], object]] = {
        name: timing.repeated(functools.partial(run, one), _ONE) for name, run in runs.items()
    }
    seconds = timing.alternate(jobs, FLAGS.rounds)
    for name, path in models.items():
        figures[name] |= {
            "megabytes": _bytes(pathlib.Path(path)) / 2**20,
            "ms_per_crop": 1e3 * float(sorted(seconds[name])[FLAGS.rounds // 2]) / _ONE,
            "time_to_first": timing.ratio(seconds[name], seconds[next(iter(models))]),
        }
        print(name, ", ".join(f"{key} {value:.4g}" for key, value in figures[name].items()))
    if FLAGS.json:
        write_json(figures, FLAGS.json)


def _template(path):
    from dgn_tf.model_folder import TEMPLATE, find_model_folder, read_description
    from dgn_tf.template import HandTemplate

    folder = find_model_folder(path)
    return HandTemplate.load(folder / TEMPLATE, embedding=read_description(folder)["embedding"])


def _load(path, template):
    from dgn_tf.evaluation.predictions import SavedModelPredictions

    return _LiteRT(path) if path.endswith(".tflite") else SavedModelPredictions(path, template)


class _LiteRT:
    """A .tflite file, called as `SavedModelPredictions` is, one crop after the other."""

    def __init__(self, path):
        from dgn_tf.conversion import litert

        self._run = litert.runner(pathlib.Path(path).read_bytes(), threads=2)

    def __call__(self, batch):
        import numpy as np

        from dgn_tf.network_config import NETWORK_INPUTS

        inputs = {name: np.asarray(batch[name], np.float32) for name in NETWORK_INPUTS}
        each = [
            self._run(**{name: value[row : row + 1] for name, value in inputs.items()})
            for row in range(len(inputs["cube"]))
        ]
        return {name: np.concatenate([one[name] for one in each]) for name in each[0]}


def _accuracy(runs, dataset, template, limit):
    """Figures of each form in mm, and one crop for the timing."""
    import numpy as np

    errors_mm: dict[str, list] = {name: [] for name in runs}
    moved: dict[str, list] = {name: [] for name in runs}
    count, one = 0, None
    for batch in dataset:
        keep = len(batch["cube"]) if not limit else min(limit - count, len(batch["cube"]))
        if keep <= 0:
            break
        batch = {name: value[:keep] for name, value in batch.items()}
        one = {name: value[:1] for name, value in batch.items()}
        count += keep
        first = None
        for name, run in runs.items():
            found = run(batch)
            first = found["vertices"] if first is None else first
            truth = np.asarray(batch["keypoints"])[:, template.evaluated]
            away = np.linalg.norm(found["keypoints"][:, template.evaluated] - truth, axis=-1)
            errors_mm[name].append(away.mean(axis=1))
            moved[name].append(np.linalg.norm(found["vertices"] - first, axis=-1).mean(axis=1))
    figures = {
        name: {
            "frames": count,
            "keypoints_mm": float(np.concatenate(errors_mm[name]).mean()),
            "vertices_from_first_mm": float(np.concatenate(moved[name]).mean()),
            "vertices_from_first_median_mm": float(np.median(np.concatenate(moved[name]))),
        }
        for name in runs
    }
    return figures, one


def _bytes(path):
    if path.is_file():
        return path.stat().st_size
    from dgn_tf.serving.allow_list import find_version

    return sum(file.stat().st_size for file in find_version(path).rglob("*") if file.is_file())


if __name__ == "__main__":
    errors.run(main)
