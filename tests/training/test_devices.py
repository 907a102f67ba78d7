"""One run on several devices: the weights that all come to, a worker that dies, refusals."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.training.devices import check_frames, open_devices
from tests.training.test_cluster import free_ports

ROOT = pathlib.Path(__file__).parents[2]
# The paper's configuration: the default one looks pixels up by rounded places, and where an error
# of rounding moves one to its neighbour, tensors that start at zero part by more than 1e-4.
TINY = [
    "--network=paper",
    "--image_channels=8",
    "--mesh_channels=8",
    "--features=4",
    "--batch_size=4",
    "--steps=8",
    "--steps_per_epoch=4",
    "--validation_frames=2",
    "--nosummaries",
]
# Trains with each list of flags in turn, in a process of two devices.
IN_TURN = """
import json, sys
from absl import flags
from tests.training.two_replicas import two_devices
two_devices()
from dgn_tf import train
for arguments in map(json.loads, sys.argv[1:]):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["train", *arguments])
    train.main([])
"""


def start(*command, **variables):
    """A process whose output goes where it does not fill a pipe."""
    folder = pathlib.Path(variables.pop("logs"))
    log = open(folder / f"{time.monotonic_ns()}.log", "w+")
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **variables},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    return process, log


def finish(started):
    process, log = started
    try:
        process.wait(timeout=900)
    finally:
        process.kill()
    log.seek(0)
    return process.returncode, log.read()


def start_workers(folder, logs, *more):
    workers = [f"localhost:{port}" for port in free_ports(2)]
    command = ["-m", "dgn_tf.train", *TINY, "--strategy=multiworker", f"--output_dir={folder}"]
    command += more
    return [
        start(
            *command,
            logs=logs,
            TF_CONFIG=json.dumps(
                {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            ),
        )
        for index in range(2)
    ]


def variables(folder, step=8):
    """Of a checkpoint: weights, moving statistics, averages of the weights, Adam's moments."""
    reader = tf.train.load_checkpoint(str(folder / "checkpoints" / f"ckpt-{step}"))
    shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    return {name: reader.get_tensor(name) for name in shapes if types[name] == tf.float32}


def assert_same_weights(folder, wanted, step=8):
    """Each tensor within 1e-4 of its norm."""
    found = {name: v for name, v in variables(folder, step).items() if name.startswith("network/")}
    assert len(found) > 20
    for name, value in found.items():
        difference = np.linalg.norm(value - wanted[name])
        assert difference <= 1e-4 * np.linalg.norm(wanted[name]), name


def train_both(arguments, folder):
    """Trains `folder`/one on one device and `folder`/two on two, in one process."""
    runs = [
        [*arguments, f"--output_dir={folder / 'one'}"],
        [*arguments, f"--output_dir={folder / 'two'}", "--strategy=mirrored"],
    ]
    code, output = finish(start("-c", IN_TURN, *map(json.dumps, runs), logs=folder))
    assert code == 0, output


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("both")
    train_both(TINY, folder)
    return folder


@pytest.mark.long  # its small form: two_replicas, the step of two against that of one
def test_two_devices_of_a_process_train_to_the_weights_of_one(both):
    assert_same_weights(both / "two", variables(both / "one"))


# As wide as it takes for kernels to leave AdamW.
@pytest.mark.long  # in `make test` by two_replicas' check of the optimiser's steps
def test_muon_on_two_devices_is_muon_on_one(tmp_path):
    wide = ["--image_channels=32", "--mesh_channels=32", "--features=32"]
    train_both(
        [*TINY, "--network=default", *wide, "--steps=4", "--optimizer=muon"],
        tmp_path,
    )
    assert_same_weights(tmp_path / "two", variables(tmp_path / "one", 4), 4)


def killed_worker(folder, logs, *more):
    """Starts two workers and kills one after a checkpoint; the other's exit code and output."""
    workers = start_workers(folder, logs, *more)
    checkpoint, end = folder / "checkpoints" / "ckpt-4.index", time.monotonic() + 600
    while not checkpoint.exists() and all(process.poll() is None for process, _ in workers):
        assert time.monotonic() < end
        time.sleep(0.01)
    workers[1][0].kill()
    return finish(workers[0])


@pytest.mark.long  # three processes that import TensorFlow and wait for each other
def test_a_worker_says_that_the_other_died(tmp_path):
    code, output = killed_worker(tmp_path / "run", tmp_path, "--steps=40")
    assert code == 1 and re.search("worker 0 lost worker 1: .*start all workers again", output)
    assert "Traceback" not in output


@pytest.mark.long  # in `make test` by the test above, and by the weights of two devices
def test_two_workers_survive_the_death_of_one_and_train_to_the_weights_of_one(both, tmp_path):
    run = tmp_path / "run"
    killed_worker(run, tmp_path)
    results = [finish(worker) for worker in start_workers(run, tmp_path)]
    for code, output in results:
        assert code == 0, output
        assert "resumed at step 4 of 8" in output
    assert_same_weights(run, variables(both / "one"))
    assert json.loads((run / "last" / "config.json").read_text())["step"] == 8
    # The chief alone writes.
    assert len((run / "log.csv").read_text().splitlines()) == 3


def test_the_step_of_two_replicas_is_that_of_one(tmp_path):
    code, output = finish(start("-m", "tests.training.two_replicas", logs=tmp_path))
    assert code == 0 and "two replicas agree with one" in output, output


@pytest.mark.parametrize(
    ("frames", "workers", "replicas", "message"),
    [
        ([6], 4, None, "--batch_size=6, can't be cut in 4 equal parts, one for each worker"),
        ([2], 3, None, "--batch_size=2, can't be cut in 3 equal parts, one for each worker"),
        ([3, 5], 2, None, "--batch_size=8, 3 of them of one kind (--real_fraction), can't be cut"),
        ([6], 2, 4, "--batch_size=6 can't be cut in 4 equal parts, one for each device"),
    ],
)
def test_batches_that_cannot_be_cut_are_refused(frames, workers, replicas, message):
    check_frames([12], workers, replicas)
    with pytest.raises(InputError, match=re.escape(message)):
        check_frames(frames, workers, replicas)


def test_workers_want_their_addresses(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(InputError, match="TF_CONFIG in every worker"):
        open_devices("multiworker", [4], 1.0)
