"""Runs that learn from their own estimates: they render them, and resume exactly."""

import csv
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dgn_tf.training import estimates
from dgn_tf.training.estimates import LAG
from tests.training.test_train import ROOT, Killed, run, weights
from tests.view_records import write_view_records

LONG = pytest.mark.long
TINY = [
    "--image_channels=8",
    "--mesh_channels=8",
    "--features=4",
    "--batch_size=2",
    "--clip_norm=100",
    f"--steps={LAG + 8}",
    f"--steps_per_epoch={LAG // 2}",
    "--validation_frames=2",
    "--nosummaries",
    "--warmup_steps=1",
    "--unlabelled_steps=1",
    "--held_out=0",
    "--estimates_fraction=0.5",
    "--nomulti_view",
]
# An untrained network's estimates are far from any hand: all are let in.
PROGRAM = """
from absl import app
from dgn_tf import train
from dgn_tf.training import estimates
estimates.FARTHEST_MM = float("inf")
app.run(train.main)
"""


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = write_view_records(tmp_path_factory.mktemp("views") / "train", 6, 2, shards=1)
    file = folder / "description.json"
    facts = json.loads(file.read_text()) | {"content_hash": "abc", "skipped": [], "labels": False}
    file.write_text(json.dumps(facts))
    return folder


def killed_after(step, folder, *arguments):
    """Starts a run and kills it once the checkpoint of `step` is written."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments, f"--output_dir={folder}"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 900
    state = folder / "checkpoints" / "checkpoint"  # names the checkpoint to resume from, last
    while process.poll() is None:
        if state.is_file() and f'-{step}"' in state.read_text():
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL


def stopped_after(step, folder, *arguments):
    """Begins a run, which ends once the checkpoint of `step` is written."""
    from dgn_tf.training.run_folder import Checkpoints

    save = Checkpoints.save

    def last(checkpoints, number):
        save(checkpoints, number)
        if number == step:
            raise Killed

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Checkpoints, "save", last)
        run(*arguments, f"--output_dir={folder}")


@pytest.mark.long  # its small form: test_train.py, a run that was stopped and goes on
@pytest.mark.parametrize("begin", [stopped_after, pytest.param(killed_after, marks=LONG)])
def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(
    begin, tmp_path, records, monkeypatch
):
    flags = *TINY, f"--unlabelled_records={records}"
    monkeypatch.setattr(estimates, "FARTHEST_MM", float("inf"))
    begin(LAG, tmp_path / "killed", *flags)

    taken = {}
    take = estimates.EstimatePool.take

    def spied(pool, batch, count):
        found = take(pool, batch, count)
        taken.setdefault(batch, []).append(found)
        return found

    monkeypatch.setattr(estimates.EstimatePool, "take", spied)
    run(*flags, f"--output_dir={tmp_path / 'killed'}")
    assert min(taken) >= LAG
    run(*flags, f"--output_dir={tmp_path / 'whole'}")
    for batch in range(LAG + 8):
        found = taken[batch]
        assert all((hands is None) == (batch < LAG) for hands in found), batch
        if batch >= LAG:
            resumed, uninterrupted = found
            assert len(resumed.angles) == 1  # half of a batch of two
            np.testing.assert_allclose(resumed.angles, uninterrupted.angles, atol=1e-5)
    got, wanted = weights(tmp_path / "killed/last"), weights(tmp_path / "whole/last")
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-6, err_msg=name)
    with open(tmp_path / "whole" / "log.csv", newline="") as lines:
        kept = [float(row["estimates_kept"]) for row in csv.DictReader(lines)]
    assert kept == [1.0] * 3
