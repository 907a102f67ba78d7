"""The module one runs: records in, figures, table and plot out; errors in one line."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from dgn_tf.errors import InputError
from dgn_tf.evaluation.report import KEYS
from tests.tiny_template import tiny_template
from tests.written_records import SIZE, write_records


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Records, and an untrained model of their template in both forms."""
    from dgn_tf.model_folder import save_model_folder
    from tests.exported_model import exported_model, network

    folder = tmp_path_factory.mktemp("evaluate")
    assert network().config.image_size == SIZE
    write_records(folder / "records", tiny_template())
    save_model_folder(network(), folder / "model")
    (folder / "model" / "1").symlink_to(exported_model() / "1")
    return folder


def evaluate(world, *arguments):
    command = [sys.executable, "-m", "dgn_tf.evaluate", *arguments]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        command, cwd=world, env=environment, capture_output=True, text=True, timeout=600
    )


def test_weights_and_saved_model_give_the_same_figures(world):
    from dgn_tf.evaluation.frame_errors import frame_errors
    from dgn_tf.evaluation.predictions import NetworkPredictions, SavedModelPredictions
    from dgn_tf.records.batches import Batching
    from dgn_tf.records.reader import record_dataset
    from tests.exported_model import network

    template = tiny_template()
    found = []
    for predict in (
        NetworkPredictions(network()),
        SavedModelPredictions(world / "model", template),
    ):
        batches = record_dataset(
            str(world / "records"),
            template,
            batching=Batching(batch_size=4, shuffle=False, repeat=False),
        )
        found.append(frame_errors(predict, batches, template))
    weights, saved = found
    assert set(weights) == set(saved) and len(weights["joints"]) == 6
    for name, values in weights.items():
        np.testing.assert_allclose(saved[name], values, atol=0.1)  # mm


def test_a_saved_model_that_gives_nan_is_refused(world):
    from dgn_tf.evaluation.predictions import SavedModelPredictions
    from dgn_tf.records.batches import Batching
    from dgn_tf.records.reader import record_dataset

    template = tiny_template()
    predict = SavedModelPredictions(world / "model", template)
    batches = record_dataset(
        str(world / "records"),
        template,
        batching=Batching(batch_size=2, shuffle=False, repeat=False),
    )
    batch, run = next(iter(batches)), predict._run
    predict(batch)
    predict._run = lambda **inputs: {
        **run(**inputs),
        "vertices": run(**inputs)["vertices"] * np.nan,
    }
    with pytest.raises(InputError, match="vertices have NaN"):
        predict(batch)


def test_command_writes_json_with_the_protocols_keys_table_and_plot(world):
    done = evaluate(
        world,
        "--records=records",
        "--saved_model=model",
        "--json=out/figures.json",
        "--plot=out/plot.png",
        "--limit=5",
        "--batch_size=2",
    )
    assert done.returncode == 0, done.stderr
    assert "14 key points, mean" in done.stdout
    figures = json.loads((world / "out" / "figures.json").read_text())
    assert set(figures) == {*KEYS, "hand"} and figures["hand"] == "right"
    assert figures["frames"] == 5 and figures["subject1"] is None
    assert len(figures["per_joint_mm"]) == 14
    assert list(figures["per_joint_mm"])[0] == "F1_KNU3_A"
    assert figures["surface_mm"] > 0 and figures["correspondence_mm"] > 0
    assert f"{figures['mean_mm']:.2f} mm" in done.stdout
    assert sorted(p.name for p in (world / "out").iterdir()) == ["figures.json", "plot.png"]


