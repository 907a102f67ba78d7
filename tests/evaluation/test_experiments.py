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


def test_a_frame_passes_by_both_bars_and_one_without_a_hand_fails():
    from experiments.sr305_fit import report

    rows = [
        {"frame": "a", "iou": 0.9, "depth_mm": 3.0},
        {"frame": "b", "iou": 0.9, "depth_mm": 7.0},
        {"frame": "c", "iou": 0.8, "depth_mm": 3.0},
        {"frame": "d", "iou": 0.0, "depth_mm": None},
    ]
    text = report(rows, 0.85, 6.0)
    assert "| d | 0.000 | - | no hand found |" in text
    assert "1 of 4 frames have IoU >= 0.85 and depth <= 6 mm" in text


@pytest.mark.parametrize(
    "module, arguments, message",
    [
        ("sr305_fit", ["--frames=none/*.png"], "--frames=none/*.png: no such file"),
        ("sr305_fit", ["--frames=setup.cfg", "--intrinsics=1,2"], "--intrinsics=1,2 is neither"),
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
