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


def test_an_ending_that_is_no_picture_is_refused_by_flag():
    with pytest.raises(InputError, match=r"--plot=x.txt.*\.png"):
        plots.check_plot_file("x.txt")
