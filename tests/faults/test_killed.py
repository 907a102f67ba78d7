"""Killed runs and full disks: nothing is lost or half written, and the next run goes on.

A full disk is a limit on the size of a file that a process may write.
"""

import errno
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from dgn_tf import frame_command, writing
from dgn_tf.errors import InputError
from tests.exported_model import blob_frame, exported_model, network

CAMERA = ["--intrinsics=300,300,160,120", "--depth_unit=0.125"]


def visible(folder) -> dict[str, bytes]:
    """Files that are no run's own scratch."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    names = {str(file.relative_to(folder)): file for file in files}
    return {name: file.read_bytes() for name, file in names.items() if not name.startswith(".")}


def test_a_full_disk_leaves_the_earlier_results(tmp_path, monkeypatch):
    (tmp_path / "a.ply").write_text("of an earlier run")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for write in (
        lambda: writing.write_output(tmp_path / "a.ply", b"new", "--output"),
        lambda: write_staged(tmp_path),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(pathlib.Path, "write_bytes", full)
            with pytest.raises(InputError, match="No space left on device"):
                write()
        assert [file.name for file in tmp_path.iterdir()] == ["a.ply"]
        assert (tmp_path / "a.ply").read_text() == "of an earlier run"
    write_staged(tmp_path)
    assert (tmp_path / "a.ply").read_bytes() == b"new"


def write_staged(folder):
    with frame_command.staged(folder) as stage:
        (stage / "a.ply").write_bytes(b"new")


def command(program, *arguments, limit=None):
    """Starts a program as a user would; no file of it may have more than `limit` bytes."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-m", f"dgn_tf.{program}", *arguments],
        cwd=pathlib.Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited if limit else None,
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recording")
    frame = (blob_frame() * 8).astype(np.uint16)
    for index in range(400):
        Image.fromarray(frame).save(folder / f"{index:03d}.png", compress_level=1)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from dgn_tf.model_folder import save_model_folder

    folder = tmp_path_factory.mktemp("run") / "best"
    save_model_folder(network(), folder)
    return folder


def predict(recording, output, pattern="*"):
    model = f"--saved_model={exported_model()}"
    return [
        "predict",
        model,
        f"--depth={recording}/{pattern}.png",
        *CAMERA,
        f"--output_dir={output}",
    ]


def export(weights, output):
    return ["export", f"--weights={weights}", f"--output_dir={output}", "--localiser=blob"]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_predict_is_killed_and_the_next_run_goes_on(number, recording, tmp_path):
    run = command(*predict(recording, tmp_path))
    end = time.monotonic() + 120
    while not list(tmp_path.glob(".writing-*/*.png")):  # some frames are done
        assert run.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    run.send_signal(number)
    run.communicate()
    assert run.returncode == -number and not visible(tmp_path)
    run = command(*predict(recording, tmp_path, "00[01]"))
    assert run.communicate() and run.returncode == 0
    assert len(visible(tmp_path)) == 6


@pytest.mark.long
def test_export_is_killed_and_keeps_the_version_that_was_there(weights, tmp_path):
    run = command(*export(weights, tmp_path))
    assert run.communicate() and run.returncode == 0
    before = visible(tmp_path)
    run = command(*export(weights, tmp_path), "--overwrite")
    end = time.monotonic() + 120
    while not list(tmp_path.glob(".new-*/.writing-*/*")):
        assert run.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    run.kill()
    run.communicate()
    assert visible(tmp_path) == before
    run = command(*export(weights, tmp_path), "--overwrite")
    assert run.communicate() and run.returncode == 0
    assert visible(tmp_path).keys() == before.keys()


@pytest.mark.long
@pytest.mark.parametrize("program", ["predict", "export"])
def test_on_a_full_disk_a_program_says_so_and_keeps_what_was_there(
    program, recording, weights, tmp_path
):
    (tmp_path / "000.ply").write_text("of an earlier run")
    before = visible(tmp_path)
    arguments = {
        "predict": predict(recording, tmp_path, "00[01]"),
        "export": export(weights, tmp_path),
    }[program]
    run = command(*arguments, limit=2000)
    _, told = run.communicate()
    last = told.strip().splitlines()[-1]
    assert run.returncode == 1 and "can't be written" in last and "Traceback" not in told
    assert visible(tmp_path) == before
