"""The evaluation plot."""

import numpy as np
import pytest
from PIL import Image

from dgn_tf import plots
from dgn_tf.errors import InputError

ERRORS = {"model": np.abs(np.random.default_rng(5).normal(size=[30, 3])) * 10}


def test_writes_a_picture_and_leaves_nothing_beside(tmp_path):
    file = tmp_path / "new" / "plot.png"
    plots.plot_errors(ERRORS, ["a", "b", "c"], file)
    with Image.open(file) as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 20)) > 10
    assert [entry.name for entry in file.parent.iterdir()] == ["plot.png"]


def test_missing_truth_and_failures_don_t_stop_a_comparison(tmp_path):
    holes = ERRORS["model"].copy()
    holes[0, 1], holes[3], holes[4, 0] = np.nan, np.nan, np.inf
    labels = {"model": ERRORS["model"], "holes": holes, "nothing": np.full([2, 3], np.nan)}
    plots.plot_errors(labels, ["a", "b", "c"], tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert text.count("<svg") == 1 and "holes: inf mm" in text and "nothing: nan mm" in text


def test_an_ending_that_is_no_picture_is_refused_by_flag():
    with pytest.raises(InputError, match=r"--plot=x.txt.*\.png"):
        plots.check_plot_file("x.txt")
