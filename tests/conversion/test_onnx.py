"""ONNX files: what they hold, that they say what the SavedModel says, and what is refused."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from dgn_tf.errors import InputError
from dgn_tf.predictor import HandMeshPredictor
from dgn_tf.serving.runtimes import open_runtime
from tests import programs
from tests.exported_model import INTRINSICS, SIZE, blob_frame, exported_model, network

onnx = pytest.importorskip("onnx", reason="wants the extra `onnx`")
pytest.importorskip("tf2onnx", reason="wants the extra `onnx`")

from dgn_tf.conversion import onnx as files  # noqa: E402

MADE = ("crop", "centred")  # without a network that finds hands; of all four: the long test
CENTRE = (20.0, -20.0, 600.0)  # of `blob_frame`
RUNTIMES = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """A copy of the small exported model's version 1, two ONNX files beside it."""
    from dgn_tf.localize.finders import BlobFinder

    folder = tmp_path_factory.mktemp("onnx") / "1"
    shutil.copytree(exported_model() / "1", folder)
    for signature, content in files.convert(network(), BlobFinder(), folder).items():
        files.file_of(folder, signature).write_bytes(content)
    return folder


@pytest.fixture
def changed(version, tmp_path):
    """Copies the version with its files, changes the first file's model, and returns both."""

    def change(how, name="crop"):
        folder = tmp_path / "1"
        shutil.copytree(version, folder)
        for signature in MADE:
            file = files.file_of(version, signature)
            shutil.copy(file, files.file_of(folder, signature))
        file = files.file_of(folder, name)
        model = onnx.load(str(file))
        how(model)
        content = model.SerializeToString()
        file.write_bytes(content.replace(b"NO_TEXT", b"NO_TEX\xff"))
        return folder, file

    return change


def runtime(backend, folder):
    pytest.importorskip(backend, reason=f"wants {backend}")
    return open_runtime(backend, folder)


def requests(signature, batch):
    """Inputs of a signature: lumpy discs, every other hand a left one."""
    left = np.arange(batch) % 2 == 1
    if signature == "crop":
        from dgn_tf.serving.saving import example_crops

        return {**example_crops(SIZE, batch), "left": left}
    frames = np.stack([blob_frame(u=150 + 9 * i, z=600.0 + 13 * i) for i in range(batch)])
    inputs = {"depth": frames, "intrinsics": np.tile(INTRINSICS, [batch, 1]), "left": left}
    inputs["centre"] = np.float32([[20, -20, 610 + 13 * i] for i in range(batch)])
    return inputs


def test_a_file_holds_standard_operators_names_and_free_sizes(version):
    for signature in MADE:
        model = onnx.load(str(files.file_of(version, signature)))
        onnx.checker.check_model(model, full_check=True)
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
        assert {node.op_type for node in model.graph.node} <= files.OPERATORS
        assert not {"If", "Loop", "Scan"} & files.OPERATORS
        sizes = {
            value.name: [
                size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim
            ]
            for value in (*model.graph.input, *model.graph.output)
        }
        side = SIZE if signature == "crop" else None
        assert sizes["depth"] == ["batch", side or "height", side or "width"]
        assert all(size[0] == "batch" for size in sizes.values())
        assert {value.name for value in model.graph.input} == set(requests(signature, 1))


@pytest.mark.parametrize("backend", RUNTIMES)
@pytest.mark.parametrize("signature", MADE)
def test_a_runtime_says_what_the_saved_model_says(version, backend, signature):
    other, own = runtime(backend, version), open_runtime("tensorflow", version)
    for batch in (1, 8):
        inputs = requests(signature, batch)
        expected, actual = own.run(signature, inputs), other.run(signature, inputs)
        assert set(actual) == set(expected)
        for name, value in expected.items():
            assert actual[name].shape == value.shape and actual[name].dtype == value.dtype
            error = np.abs(actual[name].astype(np.float64) - value).max()
            assert error <= (1e-3 if name in ("vertices", "keypoints") else 5e-3), name


WRONG = {
    "depth": (0.0, np.nan, np.inf),
    "intrinsics": (np.nan, 0.0, -300.0, 1e9),
    "centre": (np.nan, np.inf, 1e9, 0.0),
    "cube": (np.nan, 0.0, 1e9, -1.0),
}


