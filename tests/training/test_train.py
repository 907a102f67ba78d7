"""The trainer as one runs it: resume after a kill, refusals."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import h5py
import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.training.callbacks import progress_bar

ROOT = pathlib.Path(__file__).parents[2]
TINY = [
    "--image_channels=8",
    "--mesh_channels=8",
    "--features=4",
    "--batch_size=2",
    "--steps=6",
    "--steps_per_epoch=2",
    "--validation_frames=2",
    "--nosummaries",
    "--warmup_steps=1",
]


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "dgn_tf.train", *arguments],
        cwd=ROOT,
        env={**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def weights(folder):
    found = {}
    with h5py.File(folder / "weights.h5") as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def run(*arguments):
    """As a process of its own would, but for the processor time that starting one takes."""
    import tensorflow as tf
    from absl import flags

    from dgn_tf import train

    tf.keras.backend.clear_session()  # layers are named as in a process of their own
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["train", *arguments])
    train.main([])


class Killed(BaseException):
    """Stops a run where nothing is to catch it."""


def stopped(folder, monkeypatch):
    """Begins a run, which ends once its first checkpoint is written."""
    from dgn_tf.training.run_folder import Checkpoints

    save = Checkpoints.save

    def last(*arguments):
        save(*arguments)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", last)
        with pytest.raises(Killed):
            run(*TINY, f"--output_dir={folder}")


def killed(folder, _):
    """Begins a run, as a user does, and kills it once its first checkpoint is written."""
    process = start(*TINY, f"--output_dir={folder}")
    deadline = time.monotonic() + 900
    while not list(folder.glob("checkpoints/*-2.index")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("begin", [stopped, pytest.param(killed, marks=pytest.mark.long)])
def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(begin, tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    begin(parts, monkeypatch)
    run(*TINY, f"--output_dir={parts}")
    run(*TINY, f"--output_dir={whole}", "--keep_weights")
    got, wanted = weights(parts / "last"), weights(whole / "last")
    assert got.keys() == wanted.keys() and len(wanted) > 10
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-6, err_msg=name)
    steps = json.loads((parts / "last" / "config.json").read_text())["step"]
    assert steps == 6

    # Each epoch's weights stay where that is asked for.
    assert {place.name for place in (whole / "epochs").iterdir()} == {"2", "4", "6"}
    assert not (parts / "epochs").exists()
    kept, first = weights(whole / "epochs/6"), weights(whole / "epochs/2")
    assert all(np.array_equal(kept[name], wanted[name]) for name in wanted)
    assert any(not np.array_equal(first[name], wanted[name]) for name in wanted)

    # The same folder refuses other arithmetic, by the flag's name.
    with pytest.raises(InputError, match="--learning_rate was 0.002, is 0.5"):
        run(*TINY, f"--output_dir={parts}", "--learning_rate=0.5")


def test_averages_begin_at_the_initial_weights(tmp_path):
    """Not at the random ones before them: the first validation is of what was given."""
    from dgn_tf.config import Train
    from dgn_tf.model_folder import load_weights, save_model_folder
    from dgn_tf.network import DualGridNet
    from dgn_tf.training.building import build_model, build_optimizer, network_config
    from dgn_tf.training.callbacks import averaged_weights
    from tests.tiny_template import tiny_template

    settings = Train(image_channels=["8", "8"], mesh_channels=["8", "8"], features=4)
    given = DualGridNet(tiny_template(), network_config(settings))
    given(given.example_inputs())
    save_model_folder(given, tmp_path / "model")
    model = build_model(tiny_template(), settings)
    load_weights(model.network, tmp_path / "model")
    build_optimizer(model)
    with averaged_weights(model.network, model.optimizer):
        for got, wanted in zip(model.network.weights, given.weights, strict=True):
            np.testing.assert_array_equal(got.numpy(), wanted.numpy())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--output_dir is wanted"),
        (["--output_dir=x", "--data=records"], "data_prep.synthetic_to_tfrecord"),
        (["--output_dir=x", "--steps=100"], "--steps=100 is no multiple of --steps_per_epoch=250"),
        (["--output_dir=x", "--image_channels=8,a"], "--image_channels wants whole numbers"),
        (["--output_dir=x", "--template=nowhere.npz"], "nowhere.npz"),
        (["--output_dir=x", "--bfloat16", "--mixed_precision"], "one or the other"),
        (["--output_dir=x", "--init_weights=nowhere.h5"], "nowhere.h5"),
        (["--output_dir=x", "--real_records=a/train"], "nyu_to_tfrecord --nyu_dir=DIR .*=a writes"),
        (["--output_dir=x", "--real_records=a", "--real_keypoint_weight=0"], "above 0"),
        (["--output_dir=x", "--real_records=a", "--unlabelled_records=b"], "one or the other"),
        (["--output_dir=x", "--estimates_fraction=0.5"], "wants --unlabelled_records"),
        (
            [
                "--output_dir=x",
                "--estimates_fraction=0.5",
                "--unlabelled_records=a",
                "--data=records",
                "--synthetic_records=b",
            ],
            "wants --data=online: .* rendered already",
        ),
        (
            ["--output_dir=x", "--unlabelled_records=a/train"],
            "nyu_to_tfrecord .*--labels=none --center=localiser .*=a writes .*rig_to_tfrecord",
        ),
        (
            ["--output_dir=x", "--strategy=mirrored", "--unlabelled_records=a"],
            "--unlabelled_records wants --strategy=one",
        ),
        (
            ["--output_dir=x", "--strategy=mirrored", "--jit_compile"],
            "--jit_compile wants --strategy=one",
        ),
    ],
)
def test_bad_flags_get_one_line(arguments, message, monkeypatch, tmp_path, capsys):
    from absl import flags

    from dgn_tf import train

    monkeypatch.chdir(tmp_path)
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["train", *arguments])
    try:
        with pytest.raises(InputError, match=message):
            train.main([])
        assert not pathlib.Path("x").exists()  # a second try with the flag mended is not refused
    finally:
        for name in (
            "output_dir",
            "data",
            "image_channels",
            "template",
            "init_weights",
            "steps",
            "real_records",
            "real_keypoint_weight",
            "unlabelled_records",
            "estimates_fraction",
            "synthetic_records",
            "strategy",
            "jit_compile",
        ):
            flags.FLAGS[name].unparse()


def test_the_terminals_bar_counts_what_a_resumed_run_has_behind_it(capsys):
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(2,))])
    model.compile("sgd", "mse")
    frames = tf.ones([4, 2]), tf.ones([4, 1])
    bar = progress_bar(2)
    model.fit(*frames, batch_size=1, initial_epoch=2, epochs=4, callbacks=[bar], verbose=0)
    assert (bar.overall_progress_tqdm.n, bar.overall_progress_tqdm.total) == (4, 4)
    written = capsys.readouterr()
    assert "Epoch 3/4" in written.out and "Epoch 4/4" in written.out
    assert "end of life" not in written.err.lower()


def test_smoke_alone_learns_from_the_rig_that_ships_and_says_so(monkeypatch, tmp_path, capsys):
    """The conversion is run, the training is not: test_unlabelled.py has runs."""
    from absl import flags

    from dgn_tf import train

    given = []
    monkeypatch.setattr(train, "train", given.append)
    monkeypatch.setattr(sys, "argv", ["train", "--flagfile=configs/selfsup.flags"])
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["train", f"--output_dir={tmp_path / 'run'}", "--unlabelled_records=x", "--smoke"])
    train.main([])
    (settings,) = given
    assert settings.unlabelled_records == f"{tmp_path / 'run'}_sample_rig/train"
    assert "samples/rig is used" in capsys.readouterr().out
    description = json.loads(
        pathlib.Path(settings.unlabelled_records, "description.json").read_text()
    )
    assert description["frames"] == 6 and description["cameras"] == [1, 2, 3]


def test_a_run_without_a_folder_goes_to_that_of_its_flag_file(monkeypatch):
    from dgn_tf import config, train

    monkeypatch.setattr(sys, "argv", ["train", "--flagfile=configs/synthetic.flags", "--seed=3"])
    assert train.checked(config.Train()).output_dir == "runs/synthetic"
    monkeypatch.setattr(sys, "argv", ["train", "--seed=3"])
    with pytest.raises(InputError, match="--output_dir is wanted"):
        train.checked(config.Train())


def test_an_epoch_is_a_line_and_the_end_says_where_the_weights_are(capsys, tmp_path):
    from dgn_tf.training.callbacks import PrintEpochs

    lines = PrintEpochs(tmp_path, steps=12)
    lines.set_model(
        types.SimpleNamespace(optimizer=types.SimpleNamespace(iterations=tf.Variable(6)))
    )
    figures = {
        "loss": 1.25,
        "steps_per_second": 0.5,
        "val_keypoints_mm": 9.876,
        "val_energy": 27.74,
    }
    lines.on_epoch_end(0, {**figures, "correspondence": 0.7})
    lines.on_train_end()
    first, last = capsys.readouterr().out.splitlines()
    assert first == (
        "step 6 of 12: loss 1.250; validation: key points 9.88 mm, energy 27.74; 0.50 steps/s"
    )
    assert last == f"{tmp_path / 'best'}: the weights of the best validation"


def test_a_sample_that_cannot_be_converted_ends_smoke_in_one_line(monkeypatch, tmp_path):
    from dgn_tf import config, train

    (tmp_path / "rig").mkdir()  # without frames
    monkeypatch.setattr(train, "_SAMPLE_RIG", tmp_path / "rig")
    settings = config.Train(unlabelled_records="x", output_dir=str(tmp_path / "run"))
    with pytest.raises(InputError, match="samples/rig could not be converted"):
        train._sample_records(settings)
