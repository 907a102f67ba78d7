"""What inference-only processes tell TensorFlow, and that this TensorFlow listens."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from dgn_tf.serving.inference_only import FROZEN_WEIGHTS, assume_frozen_weights

_CHANGED_WEIGHTS = """
import tensorflow as tf
kernel = tf.Variable(tf.ones([3, 3, 16, 16]))
images = tf.ones([1, 8, 8, 16])
run = tf.function(lambda: tf.nn.relu(tf.nn.conv2d(images, kernel, 1, "SAME")))
before = run().numpy().max()
kernel.assign(2.0 * kernel)
print(before, run().numpy().max())
"""
_CROP = """
import sys
import numpy as np
import tensorflow as tf
from dgn_tf.serving.saving import example_crops
signature = tf.saved_model.load(sys.argv[1]).signatures["crop"]
crops = {name: tf.constant(value) for name, value in example_crops(64, 1).items()}
for _ in range(2):  # the first run lays the weights out, the second finds them
    outputs = signature(left=tf.constant([False]), **crops)
np.savez(sys.argv[2], **{name: value.numpy() for name, value in outputs.items()})
"""


def run(script, *arguments, **environment):
    inherited = {name: value for name, value in os.environ.items() if name != FROZEN_WEIGHTS}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        text=True,
        env={**inherited, "TF_ENABLE_ONEDNN_OPTS": "1", **environment},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv(FROZEN_WEIGHTS, "")  # so that what was there comes back
    monkeypatch.delenv(FROZEN_WEIGHTS)
    assume_frozen_weights()
    assert os.environ[FROZEN_WEIGHTS] == "1"
    monkeypatch.setenv(FROZEN_WEIGHTS, "0")
    assume_frozen_weights()
    assert os.environ[FROZEN_WEIGHTS] == "0"


_PROGRAM = """
import atexit, os, runpy, sys
atexit.register(lambda: print("at its end:", os.environ.get(sys.argv[1])))
runpy.run_module(sys.argv[2], run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("dgn_tf.predict", "1"),
        ("dgn_tf.train", None),
        ("dgn_tf.annotate", None),
    ],
)
def test_programs_that_only_infer_say_so(program, said):
    inherited = {name: value for name, value in os.environ.items() if name != FROZEN_WEIGHTS}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, FROZEN_WEIGHTS, program],
        env=inherited,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1  # a flag is missing
    assert f"at its end: {said}" in done.stdout


@pytest.mark.parametrize(
    ("what", "only"),
    [
        ("stages,exported", True),
        ("predictor", True),
        ("training,exported", False),
        ("exported,memory", False),
    ],
)
def test_the_benchmark_says_so_where_it_does_not_train(monkeypatch, what, only):
    from dgn_tf import benchmark

    class Asked(Exception):
        pass

    def ask():
        raise Asked

    monkeypatch.setattr(benchmark, "assume_frozen_weights", ask)
    monkeypatch.setattr(benchmark, "_checked_flags", lambda: (set(what.split(",")), [1]))
    for name in ("measure_network", "_model_parts", "_feeding_parts"):
        monkeypatch.setattr(benchmark, name, lambda *_: {})
    monkeypatch.setattr(benchmark, "lines", lambda _: [])
    benchmark.FLAGS.unparse_flags()
    benchmark.FLAGS(["benchmark"])
    if only:
        with pytest.raises(Asked):
            benchmark.main([])
    else:
        benchmark.main([])


@pytest.mark.skipif(platform.machine() != "x86_64", reason="TensorFlow's wheels have oneDNN there")
def test_tensorflow_keeps_weights_that_are_said_to_be_frozen():
    # Stale weights are the proof that it listens, and why no process that trains may say so.
    assert run(_CHANGED_WEIGHTS).split() == ["144.0", "288.0"]
    assert run(_CHANGED_WEIGHTS, **{FROZEN_WEIGHTS: "1"}).split() == ["144.0", "144.0"]


def test_the_shipped_model_gives_the_same_answers(checkout, tmp_path):
    version = checkout / "saved_models" / "dgn" / "1"
    files = [tmp_path / "as_is.npz", tmp_path / "frozen.npz"]
    run(_CROP, version, files[0])
    run(_CROP, version, files[1], **{FROZEN_WEIGHTS: "1"})
    as_is, frozen = (dict(np.load(file)) for file in files)
    assert as_is.keys() == frozen.keys()
    for name, value in as_is.items():
        # Other blocks of the same sums: mm (vertices), cells (coordinates), rad (angles).
        np.testing.assert_allclose(frozen[name], value, rtol=0, atol=1e-3, err_msg=name)
