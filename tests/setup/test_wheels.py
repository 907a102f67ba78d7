"""What the two wheels hold is enough: no checkout, no path to the model."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from dgn_tf import shipped
from dgn_tf.errors import InputError


def clean(environment_of: dict, **more) -> dict:
    kept = {name: value for name, value in environment_of.items() if name != "PYTHONPATH"}
    return {**kept, **more}


def build(source: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--disable-pip-version-check", f"--wheel-dir={folder}", str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(checkout, tmp_path_factory) -> list[pathlib.Path]:
    """Of the package and of the model, built from copies: pip leaves build/ beside the sources."""
    copy = tmp_path_factory.mktemp("sources") / "checkout"
    names = ("dgn_tf", "data_prep", "configs", "packages", "saved_models/dgn")
    for name in names:
        shutil.copytree(checkout / name, copy / name, symlinks=True)
    for name in ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(checkout / name, copy)
    sources = (copy, copy / "packages" / "dgn_hand_model")
    return [build(source, tmp_path_factory.mktemp("wheel")) for source in sources]


@pytest.fixture(scope="module")
def unpacked(wheels, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("site")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return folder


def run(unpacked, cwd, *arguments):
    environment = clean(os.environ, PYTHONPATH=str(unpacked))
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def sample(checkout, folder) -> pathlib.Path:
    frame = Image.open(checkout / "samples" / "00_flat.png")
    file = folder / "frame.png"
    Image.fromarray(np.asarray(frame)).save(file)
    return file


def test_prediction_needs_no_path_to_a_model(unpacked, checkout, tmp_path):
    sample(checkout, tmp_path)
    done = run(
        unpacked,
        tmp_path,
        "dgn_tf.predict",
        "--depth=frame.png",
        "--intrinsics=475,475,319.5,239.5",
        "--depth_unit=1",
        "--output_dir=out",
        "--pictures=none",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "frame.ply").is_file()


def test_flag_files_and_samplers_are_the_packages_own(unpacked, tmp_path):
    done = run(unpacked, tmp_path, "dgn_tf.train", "--flagfile=configs/selfsup.flags")
    assert done.returncode == 1 and "--unlabelled_records" in done.stderr, done.stderr
    code = "from dgn_tf.synthesis.settings import SynthesisConfig as C\n"
    code += "print(C.load('configs/synthetic_val_2.json').salt)"
    environment = clean(os.environ, PYTHONPATH=str(unpacked))
    found = subprocess.check_output(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True
    )
    from dgn_tf.synthesis.settings import SynthesisConfig

    own = SynthesisConfig.load("configs/synthetic_val_2.json").salt
    assert int(found.splitlines()[-1]) == own


def test_what_is_not_in_the_wheel_is_said_in_one_line(unpacked, tmp_path):
    done = run(unpacked, tmp_path, "dgn_tf.train", "--flagfile=configs/selfsup.flags", "--smoke")
    assert done.returncode == 1 and "comes with the repository alone" in done.stderr
    done = run(unpacked, tmp_path, "dgn_tf.benchmark", "--what=training")
    assert done.returncode == 1 and "folder benchmarks/ of the repository" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_a_model_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "_CHECKOUTS_MODEL", tmp_path / "none")
    with pytest.raises(InputError, match="pip install dgn_hand_model"):
        shipped.shipped_model()
    with pytest.raises(InputError, match="pip install dgn_hand_model"):
        shipped.shipped_file("saved_models/dgn/none/weights.h5")


def test_a_file_that_is_there_comes_before_the_packages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packaged = shipped.config_file("configs/selfsup.flags")
    assert packaged.endswith("dgn_tf/configs/selfsup.flags") and os.path.isfile(packaged)
    assert shipped.config_file("other/selfsup.flags") == "other/selfsup.flags"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "selfsup.flags").touch()
    assert shipped.config_file("configs/selfsup.flags") == "configs/selfsup.flags"


@pytest.mark.long
def test_a_clean_environment_predicts_with_the_command(wheels, checkout, tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    lock = checkout / "requirements.lock"
    subprocess.run([*install, "--no-deps", "-r", lock], check=True, env=clean(os.environ))
    subprocess.run([*install, "--no-deps", *wheels], check=True, env=clean(os.environ))
    sample(checkout, tmp_path)
    command = [python.with_name("dgn-predict"), "--depth=frame.png", "--depth_unit=1"]
    command += ["--intrinsics=475,475,319.5,239.5", "--output_dir=out"]
    subprocess.run(command, check=True, cwd=tmp_path, env=clean(os.environ))
    assert (tmp_path / "out" / "frame.ply").is_file()