@pytest.mark.parametrize("backend", RUNTIMES)
@pytest.mark.parametrize("signature", MADE)
def test_what_is_wrong_is_not_found_and_leaves_the_others(version, backend, signature):
    """ONNX has no form for what TensorFlow's graph refuses in words."""
    model = runtime(backend, version)
    good = requests(signature, 2)
    whole = model.run(signature, good)
    assert whole["found"].all()
    for name in set(WRONG) & set(good):
        for value in WRONG[name]:
            inputs = {**good, name: good[name].copy()}
            inputs[name][0] = value
            outputs = model.run(signature, inputs)
            assert not outputs["found"][0] and outputs["found"][1]
            assert outputs["confidence"][0].max() == 0 and np.isfinite(outputs["vertices"]).all()
            np.testing.assert_allclose(outputs["vertices"][1], whole["vertices"][1], atol=1e-3)
    with pytest.raises(ValueError, match="."):
        model.run(signature, {**good, "depth": good["depth"][0]})


@pytest.mark.parametrize("backend", RUNTIMES)
def test_a_predictor_gives_the_same_hand_and_the_same_errors(version, backend):
    pytest.importorskip(backend, reason=f"wants {backend}")
    other, own = (
        HandMeshPredictor(version, INTRINSICS, backend=name) for name in (backend, "tensorflow")
    )
    frame = blob_frame()
    for hand in ("right", "left"):
        expected, actual = (one(frame, centre_mm=CENTRE, hand=hand) for one in (own, other))
        assert actual.hand == expected.hand
        np.testing.assert_allclose(actual.vertices, expected.vertices, atol=1e-3)
        np.testing.assert_allclose(actual.confidence, expected.confidence, atol=1e-4)
    for bad in (frame * np.nan, -frame, 0 * frame, frame[0], np.where(frame > 0, 9000, frame)):
        messages = []
        for predictor in (own, other):
            with pytest.raises(InputError) as told:
                predictor(bad, centre_mm=CENTRE)
            messages.append(str(told.value))
        assert messages[0] == messages[1]
    for predictor in (own, other):
        with pytest.raises(InputError, match="the model refused it"):
            predictor.run("crop", {**requests("crop", 1), "depth": np.zeros([1, 9, 9])})


def test_predict_runs_another_backend(version, tmp_path):
    pytest.importorskip("onnxruntime", reason="wants onnxruntime")
    np.save(tmp_path / "frame.npy", blob_frame())
    found = []
    for backend in ("tensorflow", "onnxruntime"):
        programs.run(
            "dgn_tf.predict",
            *(f"--saved_model={version}", f"--backend={backend}", f"--depth={tmp_path}/*.npy"),
            *("--intrinsics=300,300,160,120", "--center_mm=20,-20,600", "--pictures=none"),
            f"--output_dir={tmp_path / backend}",
        )
        found.append(json.loads((tmp_path / backend / "frame.json").read_text()))
    own, other = (np.array(list(one["keypoints_mm"].values())) for one in found)
    np.testing.assert_allclose(other, own, atol=2e-3)


