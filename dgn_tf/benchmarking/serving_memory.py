"""What a process that serves a SavedModel holds resident: a program for a process of its own.

    python -m dgn_tf.benchmarking.serving_memory HOW PLAN.json

serves requests and prints a JSON list of [what was done, resident MB, peak MB]. HOW is how:
`eager`, tf.saved_model.load; `session`, the session that the tests' stand-in server has; `library`,
TensorFlow's C library without its Python, the nearest to TensorFlow Serving's own process. PLAN
names the version's folder, the signature with its tensors, the file of a request and the number of
requests. Nothing else of the package is imported: what is measured is the model's process.
"""

import contextlib
import ctypes
import json
import sys
from collections.abc import Callable

import numpy as np

HOWS = ("eager", "session", "library")


def resident_mb(pid: int | str = "self") -> tuple[float, float]:
    """Resident memory of a process now and at its peak, MB (10^6 bytes)."""
    with open(f"/proc/{pid}/status") as status:
        kilobytes = {line.split()[0]: int(line.split()[1]) for line in status if "kB" in line}
    now, peak = (kilobytes[name] * 1024 / 1e6 for name in ("VmRSS:", "VmHWM:"))
    return round(now, 1), round(peak, 1)


def return_free_memory() -> None:
    """Gives the C library's free heap back to the system, where that is glibc's.

    Loading a model and the first request leave a large part of the heap free in pieces, which
    glibc keeps.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def main(how: str, plan: dict) -> list:
    """[what was done, resident MB, peak MB] at each step of the plan."""
    readings: list = []

    def note(done):
        readings.append((done, *resident_mb()))

    note("python and numpy")
    with np.load(plan["request"]) as request:
        inputs = dict(request)
    run = {"eager": _eager, "session": _session, "library": _library}[how](plan, inputs, note)
    note("model loaded")
    run()
    note("after 1 request")
    return_free_memory()
    note("free memory returned")
    marks = {max(1, plan["requests"] * tenth // 10) for tenth in range(1, 11)}
    for number in range(1, plan["requests"] + 1):
        run()
        if number in marks:
            note(f"after {number} more requests")
    return readings


def _eager(plan, inputs, note) -> Callable[[], object]:
    import tensorflow as tf

    note("TensorFlow imported")
    model = tf.saved_model.load(plan["version"])
    signature = model.signatures[plan["signature"]]

    def run():
        given = {name: tf.constant(value) for name, value in inputs.items()}
        return {name: value.numpy() for name, value in signature(**given).items()}, model

    return run


def _session(plan, inputs, note) -> Callable[[], object]:
    import tensorflow as tf

    note("TensorFlow imported")
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        tf.compat.v1.saved_model.load(session, ["serve"], plan["version"])
    feeds = {plan["inputs"][name]: value for name, value in inputs.items()}
    return lambda: session.run(list(plan["outputs"].values()), feeds)


def _library(plan, inputs, note) -> Callable[[], object]:
    from dgn_tf.benchmarking.c_library import LibrarySession

    session = LibrarySession(plan["version"], plan["inputs"], plan["outputs"])
    return lambda: session.run(inputs)


if __name__ == "__main__":
    with open(sys.argv[2]) as file:
        print(json.dumps(main(sys.argv[1], json.load(file))))
