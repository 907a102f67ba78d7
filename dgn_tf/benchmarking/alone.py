"""Does one thing for some batches and prints what it took: a program for a process of its own.

    python -m dgn_tf.benchmarking.alone WORK SETTINGS.json

WORK is `training` or one of `pipeline.WORKS`. It prints a JSON dict of resident MB before and at
the peak.
"""

import json
import sys

from dgn_tf.benchmarking import pipeline
from dgn_tf.benchmarking.serving_memory import resident_mb


def main(work: str, settings: dict, records: str, batches: int) -> dict:
    """`start_mb` and `peak_mb` of this process over `batches` batches of `work`."""
    made = pipeline.from_flags(settings, records)
    start, _ = resident_mb()  # with the package's parts imported
    job = _training(settings, made) if work == "training" else pipeline.WORKS[work](made).job
    for _ in range(batches):
        job()
    return {"start_mb": start, "peak_mb": resident_mb()[1]}


def _training(settings, made):
    """A job that trains on one batch of the on-line dataset."""
    import tensorflow as tf

    from dgn_tf import train

    model = train.build_model(made.template, settings)
    train.build_optimizer(model)
    step = tf.function(model.train_step, jit_compile=bool(model.jit_compile))
    batches = pipeline.online_batches(made)
    return lambda: step(next(batches))["loss"].numpy()


if __name__ == "__main__":
    with open(sys.argv[2]) as file:
        print(json.dumps(main(sys.argv[1], **json.load(file))))
