"""The commands of docs/cameras.md run as they stand, on made frames and a small model."""

import re
import shlex

import numpy as np
import pytest
from PIL import Image

from dgn_tf.cameras.known import SENSORS
from tests import programs
from tests.exported_model import blob_frame, exported_model

FOCAL, PRINCIPAL = 476.0, (314.0, 243.0)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    yaml = pytest.importorskip("yaml")
    pytest.importorskip("cv2")
    (tmp_path / "saved_models").mkdir()
    (tmp_path / "saved_models" / "dgn").symlink_to(exported_model())
    for folder in ("frames", "arrays"):
        (tmp_path / folder).mkdir()
    for number in range(2):
        frame = blob_frame(640, 480, 300 + 10 * number, 240, focal=FOCAL)
        Image.fromarray((frame * 8).astype(np.uint16)).save(tmp_path / f"frames/{number}.png")
        np.save(tmp_path / f"arrays/{number}m.npy", frame / 1000)
    matrix = [FOCAL, 0.0, PRINCIPAL[0], 0.0, FOCAL, PRINCIPAL[1], 0.0, 0.0, 1.0]
    info = {"image_width": 640, "image_height": 480, "camera_matrix": {"data": matrix}}
    lens = {"distortion_model": "plumb_bob", "distortion_coefficients": {"data": [0.1, 0, 0, 0, 0]}}
    (tmp_path / "camera_info.yaml").write_text(yaml.safe_dump({**info, **lens}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_page_writes_meshes(checkout, workplace, capsys):
    page = (checkout / "docs" / "cameras.md").read_text()
    page = page.replace("\\\n", "")
    commands = [shlex.split(line) for line in re.findall(r"^    (python -m .*)$", page, re.M)]
    commands = [words for words in commands if words[2].startswith("dgn_tf.")]
    assert len(commands) == 5
    for number, (_, _, program, *arguments) in enumerate(commands):
        later = [f"--output_dir=out{number}", "--pictures=none"]
        if "--min_confidence=0.3" in arguments:  # the made model is sure of nothing
            later.append("--min_confidence=0")
        programs.run(program, *arguments, *later)
        meshes = sorted(file.name for file in (workplace / f"out{number}").glob("*.ply"))
        arrays = ["0m.ply", "1m.ply"] if "arrays" in str(arguments) else []
        assert meshes == sorted(["0.ply", "1.ply", *arrays]), capsys.readouterr().out
    assert (workplace / "hands.csv").read_text().count("\n") == 3


def test_the_page_names_every_sensor(checkout):
    page = (checkout / "docs" / "cameras.md").read_text()
    assert all(f"`{name}`" in page for name in SENSORS)
