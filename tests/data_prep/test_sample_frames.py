"""The frames that ship: what they claim to be, and how they come about."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
from PIL import Image

from dgn_tf.synthesis.settings import SynthesisConfig
from dgn_tf.synthesis.whole_frames import render_frame
from dgn_tf.template import load_template


def test_shipped_frames_show_the_hand_where_their_key_points_say(checkout):
    described = json.loads((checkout / "samples" / "intrinsics.json").read_text())
    assert described["depth_unit_mm"] == 1.0
    camera = described["intrinsics"]
    assert len(described["frames"]) == 6
    for name, truth in described["frames"].items():
        depth = np.array(Image.open(checkout / "samples" / f"{name}.png"))
        assert depth.shape == (480, 640) and depth.dtype == np.uint16
        points = np.array(list(truth["keypoints_mm"].values()))
        assert points.shape == (36, 3)
        column = np.rint(camera["fx"] * points[:, 0] / points[:, 2] + camera["cx"]).astype(int)
        row = np.rint(camera["fy"] * points[:, 1] / points[:, 2] + camera["cy"]).astype(int)
        assert (column >= 0).all() and (column < 640).all()
        assert (row >= 0).all() and (row < 480).all()
        seen = depth[row, column].astype(float)
        # Most points lie just behind the surface that the camera sees there.
        behind = points[:, 2] - seen
        assert np.mean((seen > 0) & (behind > -20) & (behind < 80)) > 0.6, name
        # The hand is the nearest thing.
        assert abs(np.percentile(depth[depth > 0], 0.5) - points[:, 2].min()) < 60


def test_frames_are_reproducible_and_true_to_their_vertices():
    template = load_template()
    config = SynthesisConfig.version_1()  # version 2 bends the mesh behind the wrist
    config = dataclasses.replace(config, sensor=config.sensor._replace(clean_share=1.0))
    first, again = (
        render_frame(template, config, 2, 3, 160, 120, (120, 120, 80, 60)) for _ in range(2)
    )
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    row, column = np.nonzero(first["face"] >= 0)
    assert len(row) > 50
    corners = template.faces[first["face"][row, column]]
    weights = first["barycentric"][row, column]
    weights = np.concatenate([1 - weights.sum(axis=1, keepdims=True), weights], axis=1)
    z = (first["vertices"][corners][..., 2] * weights).sum(axis=1)
    np.testing.assert_allclose(first["depth"][row, column], z, atol=0.51)


def test_the_seed_draws_the_frames_of_the_folder(tmp_path, monkeypatch):
    import data_prep.sample_frames as module
    from tests.programs import run

    monkeypatch.setattr(module, "SHOWN", ("flat",))
    monkeypatch.setattr(module, "is_clear", lambda *_: True)
    monkeypatch.setattr(module, "_SIZE", (160, 120))
    monkeypatch.setattr(module, "_INTRINSICS", (119.0, 119.0, 79.5, 59.5))
    found = {}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run("data_prep.sample_frames", f"--output_dir={tmp_path / name}", f"--seed={seed}")
        assert {file.name for file in (tmp_path / name).iterdir()} == {
            "00_flat.png",
            "intrinsics.json",
        }
        found[name] = (tmp_path / name / "00_flat.png").read_bytes()
    assert found["a"] == found["b"] != found["c"]


def test_the_shipped_rig_is_what_the_command_writes(checkout, tmp_path):
    command = [sys.executable, "-m", "data_prep.sample_frames", "--rig", f"--output_dir={tmp_path}"]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)
    shipped = checkout / "samples" / "rig"
    files = sorted(file.relative_to(shipped) for file in shipped.rglob("*") if file.is_file())
    assert len(files) == 19  # six steps of three cameras, and the calibration
    for file in files:
        if file.suffix == ".png":
            one, other = (np.array(Image.open(folder / file)) for folder in (shipped, tmp_path))
            np.testing.assert_array_equal(one, other)
    found, wanted = (
        json.loads((folder / "calibration.json").read_text()) for folder in (tmp_path, shipped)
    )
    assert found == wanted
