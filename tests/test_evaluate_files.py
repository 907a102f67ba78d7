"""`python -m dgn_tf.evaluate --predictions`: one file or several, figures, table, plot, errors."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from absl import flags

from dgn_tf import evaluate
from dgn_tf.errors import InputError
from dgn_tf.evaluation import nyu
from dgn_tf.evaluation.report import KEYS

FRAMES = 6
EXTRA = {"left_out", "keypoints_missing"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Labels, a prediction 3 mm off, one 6 mm off with a frame left out."""
    rng = np.random.default_rng(1)
    truth = rng.uniform(-60, 60, size=[FRAMES, 14, 3]) + [0, 0, 700]
    nyu.write_uvd(tmp_path / "labels.txt", nyu.uvd_from_xyz(truth))
    nyu.write_uvd(tmp_path / "near.txt.gz", nyu.uvd_from_xyz(truth + [2, 1, 2]))
    truth[2] = np.nan
    nyu.write_uvd(tmp_path / "far.txt", nyu.uvd_from_xyz(truth + [4, 2, 4]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["evaluate", *arguments])
    evaluate.main([])


def test_one_file_gives_the_protocols_figures_and_table(folder, capsys):
    run(
        "--predictions=near.txt.gz",
        "--labels=labels.txt",
        "--json=out/f.json",
        "--subject1_frames=2",
    )
    figures = json.loads((folder / "out" / "f.json").read_text())
    assert set(figures) == set(KEYS) | EXTRA
    assert figures["frames"] == FRAMES and figures["mean_mm"] == pytest.approx(3, abs=1e-5)
    assert figures["subject1"]["frames"] == 2 and figures["success_20"] == 100
    assert list(figures["per_joint_mm"])[-1] == "PALM_3"
    text = capsys.readouterr().out
    assert "3.00 mm" in text and "subject2" in text and "P_r" not in text


def test_several_files_give_one_table_one_plot_and_figures_by_name(folder, capsys):
    run(
        "--predictions=Near=near.txt.gz,far.txt",
        "--labels=labels.txt",
        "--json=c.json",
        "--plot=c.svg",
    )
    figures = json.loads((folder / "c.json").read_text())
    assert list(figures) == ["Near", "far"]
    assert all(set(one) == set(KEYS) | EXTRA for one in figures.values())
    assert figures["far"]["left_out"] == 1 and figures["far"]["frames"] == FRAMES - 1
    assert figures["far"]["mean_mm"] == pytest.approx(6, abs=1e-5)
    assert figures["Near"]["subject1"] is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("far: 1 frames have no prediction")
    assert [line.split()[0] for line in lines[1:]] == ["method", "Near", "far"]
    picture = (folder / "c.svg").read_text()
    assert "Near: 3.00 mm" in picture and "far: 6.00 mm" in picture


def test_published_files_are_split_by_subject_without_being_told(folder, shared_data, capsys):
    nyu_data = shared_data / "nyu"
    run(
        f"--predictions=A2J={nyu_data}/a2j.txt.gz",
        f"--labels={nyu_data}/test_uvd_14.txt.gz",
        "--json=a2j.json",
    )
    figures = json.loads((folder / "a2j.json").read_text())
    assert f"{figures['mean_mm']:.3f}" == "8.610"
    assert figures["subject1"]["frames"] == 2440 and figures["subject2"]["frames"] == 5812
    run(
        f"--predictions={nyu_data}/a2j.txt.gz",
        f"--labels={nyu_data}/test_uvd_14.txt.gz",
        "--json=a2j.json",
        "--subject1_frames=0",
    )
    assert json.loads((folder / "a2j.json").read_text())["subject1"] is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--predictions=near.txt.gz"], "--predictions wants --labels"),
        (["--labels=labels.txt"], "--labels wants --predictions"),
        (["--predictions=none.txt", "--labels=labels.txt"], "none.txt"),
        (["--predictions=near.txt.gz", "--labels=none.txt"], "none.txt"),
        (["--predictions=near.txt.gz", "--labels=labels.txt", "--weights=x"], "--weights and"),
        (["--predictions=near.txt.gz", "--labels=labels.txt", "--records=x"], "--records and"),
        (["--predictions=near.txt.gz", "--labels=labels.txt", "--intrinsics=1"], "--intrinsics=1"),
        (["--predictions=near.txt.gz", "--labels=labels.txt", "--plot=a.txt"], "--plot=a.txt"),
        (["--predictions=near.txt.gz", "--labels=labels.txt", "--json=."], "is a folder"),
    ],
)
def test_bad_input_is_one_error_that_names_its_flag_or_file(folder, arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)


def test_scoring_files_starts_no_tensorflow(folder):
    code = (
        "import sys, runpy; sys.argv = ['evaluate', '--predictions=near.txt.gz', "
        "'--labels=labels.txt']\n"
        "try: runpy.run_module('dgn_tf.evaluate', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    root = str(evaluate.__file__).rsplit("/dgn_tf", 1)[0]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.returncode == 0, done.stderr


def test_a_packed_file_that_inflates_without_end_is_refused(tmp_path):
    import gzip

    from dgn_tf.evaluation.nyu import read_uvd

    for name, content in (("line", b"1 " * 2**26), ("zeros", bytes(2**27))):
        file = tmp_path / f"{name}.txt.gz"
        file.write_bytes(gzip.compress(content, 1))
        with pytest.raises(InputError, match=f"{name}.txt.gz, line 1"):
            read_uvd(file)


def test_a_prediction_that_is_nan_is_told_where_the_mean_is_none(folder, capsys):
    lines = (folder / "far.txt").read_text().splitlines()
    words = next(line for line in lines if "nan" not in line).split()
    lines[-1] = " ".join([*words[:-1], "nan"])
    (folder / "torn.txt").write_text("\n".join(lines) + "\n")
    told = "torn: 1 key points of 1 frames are predicted as nan or infinite: a mean over them is no"
    run("--predictions=torn.txt", "--labels=labels.txt")
    assert told in capsys.readouterr().out
    run("--predictions=near.txt.gz,torn.txt", "--labels=labels.txt")
    said = capsys.readouterr().out
    assert told in said and "near: " not in said
