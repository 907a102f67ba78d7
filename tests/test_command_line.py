"""Flags out of the settings' classes, and the help of every program."""

import dataclasses
import importlib.util
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from dgn_tf import command_line
from dgn_tf.config import Train, TrainLocaliser
from dgn_tf.setting import setting, settings_of, values_of

ROOT = pathlib.Path(__file__).parents[1]
PROGRAMS = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for folder in ("dgn_tf", "data_prep")
    for file in (ROOT / folder).glob("*.py")
    if "run(main)\n" in file.read_text()
)


@dataclasses.dataclass(frozen=True)
class Topic:
    """A topic"""

    share: float = setting(0.5, "A share, 0 to 1.", low=0, high=1)
    count: int | None = setting(None, "A number of things; empty: one.", low=1, may_change=True)
    kind: str = setting("a", "The kind.", choices=("a", "b"))
    names: list[str] | None = setting(None, "Names.")
    quick: bool = setting(False, "Be quick.", of_run=False)


@pytest.fixture
def parsed():
    command_line.define_flags(Topic)
    yield lambda *arguments: flags.FLAGS(["test", *arguments])
    flags.FLAGS.unparse_flags()
    for field, _ in settings_of(Topic):
        delattr(flags.FLAGS, field.name)


def test_flags_give_the_settings_of_their_class(parsed):
    parsed()
    assert command_line.from_flags(Topic) == Topic()
    parsed("--share=1", "--count=3", "--kind=b", "--names=x,y", "--quick")
    given = command_line.from_flags(Topic)
    assert given == Topic(1.0, 3, "b", ["x", "y"], True)
    text = command_line.as_flagfile(values_of(given))
    assert text == "--share=1.0\n--count=3\n--kind=b\n--names=x,y\n"
    parsed(*text.split(), "--quick")
    assert command_line.from_flags(Topic) == given


@pytest.mark.parametrize("wrong", ["--share=1.1", "--count=0", "--kind=c", "--quick=2"])
def test_values_outside_the_range_are_refused(parsed, wrong):
    with pytest.raises(flags.Error, match=wrong[2:].split("=")[0]):
        parsed(wrong)


@pytest.mark.parametrize("settings", [Train, TrainLocaliser])
def test_help_is_of_full_sentences(settings):
    for field, said in settings_of(settings):
        assert said.help[0].isupper() or said.help.startswith("weights.h5"), field.name
        assert said.help.endswith("."), field.name


@pytest.mark.parametrize("program", ["dgn_tf.predict", "dgn_tf.serving_client", "dgn_tf.train"])
def test_help_lists_every_flag_and_no_program_minds_a_reader_that_goes(program):
    """All programs have the same `errors.run`; these take flags of other modules besides."""
    command = f"{sys.executable} -X importtime -m {program} --help"
    done = subprocess.run(command.split(), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0
    assert "| tensorflow\n" not in done.stderr  # so that it is quick
    wanted = {
        "dgn_tf.predict": {"saved_model", "depth", "intrinsics", "hand", "output_dir"},
        "dgn_tf.serving_client": {"grpc", "depth", "intrinsics", "encoding", "format"},
        "dgn_tf.train": {field.name for field, _ in settings_of(Train)},
    }[program]
    for name in wanted:
        assert f"  --{name}: " in done.stdout or f"  --[no]{name}: " in done.stdout, name
    piped = f"set -o pipefail; {sys.executable} -m {program} --help | head -c 1"
    done = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_program_is_one_of_errors_run():
    """Which gives it its help and its one line about wrong input."""
    for file in [*ROOT.glob("dgn_tf/*.py"), *ROOT.glob("data_prep/*.py")]:
        text = file.read_text()
        if '__name__ == "__main__"' in text:
            assert "    run(main)\n" in text or "    errors.run(main)\n" in text, file
    assert {"dgn_tf.predict", "dgn_tf.train", "data_prep.build_template"} <= set(PROGRAMS)
    assert all(importlib.util.find_spec(program) for program in PROGRAMS)