def test_a_process_with_onnx_runtime_never_loads_tensorflow(version, checkout):
    pytest.importorskip("onnxruntime", reason="wants onnxruntime")
    code = (
        "import sys, dgn_tf, numpy as np; from dgn_tf.predictor import HandMeshPredictor;"
        f"p = HandMeshPredictor({str(version)!r}, (300, 300, 160, 120), backend='onnxruntime');"
        "y, x = np.mgrid[:240, :320]; d = (x - 170.0) ** 2 + (y - 110.0) ** 2 < 37 ** 2;"
        "hand = p(np.where(d, 600.0, 0.0), centre_mm=(20, -20, 600));"
        "print(hand.vertices.shape[1], 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["3", "False"], done.stderr


def _foreign(model):
    model.graph.node[0].op_type = "Loop"


def _no_text(model):
    model.graph.node[0].input[0] = "NO_TEXT"


def _domain(model):
    model.opset_import.add(domain="com.example", version=1)


def _outside(model):
    tensor = model.graph.initializer.add(name="x", data_type=1, dims=[4], data_location=1)
    tensor.external_data.add(key="location", value="/etc/passwd")


def _huge(model):
    model.graph.initializer.add(name="x", data_type=1, dims=[2**40, 2**20])


def _graph_within(model):
    model.graph.node[0].attribute.add(name="body", type=5).g.name = "body"


def _another(model):
    entry = next(one for one in model.metadata_props if one.key == files.SAVED_MODEL)
    entry.value = "0" * 64


@pytest.mark.parametrize(
    "how, message",
    [
        (_foreign, "operators that are not allowed (Loop)"),
        (_no_text, "names that are no text"),
        (_domain, "operators of another domain"),
        (_outside, "data outside of the file"),
        (_huge, "constants that are too large"),
        (_graph_within, "a graph within the operator"),
        (_another, "is of another model than"),
    ],
)
def test_a_file_that_is_not_the_models_own_is_refused(changed, how, message):
    pytest.importorskip("onnxruntime", reason="wants onnxruntime")
    folder, file = changed(how)
    with pytest.raises(InputError, match=re.escape(message)) as told:
        HandMeshPredictor(folder, backend="onnxruntime")
    assert str(file) in str(told.value) and "\n" not in str(told.value)


def test_the_hands_names_and_faces_belong_to_the_file(changed):
    """TensorFlow's model tells them itself; ONNX files have them in the version's assets alone."""
    pytest.importorskip("onnxruntime", reason="wants onnxruntime")
    folder, _ = changed(lambda _: None)
    HandMeshPredictor(folder, backend="onnxruntime")
    assets = folder / "assets" / "hand.json"
    assets.write_text(assets.read_text().replace("PALM_1", "PALM_9"))
    with pytest.raises(InputError, match="is of another model than"):
        HandMeshPredictor(folder, backend="onnxruntime")


def test_a_damaged_file_is_one_line_wherever_it_breaks(version, tmp_path):
    pytest.importorskip("onnxruntime", reason="wants onnxruntime")
    rng = np.random.default_rng(5)
    folder = tmp_path / "1"
    shutil.copytree(version, folder)
    file = files.file_of(folder, "crop")
    whole = np.frombuffer(files.file_of(version, "crop").read_bytes(), np.uint8)
    for number in range(12):
        content = whole.copy()
        if number % 2:
            content = content[: rng.integers(len(content))]
        else:
            content[rng.integers(len(content), size=40)] = rng.integers(256, size=40)
        file.write_bytes(content.tobytes())
        try:
            outputs = HandMeshPredictor(folder, backend="onnxruntime").run(
                "crop", requests("crop", 1)
            )
        except InputError as error:
            assert "\n" not in str(error)
        else:  # in the weights: it is run, and gives numbers
            assert outputs["vertices"].shape[2] == 3


def test_missing_files_packages_and_backends_are_told(version, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="wants onnxruntime")
    with pytest.raises(InputError, match=r"1\.crop\.onnx is missing; .*dgn_tf\.export --onnx"):
        HandMeshPredictor(exported_model(), backend="onnxruntime")
    with pytest.raises(InputError, match="backend 'torch' is not one of tensorflow, onnxruntime"):
        HandMeshPredictor(version, backend="torch")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"not installed: pip install 'dgn_tf\[onnx\]'"):
        HandMeshPredictor(version, backend="onnxruntime")
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(InputError, match=r"--onnx wants onnx and tf2onnx"):
        files.require_onnx()


@pytest.mark.long
def test_the_shipped_models_files_agree_on_synthetic_crops(checkout, tmp_path):
    """500 synthetic frames, one and eight at once: all but a few within a thousandth of a mm.

    The rest are crops of which a pixel's lookup, rounded to the nearest, falls to the other side;
    TensorFlow's own answers differ so between batches.
    """
    pytest.importorskip("onnxruntime", reason="wants onnxruntime")
    from benchmarks.backends import agreement
    from dgn_tf import model_folder
    from dgn_tf.localize.finders import load_finder

    folder = tmp_path / "1"
    shutil.copytree(checkout / "saved_models" / "dgn" / "1", folder)
    model = model_folder.load_network(checkout / "saved_models" / "dgn")
    for signature, content in files.convert(model, load_finder(), folder).items():
        files.file_of(folder, signature).write_bytes(content)
    own = open_runtime("tensorflow", folder)
    for backend in RUNTIMES:
        found = agreement(own, runtime(backend, folder), model, 500)
        for batch in ("1", "8"):
            assert found[batch]["within_0.001_mm"] >= 0.98 and found[batch]["median_mm"] < 5e-4
