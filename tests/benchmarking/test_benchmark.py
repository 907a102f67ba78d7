"""The benchmark's sections on a model small enough to be quick; no figure is judged here."""

import json

import pytest

from tests.exported_model import network
from tests.records import write_records
from tests.tiny_template import tiny_template


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    from dgn_tf.data import record_dataset

    folder = write_records(tmp_path_factory.mktemp("records"), tiny_template(), count=4)
    return next(iter(record_dataset(str(folder), tiny_template(), 4, shuffle=False)))


def training_model():
    import tensorflow as tf

    from dgn_tf.training.step import LossConfig, TrainingModel

    model = TrainingModel(network(), LossConfig())
    model.compile(tf.keras.optimizers.AdamW(1e-4), jit_compile=False)
    return model


def test_profile_accounts_for_the_whole_step(batch):
    from dgn_tf.benchmarking.training import profile_training

    profile = profile_training(training_model(), batch, rounds=3)
    assert list(profile) == [
        "view", "image_network", "extension", "mesh_network", "sampling", "similarity_fit",
        "skinning", "losses", "optimiser", "unaccounted", "whole_step",
    ]
    assert profile["image_network"]["gflops_per_s"] > 0
    assert all(stage["ms"] > 0 for name, stage in profile.items() if name != "unaccounted")
    json.dumps(profile, allow_nan=False)


def test_inference_has_a_figure_for_each_batch_size(batch, monkeypatch):
    from dgn_tf.benchmarking import training
    from dgn_tf.benchmarking.inference import measure_inference

    monkeypatch.setattr(training, "MATRIX_SIZE", 256)

    figures = measure_inference(network(), batch, rounds=3, sizes=(1, 4))
    assert list(figures) == ["batch_1", "batch_4"]
    for values in figures.values():
        assert values["ms_per_frame"] > 0 and values["share_of_matrix_rate"] > 0


def test_predictor_is_held_to_the_forward_pass_on_the_same_crop(tmp_path):
    from dgn_tf.benchmarking.predictor import measure_predictor
    from dgn_tf.model_folder import save_model_folder
    from tests.exported_model import INTRINSICS, blob_frame, exported_model

    (tmp_path / "1").symlink_to(exported_model() / "1")
    save_model_folder(network(), tmp_path)
    figures = measure_predictor(tmp_path, blob_frame(), INTRINSICS, frames=3)
    jobs = ("frame", "forward", "network", "locate")
    times = {f"{name}_ms_p{q}" for name in jobs for q in (50, 99)}
    assert set(figures) == times | {"frame_to_forward", "frame_to_network", "locate_to_forward"}
    assert all(value > 0 for value in figures.values())


@pytest.mark.parametrize(
    "arguments, message",
    [(["--what=speed"], "--what=speed"), (["--saved_model=none", "--what=predictor"], "none")],
)
def test_bad_flags_are_named(arguments, message, monkeypatch, tmp_path):
    from absl import flags

    from dgn_tf import benchmark
    from dgn_tf.errors import InputError

    monkeypatch.chdir(tmp_path)
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["benchmark", *arguments])
    with pytest.raises(InputError, match=message):
        benchmark.main([])


def test_figures_print_one_a_line_with_nested_ones_indented():
    from dgn_tf.benchmark import lines

    text = lines({"a": {"x": 1.23456, "stage": {"ms": 2.0, "rate": None}}, "b": 3})
    assert text == [
        "a", f"  {'x':32}{'1.235':>12}", f"  {'stage':16}ms 2, rate -", f"{'b':32}{'3':>12}"
    ]
