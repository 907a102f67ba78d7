"""Does one thing for some batches and prints what it took: a program for a process of its own.

    python -m dgn_tf.benchmarking.alone WORK SETTINGS.json

WORK is `training` or one of `pipeline.WORKS`. It prints a JSON dict of resident MB before and at
the peak.
"""

import json
import sys

from dgn_tf.benchmarking import pipeline
from dgn_tf.benchmarking.serving_memory import resident_mb
from dgn_tf.config import Train


def main(work: str, settings: dict, records: str, batches: int) -> dict:
    """`start_mb` and `peak_mb` of this process over `batches` batches of `work`."""
    trained = Train(**settings)
    made = pipeline.from_flags(trained, records)
    start, _ = resident_mb()  # with the package's parts imported
    job = _training(trained, made) if work == "training" else pipeline.WORKS[work](made).job
    for _ in range(batches):
        job()
    return {"start_mb": start, "peak_mb": resident_mb()[1]}


def _training(settings: Train, made):
    """A job that trains on one batch of the on-line dataset."""
    import tensorflow as tf

    from dgn_tf.training.building import build_model, build_optimizer

    model = build_model(made.template, settings)
    build_optimizer(model)
    step = tf.function(model.train_step, jit_compile=bool(model.jit_compile))
    batches = pipeline.online_batches(made)
    return lambda: step(next(batches))["loss"].numpy()


if __name__ == "__main__":
    with open(sys.argv[2]) as file:
        print(json.dumps(main(sys.argv[1], **json.load(file))))
