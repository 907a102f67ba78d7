"""A run's folder after damage: the older checkpoint, the log's whole lines, one run at a time."""

import contextlib
import math
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.training import run_folder

ROOT = pathlib.Path(__file__).parents[2]


class Variables(tf.Module):
    def __init__(self):
        self.values = tf.Variable(np.zeros(5000, np.float32))
        self.steps = tf.Variable(0)


def checkpoints(folder):
    network, optimizer = Variables(), Variables()
    return network, run_folder.Checkpoints(folder, network, optimizer)


@pytest.fixture
def run(tmp_path):
    """A run's folder with the checkpoints of steps 6 and 12, whose values are their steps."""
    network, saved = checkpoints(tmp_path)
    for step in (6, 12):
        network.values.assign(np.full(5000, step, np.float32))
        saved.save(step)
    return tmp_path


def cut(data, index, state):
    os.truncate(data, data.stat().st_size // 2)


def flipped(data, index, state):
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)


def empty_index(data, index, state):
    index.write_bytes(b"")


def garbled_index(data, index, state):
    index.write_bytes(np.random.default_rng(0).bytes(index.stat().st_size))


def missing_data(data, index, state):
    data.unlink()


@pytest.mark.parametrize("damage", [cut, flipped, empty_index, garbled_index, missing_data])
def test_a_damaged_newest_checkpoint_gives_way_to_the_older_one(damage, run, caplog):
    prefix = run / "checkpoints" / "ckpt-12"
    files = (prefix.with_suffix(".data-00000-of-00001"), prefix.with_suffix(".index"))
    damage(*files, run / "checkpoints" / "checkpoint")
    network, saved = checkpoints(run)
    with caplog.at_level("WARNING"):
        assert saved.restore()
    np.testing.assert_array_equal(network.values, np.full(5000, 6, np.float32))
    assert "ckpt-12 can't be restored" in caplog.text and "ckpt-6" in caplog.text
    network.values.assign(np.full(5000, 13, np.float32))
    saved.save(12)  # the run comes to that step again
    again, saved = checkpoints(run)
    assert saved.restore() and float(again.values[0]) == 13


@pytest.mark.parametrize("content", [b"", b"\x80 no list of checkpoints"])
def test_a_damaged_list_of_checkpoints_loses_none(content, run):
    (run / "checkpoints" / "checkpoint").write_bytes(content)
    assert run_folder.has_checkpoint(run)
    network, saved = checkpoints(run)
    assert saved.restore() and float(network.values[0]) == 12


def test_checkpoints_that_are_all_damaged_are_an_error_of_one_line(run):
    for index in (run / "checkpoints").glob("*.index"):
        index.write_bytes(b"")
    with pytest.raises(InputError, match="ckpt-12 can't be restored: .*another --output_dir"):
        checkpoints(run)[1].restore()


def test_a_full_disk_while_saving_is_one_line_and_loses_nothing(run):
    network, saved = checkpoints(run)
    saved.restore()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(InputError, match="can't be written .*goes on from its last") as error:
            saved.save(18)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(error.value)
    network, saved = checkpoints(run)
    assert saved.restore() and float(network.values[0]) == 12


LOG = "epoch,loss,val_mm\r\n0,1.5,20.5\r\n1,1.25,nan\r\n2,1.0,18.75\r\n"


@pytest.mark.parametrize("left", ["3,0.5,1", "3,0.5", "3,nan,nan\r\n", "3,,\r\n", "3,0.5,1,1\r\n"])
def test_the_best_figure_is_of_a_whole_line(left, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text(LOG + left, newline="")
    assert run_folder.best_in_log(log, "val_mm") == 18.75
    run_folder.mend_log(log, 3)
    assert log.read_bytes().decode() == LOG
    run_folder.mend_log(log, 1)  # resumed at an older checkpoint
    assert [row["epoch"] for row in run_folder.whole_rows(log)] == ["0"]


@pytest.mark.parametrize("content", ["", "epo", "epoch,val_mm\r\n", "\x00\x00"])
def test_a_log_without_a_whole_line_begins_anew(content, tmp_path):
    log = tmp_path / "log.csv"
    assert run_folder.best_in_log(log, "val_mm") == math.inf
    log.write_text(content, newline="")
    assert run_folder.best_in_log(log, "val_mm") == math.inf
    run_folder.mend_log(log, 1)
    assert not log.exists()


def test_a_second_trainer_on_a_folder_is_refused(tmp_path):
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        run_folder.begin_alone(tmp_path / "run", first)
        with pytest.raises(InputError, match="another run is writing there"):
            run_folder.begin_alone(tmp_path / "run", second)
        first.close()
        run_folder.begin_alone(tmp_path / "run", second)
    (tmp_path / "file").write_text("")
    with contextlib.ExitStack() as held, pytest.raises(InputError, match="can't be written"):
        run_folder.begin_alone(tmp_path / "file", held)


TINY = [
    *("--image_channels=8,8", "--mesh_channels=8,8", "--features=4", "--batch_size=2"),
    *("--steps=6", "--steps_per_epoch=2", "--validation_frames=2", "--nosummaries"),
    "--warmup_steps=1",
]


def train(folder, limit=None, *arguments):
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-m", "dgn_tf.train", *TINY, f"--output_dir={folder}", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=limited if limit else None,
    )


def weights(folder):
    found = {}
    with h5py.File(folder / "last" / "weights.h5") as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


@pytest.mark.long
def test_a_run_killed_again_and_again_ends_as_an_unbroken_one(tmp_path):
    whole = train(tmp_path / "whole")
    output, _ = whole.communicate()
    assert whole.returncode == 0, output
    folder = tmp_path / "killed"
    signs = ["last/config.json", "checkpoints/ckpt-2.index", "checkpoints/ckpt-4.index"]
    for number, (sign, how) in enumerate(
        zip(signs, [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL], strict=True)
    ):
        running = train(folder)
        end = time.monotonic() + 600
        while not (folder / sign).exists() and running.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        if number == 0:
            second = train(folder)
            told, _ = second.communicate()
            # Refused; unless the first was through by then, though its process had yet to end.
            through = running.poll() is not None or "nothing to do" in told
            assert through or "another run is writing there" in told, told
        running.send_signal(how)
        running.communicate()
    last = train(folder)
    output, _ = last.communicate()
    assert last.returncode == 0, output
    wanted, got = weights(tmp_path / "whole"), weights(folder)
    assert wanted.keys() == got.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-6, err_msg=name)
    rows = run_folder.whole_rows(folder / "log.csv")
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]


@pytest.mark.long
def test_on_a_full_disk_training_says_so_and_goes_on_once_there_is_room(tmp_path):
    full = train(tmp_path / "run", 20_000)
    output, _ = full.communicate()
    assert full.returncode == 1 and "Traceback" not in output, output
    assert "can't be written" in output.strip().splitlines()[-1]
    again = train(tmp_path / "run")
    output, _ = again.communicate()
    assert again.returncode == 0, output
