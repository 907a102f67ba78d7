import contextlib
import json
import shutil
import types

import numpy as np
import pytest
from absl import flags

from dgn_tf import model_folder
from dgn_tf.errors import InputError
from dgn_tf.localize.finders import BlobFinder
from dgn_tf.serving import saving
from tests.exported_model import exported_model, network


@pytest.fixture
def quick(monkeypatch):
    """Export without its slow part: the SavedModel is made once for all tests."""
    made = exported_model() / "1"
    monkeypatch.setattr(saving, "save_model", lambda _, folder, *_a: shutil.copytree(made, folder))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "best"
    model_folder.save_model_folder(network(), folder, flags="--seed=3\n")
    return folder


def run(weights, output, *arguments):
    from dgn_tf import export

    flags.FLAGS.unparse_flags()
    flags.FLAGS(["export", f"--weights={weights}", f"--output_dir={output}", *arguments])
    export.main([])


def test_writes_a_version_and_the_trainable_files_beside(quick, weights, tmp_path):
    run(weights, tmp_path / "dgn", "--version=3")
    names = {file.name for file in (tmp_path / "dgn").iterdir()}
    assert names == {"3", "weights.h5", "flags.txt", "config.json", "template.npz"}
    assert (tmp_path / "dgn" / "flags.txt").read_text() == "--seed=3\n"
    reloaded = model_folder.load_network(tmp_path / "dgn" / "3")
    for actual, expected in zip(reloaded.weights, network().weights, strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_a_version_is_replaced_only_when_asked(quick, weights, tmp_path):
    run(weights, tmp_path)
    mark = tmp_path / "1" / "mark"
    mark.touch()
    with pytest.raises(InputError, match="--overwrite"):
        run(weights, tmp_path)
    assert mark.exists()
    run(weights, tmp_path, "--overwrite")
    assert not mark.exists()


def test_exports_again_from_its_own_folder(quick, weights, tmp_path):
    run(weights, tmp_path)
    run(tmp_path, tmp_path, "--version=2")
    assert (tmp_path / "2" / "saved_model.pb").exists()


def test_a_failed_export_leaves_nothing(weights, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("disagrees")

    monkeypatch.setattr(saving, "_check_agreement", fail)
    with pytest.raises(RuntimeError, match="disagrees"):
        saving.save_model(network(), tmp_path / "1", BlobFinder())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("crops, agrees", [(1, True), (9, False)])
def test_an_export_may_differ_in_a_crop_but_not_in_all(tmp_path, monkeypatch, crops, agrees):
    """A pixel that rounding turns into the next moves one crop's mesh; a wrong graph moves all."""

    def exported(left, **inputs):
        outputs = dict(network()(inputs, training=False))
        moved = 30.0 * np.float32(np.arange(9) < crops)
        outputs["keypoints"] += moved[:, np.newaxis, np.newaxis]
        return outputs

    graph = types.SimpleNamespace(signatures={"crop": exported})
    monkeypatch.setattr(saving.tf.saved_model, "load", lambda _: graph)
    with contextlib.nullcontext() if agrees else pytest.raises(RuntimeError, match="keypoints"):
        saving._check_agreement(network(), tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="no model"):
        run(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_assets_name_the_hand_its_licence_and_its_parts():
    hand = json.loads((exported_model() / "1" / "assets" / "hand.json").read_text())
    template = network().template
    assert hand["keypoint_names"] == list(template.keypoint_names)
    assert hand["part_names"] == list(template.part_names)
    assert hand["template_licence"] == "CC0" and hand["template_hash"] == template.hash
    assert "CC0" in (exported_model() / "1" / "assets" / "LICENCE.txt").read_text()
    with np.load(exported_model() / "1" / "assets" / "mesh.npz") as mesh:
        np.testing.assert_array_equal(mesh["faces"], template.faces)


def test_weights_that_are_nan_are_refused_in_one_line_and_nothing_is_left(tmp_path):
    from tests.exported_model import new_network

    broken = new_network()
    values = broken.get_weights()
    values[3] = values[3] * np.nan
    broken.set_weights(values)
    with pytest.raises(InputError, match="hold NaN or infinite values"):
        saving.save_model(broken, tmp_path / "1", BlobFinder())
    assert not list(tmp_path.iterdir())


def test_the_localisers_own_folder_is_not_overwritten(weights, tmp_path):
    shutil.copytree(weights, tmp_path / "localiser")
    before = (tmp_path / "localiser" / "weights.h5").read_bytes()
    with pytest.raises(InputError, match=r"is an input \(--localiser"):
        run(weights, tmp_path / "localiser", f"--localiser={tmp_path}/localiser")
    assert (tmp_path / "localiser" / "weights.h5").read_bytes() == before


def test_int8_engines_are_calibrated_on_the_first_frames_of_the_records(
    quick, weights, tmp_path, monkeypatch
):
    """TensorRT itself is not here: what it would be given is."""
    import tensorflow as tf

    from dgn_tf.conversion import tensorrt
    from dgn_tf.records.batches import Batching
    from dgn_tf.records.reader import record_dataset
    from tests.tiny_template import tiny_template
    from tests.written_records import write_records

    records = write_records(tmp_path / "records", tiny_template(), count=20)
    given = []

    def convert(_, precision, batch_sizes, crops, folder):
        given.append((precision, batch_sizes, crops))
        return {"engines": {}}

    monkeypatch.setattr(tensorrt, "require_tensorrt", lambda: None)
    monkeypatch.setattr(tensorrt, "convert", convert)
    monkeypatch.setattr(tf.saved_model, "load", lambda _: None)
    engines = ["--tensorrt", "--precision=int8", "--batch_sizes=4"]
    calibration = [f"--calibration_records={records}", "--calibration_frames=12"]
    run(weights, tmp_path / "out", *engines, *calibration)
    ((precision, sizes, crops),) = given
    assert (precision, sizes) == ("int8", [4])
    batches = record_dataset(
        str(records), tiny_template(), batching=Batching(batch_size=12, shuffle=False, repeat=False)
    )
    for name, values in crops.items():
        np.testing.assert_array_equal(values, next(iter(batches))[name])
    assert (tmp_path / "out" / "1.tensorrt.json").is_file()
    with pytest.raises(InputError, match="hold 20 frames, 30 are wanted"):
        run(weights, tmp_path / "more", *engines, calibration[0], "--calibration_frames=30")
    with pytest.raises(InputError, match="--calibration_frames has no effect without --tensorrt"):
        run(weights, tmp_path / "never", "--calibration_frames=30")
