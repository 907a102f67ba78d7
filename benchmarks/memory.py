"""Memory of processes that do one thing each, read by themselves.

    python -m benchmarks.memory WORK PLAN.json

is such a process, and prints what it read as JSON. WORK is one of `SERVING`, which serves requests,
or `training` or a work of `pipeline.WORKS`, which does some batches of it. A serving process
imports nothing else of this package: what is measured is the model's.
"""

import contextlib
import ctypes
import dataclasses
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable

import numpy as np
import psutil

BAR_MB = 600.0  # of a process that serves on a CPU
SERVING = ("eager", "session")  # tf.saved_model.load, and the session that a server has
_SIGNATURE = "serving_default"


def measure_serving(saved_model, frame: dict[str, np.ndarray], requests: int) -> dict:
    """What a process that serves whole frames holds resident.

    Args:
        saved_model: model folder or version.
        frame: depth [1, H, W] mm and intrinsics [1, 4], which are sent.
        requests: how many after the first one.

    Returns:
        each of `SERVING` -> {`steps`: [what was done, resident MB, peak MB] in order,
        `resident_mb`, `peak_mb`, `growth_mb` (of the resident memory in the second half of the
        requests), `within_bar`}; and `bar_mb`.
    """
    from dgn_tf.serving.allow_list import find_version, read_saved_model

    version = find_version(saved_model)
    read_saved_model(version)
    with tempfile.TemporaryDirectory() as folder:
        request = pathlib.Path(folder, "request.npz")
        np.savez(request, left=np.zeros(1, bool), **frame)
        plan = {"version": str(version), "request": str(request), "requests": requests}
        return {"bar_mb": BAR_MB, **{how: serving_figures(_child(how, plan)) for how in SERVING}}


def serving_figures(steps: list) -> dict:
    """Figures of the readings of a process that served, see `measure_serving`."""
    later = [resident for done, resident, _ in steps if done.endswith("more requests")]
    resident, peak = steps[-1][1:]
    return {
        "resident_mb": resident,
        "peak_mb": peak,
        "growth_mb": round(later[-1] - later[(len(later) - 1) // 2], 1),
        "within_bar": resident <= BAR_MB,
        "steps": steps,
    }


def measure_work(settings, records: str, batches: int) -> dict:
    """Peak resident MB of processes that each do one thing for some batches.

    Args:
        settings: `Train`, of `dgn_tf.train`.
        records: folder of records for the input pipeline.
        batches: how many.

    Returns:
        `training` and the works of `pipeline.WORKS` -> {`peak_mb`, `start_mb`: what importing the
        package's parts for it took}.
    """
    from benchmarks.pipeline import WORKS

    plan = {"settings": dataclasses.asdict(settings), "records": records, "batches": batches}
    return {work: _child(work, plan) for work in ("training", *WORKS)}


def return_free_memory() -> None:
    """Gives the C library's free heap back to the system, where that is glibc's.

    Loading a model and the first request leave a large part of the heap free in pieces, which
    glibc keeps.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def resident_mb() -> tuple[float, float]:
    """Resident memory of this process now and at its peak, MB (10^6 bytes)."""
    now = psutil.Process().memory_info().rss / 1e6
    return now, max(now, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


def _child(work: str, plan: dict):
    """What this module, run as a process, prints last."""
    checkout = str(pathlib.Path(__file__).parents[1])
    path = os.pathsep.join([checkout, *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "plan.json")
        file.write_text(json.dumps(plan))
        command = [sys.executable, "-m", "benchmarks.memory", work, str(file)]
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:4])} failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _serve(how: str, version: str, request: str, requests: int) -> list:
    readings: list = []

    def note(done):
        readings.append((done, *resident_mb()))

    note("python and numpy")
    with np.load(request) as arrays:
        inputs = dict(arrays)
    import tensorflow as tf

    note("TensorFlow imported")
    run = {"eager": _eager, "session": _session}[how](tf, version, inputs)
    note("model loaded")
    run()
    note("after 1 request")
    return_free_memory()
    note("free memory returned")
    marks = {max(1, requests * tenth // 10) for tenth in range(1, 11)}
    for number in range(1, requests + 1):
        run()
        if number in marks:
            note(f"after {number} more requests")
    return readings


def _eager(tf, version, inputs) -> Callable[[], object]:
    model = tf.saved_model.load(version)
    signature = model.signatures[_SIGNATURE]

    def run():
        given = {name: tf.constant(value) for name, value in inputs.items()}
        return {name: value.numpy() for name, value in signature(**given).items()}, model

    return run


def _session(tf, version, inputs) -> Callable[[], object]:
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], version)
    spec = loaded.signature_def[_SIGNATURE]
    feeds = {spec.inputs[name].name: value for name, value in inputs.items()}
    return lambda: session.run([output.name for output in spec.outputs.values()], feeds)


def _work(work: str, settings: dict, records: str, batches: int) -> dict:
    from benchmarks import pipeline
    from dgn_tf.config import Train

    trained = Train(**settings)
    made = pipeline.from_flags(trained, records)
    start, _ = resident_mb()  # with the package's parts imported
    job = _training(trained, made) if work == "training" else pipeline.WORKS[work](made).job
    for _ in range(batches):
        job()
    return {"start_mb": start, "peak_mb": resident_mb()[1]}


def _training(settings, made) -> Callable[[], object]:
    """A job that trains on one batch of the on-line dataset."""
    import tensorflow as tf

    from benchmarks import pipeline
    from dgn_tf.training.building import build_model, build_optimizer

    model = build_model(made.template, settings)
    build_optimizer(model)
    step = tf.function(model.train_step, jit_compile=bool(model.jit_compile))
    batches = pipeline.online_batches(made)
    return lambda: step(next(batches))["loss"].numpy()


def main(work: str, plan: dict):
    """The readings of `work`, see `measure_serving` and `measure_work`."""
    return _serve(work, **plan) if work in SERVING else _work(work, **plan)


if __name__ == "__main__":
    with open(sys.argv[2]) as plan_file:
        print(json.dumps(main(sys.argv[1], json.load(plan_file))))
