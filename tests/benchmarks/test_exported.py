"""Exported forms and stages of a model small enough to be quick; no figure is judged here."""

import json

import numpy as np
import pytest

from dgn_tf.template import load_template
from tests.exported_model import SIZE, exported_model, network


@pytest.fixture(scope="module", autouse=True)
def small_machine():
    from benchmarks import machine

    patch = pytest.MonkeyPatch()
    patch.setattr(machine, "MATRIX_SIZE", 128)
    patch.setattr(machine, "SWEEP_BYTES", 2**20)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def inputs():
    from benchmarks.inputs import Inputs
    from dgn_tf.serving.saving import example_crops
    from tests.exported_model import INTRINSICS, blob_frame

    frames = {
        "depth": np.stack([blob_frame(), blob_frame(u=150)]),
        "intrinsics": np.tile(INTRINSICS, [2, 1]),
    }
    return Inputs(example_crops(SIZE, 2), frames)


@pytest.fixture(scope="module")
def stages(inputs):
    from benchmarks.stages import inference_stages
    from dgn_tf.localize.finders import BlobFinder

    return inference_stages(network(), BlobFinder(), **inputs.frames)


@pytest.fixture(scope="module")
def form():
    from benchmarks.forms import load_form

    return load_form(str(exported_model()))


def test_stages_do_together_what_the_whole_does(stages):
    for name in ("vertices_sampled", "transforms", "vertices", "keypoints"):
        stage = next(s for s in stages.values() if name in s.function.structured_outputs)
        found = stage.function(**stage.inputs)[name]
        whole = stages["whole"].function(**stages["whole"].inputs)[name]
        np.testing.assert_allclose(found, whole, atol=0.01)  # mm


def test_operations_of_the_stages_add_up_to_the_wholes(stages):
    flops = {name: stage.bound().flops for name, stage in stages.items()}
    whole = flops.pop("whole")
    assert sum(flops.values()) == pytest.approx(whole, rel=0.01)
    assert flops["image_network"] > 0 and flops["mesh_network"] > 0 and flops["sampling"] > 0


def test_figures_of_the_stages(inputs):
    from benchmarks.stages import measure_stages
    from dgn_tf.localize.finders import BlobFinder

    figures = measure_stages(network(), BlobFinder(), **inputs.frame_batch(1), rounds=3)
    json.dumps(figures, allow_nan=False)
    assert list(figures) == [
        "batch_size",
        "matrix_product_gflops_per_s",
        "memory_gbytes_per_s",
        "locate",
        "crop",
        "view",
        "image_network",
        "extension",
        "mesh_network",
        "sampling",
        "similarity_fit",
        "skinning",
        "confidence",
        "whole",
        "unaccounted",
    ]
    keys = ["ms", "share_of_whole", "gflop", "mbytes", "bound_ms", "bound_by", "share_of_bound"]
    assert all(list(figures[name]) == keys for name in list(figures)[3:-1])
    assert figures["crop"]["bound_by"] == "memory" and figures["crop"]["gflop"] == 0


def test_figures_of_the_forms_by_batch_size(form, inputs):
    from benchmarks.exported import measure_forms

    figures = measure_forms({"fp32": form}, inputs, (1, 2), rounds=3, frames=5)
    json.dumps(figures, allow_nan=False)
    assert set(figures["fp32"]) == {"megabytes", "crop", "frame"}
    for kind in ("crop", "frame"):
        one, two = figures["fp32"][kind]["batch_1"], figures["fp32"][kind]["batch_2"]
        assert one["ms_p99"] >= one["ms_p50"] > 0 and "ms_p50" not in two
        assert two["frames_per_s"] == pytest.approx(1e3 / two["ms_per_frame"])


def test_a_litert_file_is_timed_one_crop_at_a_time(inputs, tmp_path):
    from benchmarks.exported import compare, measure_forms
    from benchmarks.forms import load_form
    from dgn_tf.conversion.litert import convert

    (tmp_path / "1.tflite").write_bytes(convert(network(), "fp32"))
    lite = load_form(str(tmp_path / "1.tflite"))
    figures = measure_forms({"lite": lite}, inputs, (1, 2), rounds=3, frames=5)["lite"]
    assert set(figures) == {"megabytes", "crop"} and list(figures["crop"]) == ["batch_1"]
    against = compare(load_form(str(exported_model())), lite, inputs, (1, 2), rounds=3)
    assert list(against) == ["crop"] and list(against["crop"]) == ["batch_1"]
    assert against["crop"]["batch_1"]["vertices_apart_mm"] < 0.05


def test_a_model_compared_with_itself_is_no_different(form, inputs):
    from benchmarks.exported import compare

    figures = compare(form, form, inputs, (1, 2), rounds=3)
    assert list(figures) == ["crop", "frame"]
    for sizes in figures.values():
        for values in sizes.values():
            assert values["vertices_apart_mm"] == 0
            found = values["second_to_first"]
            assert found["low"] <= found["median"] <= found["high"]
            assert found["quarter"] <= found["median"] <= found["three_quarters"]


def test_inputs_are_what_the_signatures_take():
    from benchmarks.inputs import synthetic_inputs

    found = synthetic_inputs(load_template(), SIZE, 2)
    assert found.crops["depth"].shape == (2, SIZE, SIZE)
    assert found.frame_batch(1)["depth"].shape == (1, 480, 640)
    assert all(
        value.dtype == np.float32 for value in (*found.crops.values(), *found.frames.values())
    )
    assert (found.crops["depth"] > 0).any(axis=(1, 2)).all()
