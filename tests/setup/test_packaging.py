"""setup.cfg, the lock file and the Makefile agree with each other and with what is here."""

import configparser
import importlib.metadata
import os
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dgn_tf import console

LOCKED_EXTRAS = tuple("camera live onnx openvino realsense serving table usd viz dev".split())


@pytest.fixture(scope="module")
def setup(checkout):
    parser = configparser.ConfigParser()
    parser.read(checkout / "setup.cfg")
    return parser


@pytest.fixture(scope="module")
def lock(checkout):
    """name -> version."""
    lines = (checkout / "requirements.lock").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def requirements(text):
    return [Requirement(line) for line in text.strip().splitlines()]


def test_every_line_of_the_lock_pins_one_version_and_names_no_place(checkout):
    for line in (checkout / "requirements.lock").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.+!]+", line), line


def test_lock_satisfies_the_ranges_of_setup_cfg(setup, lock):
    wanted = requirements(setup["options"]["install_requires"])
    for extra in LOCKED_EXTRAS:
        wanted += requirements(setup["options.extras_require"][extra])
    for requirement in wanted:
        version = lock.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not locked: make lock"
        assert requirement.specifier.contains(version), f"{requirement} against {version}"


def test_what_locked_packages_require_is_locked_too(lock):
    missing = []
    for name, version in lock.items():
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an environment of the user's own
        if distribution.version != version:
            continue
        for text in distribution.requires or []:
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            found = lock.get(canonicalize_name(requirement.name))
            if found is None or not requirement.specifier.contains(found, prereleases=True):
                missing.append(f"{name} wants {requirement}, locked: {found}")
    assert not missing


def test_extras_and_python_range_are_those_that_the_readme_names(setup, checkout):
    assert setup["options"]["python_requires"] == ">=3.11,<3.12"
    extras = set(setup["options.extras_require"])
    assert extras == {"gpu", "model", *LOCKED_EXTRAS}
    readme = (checkout / "README.md").read_text()
    assert all(f"`{extra}`" in readme for extra in extras)


def test_package_data_ships_the_template(setup, checkout):
    pattern = setup["options.package_data"]["dgn_tf.template"]
    assert [path.name for path in (checkout / "dgn_tf" / "template").glob(pattern)] == [
        "makehuman_right.npz"
    ]


def test_package_data_ships_the_schemas(setup, checkout):
    assert "schemas/*" in setup["options.package_data"]["dgn_tf"].split()
    assert len(list((checkout / "dgn_tf" / "schemas").glob("*.schema.json"))) == 2


def test_the_packages_own_configs_are_the_checkouts(checkout):
    assert (checkout / "dgn_tf" / "configs").resolve() == checkout / "configs"


def test_every_program_is_a_command_and_every_command_a_program(setup, checkout):
    lines = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    commands = dict(line.split(" = ") for line in lines)
    programs = {
        file.stem.replace("__main__", file.parent.name)
        for folder in ("dgn_tf", "data_prep")
        for file in (*(checkout / folder).glob("*.py"), *(checkout / folder).glob("*/__main__.py"))
        if 'if __name__ == "__main__"' in file.read_text()
    }
    assert commands == {
        f"dgn-{name.replace('_', '-')}": f"dgn_tf.console:{name}" for name in programs
    }
    for name in programs:
        assert hasattr(console, name)


def test_the_versions_agree(setup, checkout):
    version = setup["metadata"]["version"]
    model = configparser.ConfigParser()
    model.read(checkout / "packages" / "dgn_hand_model" / "setup.cfg")
    assert model["metadata"]["version"] == version
    assert f"version: {version}\n" in (checkout / "CITATION.cff").read_text()
    assert f"## {version}" in (checkout / "CHANGELOG.md").read_text()


def test_every_folder_of_modules_is_a_package(checkout):
    for top in ("dgn_tf", "data_prep"):
        for file in (checkout / top).rglob("*.py"):
            assert (file.parent / "__init__.py").is_file(), f"{file.parent} would not be installed"


def test_pyproject_holds_the_build_system_alone(checkout):
    tables = re.findall(r"^\[(.+)\]", (checkout / "pyproject.toml").read_text(), re.M)
    assert tables == ["build-system"]


def test_continuous_integration_runs_the_readmes_test_command(checkout):
    script = checkout / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
    plan = subprocess.run(
        ["make", "--dry-run", "test"], cwd=checkout, capture_output=True, text=True, check=True
    ).stdout
    assert "ruff check" in plan and "mypy" in plan and "pytest" in plan


def test_licence_files_are_there(checkout):
    licence = (checkout / "LICENSE").read_text()
    assert "Apache License" in licence and "END OF TERMS AND CONDITIONS" in licence
    assert "CC0" in (checkout / "NOTICE").read_text()


@pytest.mark.parametrize("name", ["predict", "train", "rig_to_tfrecord"])
def test_a_command_is_its_program(checkout, name):
    """Its help, which lists the flags of the program that runs, is that of `python -m`."""
    module = "data_prep" if name == "rig_to_tfrecord" else "dgn_tf"
    code = f"import sys; sys.argv = ['dgn', '--help']; from dgn_tf import console; console.{name}()"
    commands = ([sys.executable, "-c", code], [sys.executable, "-m", f"{module}.{name}", "--help"])
    helps = [subprocess.check_output(command, cwd=checkout, text=True) for command in commands]
    assert helps[0] == helps[1] and "--" in helps[0]