def test_evaluate_network_agrees_with_the_command_and_takes_a_dataset(world):
    from dgn_tf.evaluate import evaluate_network
    from dgn_tf.records.batches import Batching
    from dgn_tf.records.reader import record_dataset
    from tests.exported_model import network

    template = tiny_template()
    batches = record_dataset(
        str(world / "records"),
        template,
        batching=Batching(batch_size=3, shuffle=False, repeat=False),
    )
    figures = evaluate_network(network(), batches, template)
    assert tuple(figures) == KEYS
    assert figures["frames"] == 6 and figures["surface_mm"] is None
    json.dumps(figures, allow_nan=False)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--saved_model=DIR and --weights=DIR"),
        (["--weights=model", "--saved_model=model"], "one of --saved_model=DIR"),
        (["--weights=model"], "--records"),
        (["--weights=model", "--records=none"], "none"),
        (["--weights=none", "--records=records"], "none is no model"),
        (["--saved_model=none", "--records=records"], "--saved_model"),
        (["--weights=model", "--records=records", "--plot=a.txt"], "--plot=a.txt"),
        (["--weights=model", "--records=records", "--json=model"], "--json=model is a folder"),
        (["--weights=model", "--records=cut"], "truncated"),
        (["--weights=model", "--records=other"], "another template"),
    ],
)
def test_bad_input_is_one_error_that_names_its_flag_or_file(world, arguments, message, monkeypatch):
    from absl import flags

    from dgn_tf import evaluate as module
    from dgn_tf.errors import InputError

    prepare_bad_records(world)
    monkeypatch.chdir(world)
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["evaluate", *arguments])
    with pytest.raises(InputError) as caught:
        module.main([])
    assert message in str(caught.value)


def test_an_error_ends_the_command_with_code_1_one_line_and_no_file(world):
    done = evaluate(
        world, "--records=records", "--weights=model", "--json=never.json", "--plot=a.txt"
    )
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1 and "--plot=a.txt" in done.stderr
    assert done.stdout == "" and not (world / "never.json").exists()


def prepare_bad_records(world):
    if (world / "cut").exists():
        return
    write_records(world / "cut", tiny_template())
    file = next((world / "cut").glob("*.tfrecord"))
    file.write_bytes(file.read_bytes()[:-100])
    write_records(world / "other", tiny_template())
    description = json.loads((world / "other" / "description.json").read_text())
    description["mesh_hash"] = "0" * 64
    (world / "other" / "description.json").write_text(json.dumps(description))


def figures_of(world, *arguments):
    from tests.programs import run

    run("dgn_tf.evaluate", *arguments, f"--json={world / 'flags.json'}")
    return json.loads((world / "flags.json").read_text())


def scaled_template():
    """Another hand of the same key points' names."""
    template = tiny_template()
    return dataclasses.replace(
        template,
        vertices=(1.1 * template.vertices).astype(template.vertices.dtype),
        keypoints=(1.1 * template.keypoints).astype(template.keypoints.dtype),
    )


def test_records_of_another_hand_are_measured_with_its_template(world, monkeypatch):
    monkeypatch.chdir(world)
    other = scaled_template()
    other.save(world / "other.npz")
    write_records(world / "of_other", other)
    of_other = ["--weights=model", "--records=of_other"]
    with pytest.raises(InputError, match="another template"):
        figures_of(world, *of_other)
    found = figures_of(world, *of_other, "--records_template=other.npz")
    assert found["frames"] == 6 and found["mean_mm"] > 0


def test_a_users_template_is_fitted_to_the_estimates(world, monkeypatch):
    from dgn_tf.evaluation.predictions import NetworkPredictions
    from dgn_tf.hand_fit import user_hand

    monkeypatch.chdir(world)
    tiny_template().save(world / "user.npz")
    fitted = []

    class Fitted(NetworkPredictions):
        def __init__(self, network, user):
            super().__init__(network)
            fitted.append(user.hash)

    monkeypatch.setattr(user_hand, "UserPredictions", Fitted)
    found = figures_of(world, "--weights=model", "--records=records", "--user_template=user.npz")
    assert fitted == [tiny_template().hash] and found["frames"] == 6
    with pytest.raises(InputError, match="--user_template wants --weights"):
        figures_of(world, "--saved_model=model", "--records=records", "--user_template=user.npz")
