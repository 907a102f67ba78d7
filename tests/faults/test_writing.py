"""What is written is whole, together and by one run alone, whenever a run is killed."""

import os
import pathlib
import resource
import signal
import subprocess
import sys
import threading

import pytest

from dgn_tf import writing
from dgn_tf.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]
NAMES = ("config", "flags", "weights")
# Kills itself at the n-th change of a folder: renames, links' ends and folders' ends.
KILLED = """
import os, pathlib, signal, sys
from dgn_tf import writing

left = [int(sys.argv[2])]

def deadly(change):
    def changed(*arguments, **named):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return change(*arguments, **named)
    return changed

for name in ("replace", "rename", "unlink", "rmdir"):
    setattr(os, name, deadly(getattr(os, name)))
with writing.files_together(sys.argv[1], instead_of=("fitted",)) as beside:
    for name in ("config", "flags", "weights"):
        (beside / name).write_text("new")
print("done")
"""


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def visible(folder):
    return {file.name: file.read_text() for file in folder.iterdir() if file.name[0] != "."}


def test_a_folder_killed_at_any_step_has_all_old_files_or_all_new_ones(tmp_path):
    old = {name: "old" for name in (*NAMES, "fitted", "stranger")}
    new = {name: "new" for name in NAMES} | {"stranger": "old"}
    ends = []
    for step in range(20):
        folder = tmp_path / str(step)
        folder.mkdir()
        for name, text in old.items():
            (folder / name).write_text(text)
        killed = run(KILLED, folder, step)
        writing.settle(folder)  # as every reader does
        found = visible(folder)
        assert found in (old, new), (step, found)
        ends.append(found == new)
        with writing.files_together(folder) as beside:  # the next run goes on
            assert [path.name for path in folder.glob(".*")] == [beside.name]  # swept
            for name in NAMES:
                (beside / name).write_text("third")
        assert {visible(folder)[name] for name in NAMES} == {"third"}
        assert not list(folder.glob(".*"))
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert killed.returncode == 0 and not ends[0] and ends[-1] and len(ends) > 5


def test_a_full_disk_leaves_what_was_there(tmp_path):
    file = tmp_path / "file.npz"
    file.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(InputError, match="--output=.*file.npz: can't be written"):
            writing.write_output(file, bytes(2000), "--output")
        with pytest.raises(OSError), writing.files_together(tmp_path) as beside:
            (beside / "first.txt").write_text("new")
            (beside / "file.npz").write_bytes(bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert visible(tmp_path) == {"file.npz": "old"} and len(list(tmp_path.iterdir())) == 1


def test_a_folder_in_the_way_is_named(tmp_path):
    (tmp_path / "mesh.ply").mkdir()
    with pytest.raises(InputError, match="mesh.ply: can't be written"):
        writing.write_output(tmp_path / "mesh.ply", b"")
    (tmp_path / "mesh.ply").rmdir()
    writing.write_output(tmp_path / "new" / "mesh.ply", b"x")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mesh.ply"]


def test_a_replaced_folder_is_there_after_a_kill_between_its_two_moves(tmp_path):
    for name in ("1", "fresh"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    os.rename(tmp_path / "1", tmp_path / ".1.before")  # killed here
    writing.restore_folder(tmp_path / "1")
    assert (tmp_path / "1" / "file").read_text() == "1"
    writing.replace_folder(tmp_path / "fresh", tmp_path / "1")
    assert (tmp_path / "1" / "file").read_text() == "fresh"
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_scratch_of_a_running_program_is_not_swept(tmp_path):
    with writing.scratch_folder(tmp_path) as first, writing.scratch_folder(tmp_path) as second:
        assert first.is_dir() and second.is_dir() and first != second
    (tmp_path / ".writing-1234").mkdir()  # of a process of that number, killed
    with writing.scratch_folder(tmp_path) as third:
        assert [path.name for path in tmp_path.iterdir()] == [third.name]


def test_a_second_run_is_kept_out_until_the_first_ends(tmp_path):
    entered, leave = threading.Event(), threading.Event()

    def first():
        with writing.alone(tmp_path):
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(60)
    with pytest.raises(InputError, match="another run is writing there"), writing.alone(tmp_path):
        pass
    leave.set()
    thread.join()
    with writing.alone(tmp_path):
        pass


def test_a_process_that_would_hang_at_its_end_ends_all_the_same():
    code = (
        "import threading; from dgn_tf import errors\n"
        "def main(_):\n"
        "    threading.Thread(target=threading.Event().wait).start()\n"
        "    print('written', flush=True)\n"
        "errors.run(main)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "DGN_LONGEST_EXIT_S": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1 and ended.stdout == "written\n"
