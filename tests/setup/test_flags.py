"""Every flag of every program is given, by name, in a test file that runs the program."""

import importlib
import pathlib
import re

import pytest
from absl import flags

from dgn_tf.config import Train
from dgn_tf.setting import settings_of

TESTS = pathlib.Path(__file__).parents[1]
PROGRAMS = sorted(
    ".".join(file.relative_to(TESTS.parent).with_suffix("").parts)
    for folder in ("dgn_tf", "data_prep")
    for pattern in ("*.py", "*/__main__.py")
    for file in (TESTS.parent / folder).glob(pattern)
    if re.search(r"^    (errors\.)?run\(main\)$", file.read_text(), re.M)
)
SHARED_FLAGS = "dgn_tf.frame_command"  # of the programs that turn frames into meshes


def flags_of(program: str) -> set[str]:
    """The names that --help of the program tells."""
    module = importlib.import_module(program)
    defined = flags.FLAGS.flags_by_module_dict()
    found = {flag.name for flag in defined[program]}
    if program == "dgn_tf.benchmark":  # has the trainer's as well, of what it trains
        found -= {field.name for field, _ in settings_of(Train)}
    if hasattr(module, SHARED_FLAGS.rpartition(".")[2]):
        found |= {flag.name for flag in defined[SHARED_FLAGS]}
    return found


def files_about(program: str) -> str:
    """Of the tests, the text of those that name the program or, of the trainer, its settings."""
    last = program.removesuffix(".__main__").rpartition(".")[2]
    naming = {"train": r"\bimport train\b|dgn_tf\.train\b|\bTrain\(|TINY|test_train"}
    pattern = re.compile(naming.get(last, rf"\b{last}\b"))
    texts = [file.read_text() for file in TESTS.rglob("*.py") if file != pathlib.Path(__file__)]
    return "\n".join(text for text in texts if pattern.search(text))


def test_there_are_programs():
    assert {"dgn_tf.train", "dgn_tf.predict", "data_prep.build_template"} <= set(PROGRAMS)
    assert len(PROGRAMS) >= 17


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_flag_is_given_in_some_test_of_its_program(program):
    text = files_about(program)
    given = r"--(no)?{0}\b"
    if program == "dgn_tf.train":  # its settings are also given as arguments, or in a loop of names
        given += r"|\b{0}=(?!=)|[\"']{0}[\"']"
    missing = [
        name for name in sorted(flags_of(program)) if not re.search(given.format(name), text)
    ]
    assert not missing, f"{program}: no test gives {', '.join(missing)}"
