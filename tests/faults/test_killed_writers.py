"""`annotate` and `calibrate`, killed at any change of their folders, ended early, on a full disk.

The small form kills a fork of the process at each change in turn; what a network finds is found
once before, since a fork can't ask one. The long form kills the programs as a user runs them.
"""

import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import pytest
from absl import flags

from dgn_tf.errors import InputError
from tests.exported_model import network
from tests.view_records import write_view_records

STEPS = 4
CHANGES = ("replace", "rename", "unlink", "rmdir")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Unlabelled records in two shards, and an untrained model."""
    from dgn_tf.json_file import read_json, write_json
    from dgn_tf.model_folder import save_model_folder

    folder = tmp_path_factory.mktemp("killed")
    records = write_view_records(folder / "records" / "train", STEPS, 2)
    description = read_json(records / "description.json")
    description["keypoints"] = list(network().template.keypoint_names)
    write_json(description | {"labels": False}, records / "description.json")
    save_model_folder(network(), folder / "model")
    return folder


@pytest.fixture(autouse=True)
def inside(world, monkeypatch):
    monkeypatch.chdir(world)
    # An untrained network sees little of a hand.
    monkeypatch.setattr("dgn_tf.hand_fit.user_shape.MIN_FRAMES", 1)
    monkeypatch.setattr("dgn_tf.hand_fit.user_shape._MIN_PIXELS", 0)


def annotate(folder):
    return [
        "annotate",
        "--records=records/train",
        "--weights=model",
        f"--output_dir={folder}",
        "--passes=1",
    ]


def calibrate(folder):
    return [
        "calibrate",
        "--records=records",
        "--weights=model",
        f"--output={folder}/me.npz",
        "--steps=1",
        "--limit=2",
    ]


PROGRAMS = [annotate, calibrate]


@pytest.fixture(scope="module")
def found():
    """What the network has found, by function and what it was asked."""
    return {}


@pytest.fixture
def run(found, monkeypatch):
    """Runs a program in this process; what it finds with the network it finds only once."""
    import importlib

    from dgn_tf.annotation import records
    from dgn_tf.hand_fit import user_shape

    def once(module, name, key):
        function = getattr(module, name)
        if hasattr(function, "remembers"):
            return

        def remembered(*arguments):
            place = (name, key(arguments))
            if place not in found:
                result = function(*arguments)
                found[place] = list(result) if name == "_annotated" else result
            return found[place]

        remembered.remembers = True
        monkeypatch.setattr(module, name, remembered)

    once(records, "_annotated", lambda arguments: tuple(arguments[2]))
    once(user_shape, "fit_user", lambda _: 0)

    def run(arguments):
        module = importlib.import_module(f"dgn_tf.{arguments[0]}")
        for name in ("_network", "_annotator", "_of_records"):
            if hasattr(module, name):
                once(module, name, lambda _: 0)
        flags.FLAGS.unparse_flags()
        flags.FLAGS(arguments)
        module.main([])

    return run


def visible(folder) -> dict[str, bytes]:
    """Files that are no run's own scratch; of joint_data.mat what follows its date."""
    return {
        file.name: file.read_bytes()[128 if file.suffix == ".mat" else 0 :]
        for file in sorted(pathlib.Path(folder).iterdir())
        if not file.name.startswith(".")
    }


def killed_at(step, number, run) -> int:
    """Runs in a fork that gets the signal at its change number `step`; how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.alarm(60)  # a test that fails, rather than one that hangs
    left = [step]

    def deadly(change):
        def changed(*arguments, **named):
            if left[0] == 0:
                os.kill(os.getpid(), number)
            left[0] -= 1
            return change(*arguments, **named)

        return changed

    code = 1
    try:
        for name in CHANGES:
            setattr(os, name, deadly(getattr(os, name)))
        run()
        code = 0
    finally:
        os._exit(code)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("program", PROGRAMS)
def test_killed_at_any_change_nothing_is_half_written_and_the_next_run_goes_on(
    program, number, run, tmp_path
):
    whole = tmp_path / "whole"
    whole.mkdir()
    run(program(whole))
    wanted, ends = visible(whole), []
    for step in range(60):
        folder = tmp_path / str(step)
        folder.mkdir()
        end = killed_at(step, number, lambda folder=folder: run(program(folder)))
        left = visible(folder)
        left.pop("plan.json", None)
        assert end in (0, -number) and left.items() <= wanted.items(), (step, end, sorted(left))
        run(program(folder))
        assert visible(folder) == wanted
        assert not [path for path in folder.glob(".*") if path.is_dir()]  # swept
        if end == 0:
            break
        ends.append(len(left))
    # The later it is killed, the more there is; and it was killed before the first and the last.
    assert (
        end == 0
        and ends == sorted(ends)
        and ends[0] == 0
        and ends[-1]
        in (
            len(wanted),
            len(wanted) - 1,
        )
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_killed_over_earlier_results_these_are_there(program, run, tmp_path):
    run(program(tmp_path))
    wanted = visible(tmp_path)
    for step in range(60):
        end = killed_at(step, signal.SIGKILL, lambda: run(program(tmp_path)))
        assert visible(tmp_path) == wanted
        if end == 0:
            break
    assert end == 0


@pytest.mark.parametrize("program", PROGRAMS)
def test_on_a_full_disk_it_says_so_and_keeps_what_was_there(program, run, tmp_path):
    for name in ("earlier", "new"):
        (tmp_path / name).mkdir()
    run(program(tmp_path / "earlier"))
    wanted = visible(tmp_path / "earlier")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name in ("earlier", "new"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            with pytest.raises(InputError, match="can't be written") as error:
                run(program(tmp_path / name))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "\n" not in str(error.value)
    assert visible(tmp_path / "earlier") == wanted
    assert not visible(tmp_path / "new").keys() - {"plan.json"}
    run(program(tmp_path / "new"))
    assert visible(tmp_path / "new") == wanted


def started(arguments):
    """The program as a user starts it, here where the records are."""
    return subprocess.Popen(
        [sys.executable, "-m", f"dgn_tf.{arguments[0]}", *arguments[1:]],
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_annotate_as_a_user_runs_it_goes_on_where_it_was_killed(number, world, tmp_path):
    arguments = [*annotate(tmp_path / "killed"), "--refine_steps=20", "--batch_size=1"]
    process = started(arguments)
    end = time.monotonic() + 120
    while not list(tmp_path.glob("killed/views-00000*")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == -number
    first = next(tmp_path.glob("killed/views-00000*"))
    assert set(visible(tmp_path / "killed")) == {first.name, "plan.json"}
    kept = first.stat().st_mtime_ns
    for folder in ("killed", "whole"):
        arguments[3] = f"--output_dir={tmp_path / folder}"
        process = started(arguments)
        _, told = process.communicate()
        assert process.returncode == 0, told
    assert visible(tmp_path / "killed") == visible(tmp_path / "whole")
    assert first.stat().st_mtime_ns == kept


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_calibrate_as_a_user_runs_it_keeps_the_template_that_was_there(number, tmp_path):
    """An untrained network sees too little of a hand here for the program to come to its end."""
    (tmp_path / "me.npz").write_bytes(b"of an earlier run")
    process = started(calibrate(tmp_path))
    time.sleep(5)
    assert process.poll() is None
    process.send_signal(number)
    process.communicate()
    assert process.returncode == -number
    assert visible(tmp_path) == {"me.npz": b"of an earlier run"}
