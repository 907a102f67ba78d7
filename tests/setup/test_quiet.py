"""Programs say what is theirs to say: TensorFlow's greetings are not."""

import os
import subprocess
import sys

import pytest

from dgn_tf.quiet import quiet_programs

LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def test_a_program_that_imports_tensorflow_first_prints_its_one_line_alone(checkout, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != LEVEL}
    command = [sys.executable, "-m", "data_prep.nyu_to_tfrecord", "--nyu_dir=nowhere"]
    done = subprocess.run(
        [*command, f"--output_dir={tmp_path}"],
        env=environment,
        cwd=checkout,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("nyu_to_tfrecord.py: error: nowhere/train")
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("program", "before", "after"),
    [
        ("-m", None, "3"),
        ("/usr/bin/dgn-predict", None, "3"),
        ("-m", "0", "0"),  # who asks for more gets it
        ("/home/me/mine.py", None, None),  # a user's own program, which imports the package
        ("", None, None),
    ],
)
def test_only_programs_of_the_project_are_quiet(program, before, after, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.delenv(LEVEL, raising=False)
    if before is not None:
        monkeypatch.setenv(LEVEL, before)
    quiet_programs()
    assert os.environ.get(LEVEL) == after
