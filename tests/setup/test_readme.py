"""The pages' commands name modules, flags and files that exist."""

import ast
import importlib.util
import json
import re
import shlex
import subprocess
import sys

import pytest
from PIL import Image

from dgn_tf import config
from dgn_tf.setting import settings_of

PAGES = (
    *("README.md", "BUILD.md", "CONTRIBUTING.md", "serving/README.md"),
    "serving/triton/README.md",
    *("docs/training.md", "docs/evaluation.md", "docs/serving.md", "docs/hands.md"),
    *("docs/design.md", "docs/benchmarks.md", "docs/live.md", "docs/parameters.md"),
)
SHARED_FLAGS = "dgn_tf.frame_command"  # of the programs that turn frames into meshes
ABSL = {"flagfile", "help", "helpfull"}
# Made by a command above the one that names it, or by the reader; or no file.
MADE = ("http://", "runs/", "data/", "rig/", "NYU/", "demo_output", "saved_models/mine")
RUNNABLE = (
    "dgn_tf.train",
    "dgn_tf.evaluate",
    "dgn_tf.predict",
    "dgn_tf.export",
    "dgn_tf.benchmark",
    "dgn_tf.animate",
    "dgn_tf.annotate",
    "dgn_tf.serving_client",
    "dgn_tf.live",
)
WRITERS = (
    "data_prep.synthetic_to_tfrecord",
    "data_prep.nyu_to_tfrecord",
    "data_prep.rig_to_tfrecord",
    "data_prep.build_template",
    "data_prep.fit_template",
)


def commands(checkout):
    """(page, arguments) of each `python -m` of the project in the pages' blocks of commands."""
    found = []
    for page in PAGES:
        for line in (checkout / page).read_text().replace("\\\n", "").splitlines():
            if line.startswith("    python -m ") and "python -m pip" not in line:
                found.append((page, shlex.split(line)[2:]))
    return found


def flags_of(checkout, module):
    """Names that a module (or that of shared flags, where it is imported) defines as flags."""
    source = (checkout / module.replace(".", "/")).with_suffix(".py")
    if not source.is_file():
        source = source.with_suffix("") / "__main__.py"
    names = set()
    text = source.read_text()
    shared = SHARED_FLAGS.rpartition(".")[2]
    if re.search(rf"^from dgn_tf import .*\b{shared}\b", text, re.M):
        names = flags_of(checkout, SHARED_FLAGS)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "").startswith("DEFINE_"):
            if isinstance(node.args[0], ast.Constant):  # others are defined in a loop
                names.add(node.args[0].value)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "define_flags":
            names |= {field.name for field, _ in settings_of(getattr(config, node.args[0].id))}
    return names


def test_readme_begins_with_the_two_commands_and_then_a_picture(checkout):
    lines = (checkout / "README.md").read_text().splitlines()
    blocks = [line.split("#")[0].strip() for line in lines if line.startswith("    ")]
    assert blocks[:2] == ["make demo", "make test"]
    assert lines.index(next(line for line in lines if line.startswith("!["))) < 12


def test_there_are_commands_to_check(checkout):
    modules = {arguments[0] for _, arguments in commands(checkout)}
    assert {*RUNNABLE, *WRITERS} <= modules


def test_flags_in_the_pages_are_defined_by_their_modules(checkout):
    for page, (module, *arguments) in commands(checkout):
        known = flags_of(checkout, module) | ABSL
        for argument in arguments:
            name = argument.removeprefix("--").split("=")[0]
            assert name in known, f"{page}: {module} has no flag {argument}"


def test_flags_mentioned_in_the_readmes_text_exist_somewhere(checkout):
    known = set(ABSL) | {"no-deps", "logdir"}
    for module in (*RUNNABLE, *WRITERS):
        known |= flags_of(checkout, module)
    for page in PAGES:
        for name in re.findall(r"`--([a-z][\w-]*)", (checkout / page).read_text()):
            assert {name, name.removeprefix("no")} & known, f"{page}: --{name}"


def test_files_in_the_pages_commands_exist_or_are_made(checkout):
    for page, (_, *arguments) in commands(checkout):
        for argument in arguments:
            values = argument.partition("=")[2].split(",") if "/" in argument else []
            for value in (value.rpartition("=")[2] for value in values):  # NAME=FILE,...
                if "/" in value and not value.startswith(MADE):
                    assert list(checkout.glob(value)), f"{page}: {value}"


def test_the_site_has_every_page_and_program(checkout):
    spec = importlib.util.spec_from_file_location("site_of_pages", checkout / "docs" / "site.py")
    site = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(site)
    named = re.findall(r": ([\w/]+\.md)$", (checkout / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = {str(page.relative_to(checkout)) for page in site.pages()}
    assert set(named) - pages == {"docs/reference.md"}  # made of the code
    assert pages >= {*PAGES, *(f"docs/{page.name}" for page in checkout.glob("docs/*.md"))}
    for _, module in site.programs():
        assert importlib.util.find_spec(module) is not None, module


def test_no_line_of_a_page_is_longer_than_120_characters(checkout):
    for page in (*PAGES, "SECURITY.md", "CHANGELOG.md", *checkout.glob("docs/*.md")):
        for number, line in enumerate((checkout / page).read_text().splitlines(), 1):
            assert len(line) <= 120, f"{page}:{number}"


def test_links_lead_to_files(checkout):
    for page in PAGES:
        for target in re.findall(r"\]\(([^)]+)\)", (checkout / page).read_text()):
            assert (checkout / page).parent.joinpath(target).exists(), f"{page}: {target}"


def test_the_tests_that_security_names_are_there(checkout):
    """By surface: each item of its list names the files that hold what it says."""
    text = (checkout / "SECURITY.md").read_text().partition("## What was tried")[2]
    rows = text.split("\n- ")[1:]
    assert len(rows) > 12
    for row in rows:
        names = re.findall(r"`([\w/]*test_\w+\.py)`", row)
        assert names, f"no test is named: {row}"
        for name in names:
            places = ("tests/faults", "tests/serving", "tests", ".")
            assert any((checkout / place / name).is_file() for place in places), name


def test_demo_uses_the_sample_frames_own_camera(checkout):
    camera = json.loads((checkout / "samples" / "intrinsics.json").read_text())
    values = ",".join(f"{camera['intrinsics'][name]:g}" for name in ("fx", "fy", "cx", "cy"))
    for page in ("Makefile", "README.md"):
        assert f"--intrinsics={values} " in (checkout / page).read_text(), page
    frames = sorted((checkout / "samples").glob("*.png"))
    assert len(frames) >= 4
    for frame in frames:
        with Image.open(frame) as picture:
            assert picture.size == (camera["width"], camera["height"])
            assert picture.mode.startswith("I"), "16-bit grey"


@pytest.mark.parametrize("module", RUNNABLE)
def test_help_does_not_wait_for_tensorflow(module):
    code = (
        f"import sys, {module}\n"
        "slow = {'tensorflow', 'matplotlib', 'numba'} & set(sys.modules)\n"
        "sys.exit(f'imports {slow} at once' if slow else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
