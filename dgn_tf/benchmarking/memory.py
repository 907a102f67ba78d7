"""Peak memory, of processes that do one thing each."""

import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from dgn_tf.benchmarking import serving_memory
from dgn_tf.benchmarking.inputs import Inputs
from dgn_tf.benchmarking.pipeline import WORKS
from dgn_tf.config import Train
from dgn_tf.serving.allow_list import find_version, read_saved_model

BAR_MB = 600.0  # of a process that serves on a CPU
_SIGNATURE = "serving_default"


def measure_serving(saved_model, inputs: Inputs, requests: int) -> dict:
    """What a process that serves whole frames holds resident, in three ways.

    Args:
        saved_model: model folder or version.
        inputs: one frame of it is sent.
        requests: how many after the first one.

    Returns:
        way of `serving_memory.HOWS` -> {`steps`: [what was done, resident MB, peak MB] in order,
        `resident_mb`, `peak_mb`, `growth_mb` (of the resident memory in the second half of the
        requests), `within_bar`}; and `bar_mb`.
    """
    version = find_version(saved_model)
    spec = read_saved_model(version).meta_graphs[0].signature_def[_SIGNATURE]
    with tempfile.TemporaryDirectory() as folder:
        request, plan = pathlib.Path(folder, "request.npz"), pathlib.Path(folder, "plan.json")
        np.savez(request, left=np.zeros(1, bool), **inputs.frame_batch(1))
        plan.write_text(
            json.dumps(
                {
                    "version": str(version),
                    "request": str(request),
                    "requests": requests,
                    "signature": _SIGNATURE,
                    "inputs": {name: value.name for name, value in spec.inputs.items()},
                    "outputs": {name: value.name for name, value in spec.outputs.items()},
                }
            )
        )
        result: dict = {"bar_mb": BAR_MB}
        for how in serving_memory.HOWS:
            steps = _child("serving_memory", how, str(plan))
            result[how] = serving_figures(steps)
    return result


def serving_figures(steps: list) -> dict:
    """Figures of `serving_memory.main`'s readings, see `measure_serving`."""
    later = [resident for done, resident, _ in steps if done.endswith("more requests")]
    resident, peak = steps[-1][1:]
    return {
        "resident_mb": resident,
        "peak_mb": peak,
        "growth_mb": round(later[-1] - later[(len(later) - 1) // 2], 1),
        "within_bar": resident <= BAR_MB,
        "steps": steps,
    }


def measure_work(settings: Train, records: str, batches: int) -> dict:
    """Peak resident MB of processes that each do one thing for some batches.

    Args:
        settings: of `dgn_tf.train`.
        records: folder of records for the input pipeline.
        batches: how many.

    Returns:
        `training` and the works of `pipeline.WORKS` -> {`peak_mb`, `start_mb`: what importing the
        package's parts for it took}.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "settings.json")
        file.write_text(
            json.dumps(
                {"settings": dataclasses.asdict(settings), "records": records, "batches": batches}
            )
        )
        return {work: _child("alone", work, str(file)) for work in ("training", *WORKS)}


def _child(module, *arguments):
    """What a module of this package, run as a process, prints last, as JSON."""
    command = [sys.executable, "-m", f"dgn_tf.benchmarking.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:4])} failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
