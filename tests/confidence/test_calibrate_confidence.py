"""`python -m dgn_tf.calibrate_confidence`: what each of its flags does."""

import json

import numpy as np
import pytest

from tests.programs import run
from tests.tiny_template import tiny_template
from tests.written_records import write_records


def synthesized(template, count, seed):
    """As `synthesize_batch` gives crops of 32 pixels, of blobs."""
    from tests.exported_model import SIZE

    rng = np.random.default_rng(seed)
    centre = rng.normal(size=[count, 3]) * [20, 20, 40] + [0, 0, 600]
    depth = centre[:, 2, None, None] + rng.uniform(-60, 60, [count, SIZE, SIZE])
    depth[:, :, : SIZE // 3] = 0
    return {
        "depth": depth.astype(np.float32),
        "intrinsics": np.tile(np.float32([64, 64, 15.5, 15.5]), [count, 1]),
        "centre": centre.astype(np.float32),
        "cube": np.full(count, 300, np.float32),
        "vertices": (template.vertices + centre[:, None]).astype(np.float32),
        "keypoints": (template.keypoints + centre[:, None]).astype(np.float32),
    }


def test_frames_seed_sampler_records_and_outputs_are_those_of_the_flags(tmp_path, monkeypatch):
    from dgn_tf import model_folder
    from dgn_tf.records.reader import record_dataset
    from tests.exported_model import network

    model_folder.save_model_folder(network(), tmp_path / "model")
    records = write_records(tmp_path / "records", tiny_template(), count=5)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"size": 32, "salt": 77}))
    asked, read = [], []
    reader = record_dataset

    def synthesize(template, config, seed, start, count):
        asked.append((config.salt, seed, start, count))
        return synthesized(template, count, 100 * seed + start)

    def recorded(folder, *arguments, **named):
        read.append(folder)
        return reader(folder, *arguments, **named)

    monkeypatch.setattr("dgn_tf.synthesis.batches.synthesize_batch", synthesize)
    monkeypatch.setattr("dgn_tf.records.reader.record_dataset", recorded)
    run(
        "dgn_tf.calibrate_confidence",
        f"--weights={tmp_path / 'model'}",
        f"--config={config}",
        "--frames=40",
        "--seed=5",
        f"--records={records}",
        f"--json={tmp_path / 'figures.json'}",
        f"--plot={tmp_path / 'plot.png'}",
    )
    assert asked == [(77, seed, *part) for seed in (5, 6) for part in ((0, 32), (32, 8))]
    assert read == [str(records)]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures) == {"held out", "records"}
    assert figures["held out"]["vertices"]["auc"] is None  # nothing is right yet
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "model" / model_folder.CONFIDENCE).is_file()
    model_folder.load_network(tmp_path / "model")  # it is these weights'


def test_a_plot_of_another_kind_is_refused_before_the_work(tmp_path):
    from dgn_tf.errors import InputError

    with pytest.raises(InputError, match="--plot=a.gif"):
        run("dgn_tf.calibrate_confidence", f"--weights={tmp_path}", "--plot=a.gif")


def test_without_a_sampler_all_kinds_of_sensors_are_measured_each_alone(tmp_path, monkeypatch):
    from dgn_tf import model_folder
    from dgn_tf.synthesis.sensor import SENSORS
    from dgn_tf.synthesis.settings import SynthesisConfig
    from tests.exported_model import network

    model_folder.save_model_folder(network(), tmp_path / "model")
    asked = []

    def synthesize(template, config, seed, start, count):
        asked.append((config.sensor_shares, config.salt, seed))
        return synthesized(template, count, seed + len(asked))

    monkeypatch.setattr("dgn_tf.synthesis.batches.synthesize_batch", synthesize)
    run(
        "dgn_tf.calibrate_confidence",
        f"--weights={tmp_path / 'model'}",
        "--config=",
        "--frames=32",
        f"--json={tmp_path / 'figures.json'}",
        f"--plot={tmp_path / 'plot.svg'}",
    )
    drawn = SynthesisConfig().sensor_shares
    alone = [tuple(float(kind == other) for other in SENSORS) for kind in SENSORS]
    assert [shares for shares, _, _ in asked] == [drawn, drawn, *alone]
    assert {salt for _, salt, _ in asked}.isdisjoint({SynthesisConfig().salt})
    assert [seed for _, _, seed in asked] == [11] + [12] * (1 + len(SENSORS))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures) == {"held out", *SENSORS}
