"""Memory of processes: the readings' figures, and real processes of a small model."""

import json

import numpy as np
import pytest

from dgn_tf.template import load_template
from tests.exported_model import INTRINSICS, blob_frame, exported_model


@pytest.fixture(scope="module")
def frame():
    return {"depth": blob_frame()[np.newaxis], "intrinsics": INTRINSICS[np.newaxis]}


def test_growth_is_that_of_the_second_half():
    from benchmarks.memory import serving_figures

    steps = [["python and numpy", 30.0, 30.0], ["after 1 request", 650.0, 700.0]]
    steps += [[f"after {n} more requests", 500.0 + n, 700.0] for n in (10, 20, 30, 40, 50)]
    assert serving_figures(steps) == {
        "resident_mb": 550.0,
        "peak_mb": 700.0,
        "growth_mb": 20.0,
        "within_bar": True,
        "steps": steps,
    }
    steps.append(["after 60 more requests", 601.0, 701.0])
    assert not serving_figures(steps)["within_bar"]


def test_every_way_of_serving_is_a_process_that_is_read_step_by_step(frame):
    from benchmarks.memory import measure_serving

    figures = measure_serving(exported_model(), frame, requests=10)
    json.dumps(figures, allow_nan=False)
    assert figures.pop("bar_mb") == 600.0
    assert list(figures) == ["eager", "session"]
    for values in figures.values():
        names = [done for done, _, _ in values["steps"]]
        assert names[0] == "python and numpy" and names[-1] == "after 10 more requests"
        before = [name for name in names[1:] if not name.endswith("more requests")]
        assert before[-3:] == ["model loaded", "after 1 request", "free memory returned"]
        assert all(0 < now <= peak for _, now, peak in values["steps"])


def test_works_give_the_frames_that_they_count(tmp_path, monkeypatch):
    from benchmarks import machine, pipeline
    from dgn_tf.synthesis.settings import SynthesisConfig
    from tests.written_records import write_records

    folder = write_records(tmp_path, load_template(), count=4)
    settings = pipeline.Settings(load_template(), SynthesisConfig(size=16), 1, 2, str(folder))
    monkeypatch.setattr(machine, "SWEEP_BYTES", 2**20)
    monkeypatch.setattr(pipeline, "_BATCHES", 2)
    figures = pipeline.measure_pipeline(settings, rounds=3)
    json.dumps(figures, allow_nan=False)
    assert list(figures)[2:] == [
        "renderer",
        "whole_frames",
        "synthesis",
        "input_pipeline",
        "online_pipeline",
    ]
    for name, values in list(figures.items())[2:]:
        assert values["frames_per_s"] == pytest.approx(1e3 / values["ms_per_frame"]), name
        assert values["mbytes"] > 0 and values["share_of_bound"] > 0, name
    assert figures["renderer"]["mbytes"] == pytest.approx(640 * 480 * (8 + 4 + 16) / 1e6)
    assert figures["whole_frames"]["mbytes"] == pytest.approx(640 * 480 * 2 / 1e6)


def test_records_that_are_written_can_be_read(tmp_path, monkeypatch):
    from benchmarks import pipeline
    from dgn_tf.synthesis.settings import SynthesisConfig

    monkeypatch.setattr(pipeline, "RECORDS", 4)
    settings = pipeline.Settings(load_template(), SynthesisConfig(size=16), 1, 2, "")
    made = pipeline.write_records(settings, tmp_path)
    batch = pipeline.records(made).job()
    assert batch["depth"].shape == (2, 16, 16)
