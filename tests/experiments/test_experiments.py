"""What the experiments on errors print and draw."""

import numpy as np
import pytest
from absl import flags

from dgn_tf.errors import InputError
from tests.tiny_template import tiny_template


def test_a_contact_sheet_has_three_frames_a_row_and_equal_meshes_look_equal():
    from experiments.error_by_condition import _FRAMES_A_ROW, _TILE, contact_sheet

    template = tiny_template()
    x, y, z = template.vertices.astype(np.float64).T
    true = np.tile(np.stack([x, 60 - z, 600 + y], axis=-1), [4, 1, 1])
    predicted = true + [[[0, 0, 0]], [[30, 0, 0]], [[0, 0, 0]], [[0, 0, 0]]]
    depth = np.full([4, 32, 32], 600.0)
    intrinsics = np.tile([64.0, 64.0, 15.5, 15.5], [4, 1])
    centre = np.tile([0.0, 0.0, 600.0], [4, 1])
    sheet = contact_sheet(list("abcd"), depth, intrinsics, centre, true, predicted, template.faces)
    assert sheet.shape[1] == 3 * _FRAMES_A_ROW * _TILE
    strip = sheet.shape[0] // 2 - _TILE
    first = sheet[strip : strip + _TILE].reshape(_TILE, 9, _TILE, 3)
    assert (first[:, 1] == first[:, 2]).all()
    assert (first[:, 4] != first[:, 5]).any()


def test_a_set_scores_by_its_joints_its_iou_or_its_passes():
    from experiments.real_frames import honesty, line, score_of

    lost = {"found": 0.0, "passes": 0.0, "iou": 0.0}
    good = {"found": 1.0, "passes": 1.0, "iou": 0.9, "depth_mm": 3.0, "confidence": 0.8}
    assert score_of("sr305", [good, lost]) == 0.5
    assert score_of("kinect2", [good, lost]) == 0.45
    near = {**good, "located": 1.0, "within": 0.0, "joints_mm": 15.0}
    far = {**near, "joints_mm": 60.0, "confidence": 0.3}
    nothing = {**lost, "located": 0.0, "within": 0.0}
    assert score_of("fist_five", [near, far, nothing]) == pytest.approx(0.5 / 3)
    assert score_of("d4xx", [near, far, nothing]) == pytest.approx((0.85 + 0.4) / 3)
    assert line("a", [near, nothing]) == "| a | 2 | 1 | 1 | 1 | 0.450 | 3.0 | 15.0 | 0.80 |"
    rows = [near, {**near, "joints_mm": 20.0, "confidence": 0.6}, far, nothing]
    assert honesty(rows)["rank_correlation"] == pytest.approx(-1.0)
    assert (honesty(rows)["far_but_sure"], honesty(rows)["labelled"]) == (0, 3)
    assert honesty([*rows, {**far, "confidence": 0.7}])["far_but_sure"] == 1


def test_real_frames_give_the_figures_of_the_frames_own_script(shared_data, tmp_path, checkout):
    import json
    import subprocess
    import sys

    frames, figures = shared_data / "frames", {}
    for name, command in (
        ("theirs", [str(frames / "measure.py")]),
        ("ours", ["-m", "experiments.real_frames", f"--data={frames}"]),
    ):
        subprocess.run(
            [sys.executable, *command, "--sets=sr305", f"--json={tmp_path / name}.json"],
            check=True,
            cwd=checkout,
            capture_output=True,
        )
        figures[name] = json.loads((tmp_path / f"{name}.json").read_text())
    ours = figures["ours"]["sets"]["sr305"]["frames"]
    for stem, theirs in figures["theirs"]["sr305"]["frames"].items():
        for key in ("found", "passes", "iou", "depth_mm", "confidence"):
            assert ours[stem][key] == pytest.approx(theirs[key], abs=2e-3), (stem, key)
    assert figures["ours"]["score"] == figures["theirs"]["score"]


@pytest.mark.parametrize(
    "module, arguments, message",
    [
        ("real_frames", ["--data=tests"], "--data=tests has no set at all"),
        ("error_by_condition", ["--worst=sheet.gif"], "--worst=sheet.gif: .* end in .png"),
        ("error_budget", ["--plot=budget.txt"], "--plot=budget.txt"),
        ("error_budget", ["--weights=none"], "none is no model"),
    ],
)
def test_bad_input_is_named(module, arguments, message, checkout, monkeypatch):
    import importlib

    main = importlib.import_module(f"experiments.{module}").main
    monkeypatch.chdir(checkout)
    flags.FLAGS.unparse_flags()
    flags.FLAGS([module, *arguments])
    with pytest.raises(InputError, match=message.replace("*.png", r"\*.png")):
        main([])
