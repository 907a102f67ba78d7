"""`hand.json` and `mesh.npz` of a model, damaged or made up: one line, never a crash."""

import io
import json
import random
import shutil
import zipfile

import numpy as np
import pytest

from dgn_tf.errors import InputError
from dgn_tf.hand_description import describe, read_description
from dgn_tf.predictor import HandMeshPredictor
from tests.exported_model import exported_model
from tests.faults.mutations import HOW_MANY, mutated


@pytest.fixture(scope="module")
def good():
    return read_description(exported_model() / "1")


def replaced(faces, place, value):
    changed = faces.astype(np.int64)
    changed[place] = value
    return changed


FACES = {
    "negative": lambda faces: replaced(faces, 0, -5),
    "far": lambda faces: replaced(faces, 5, 10**9),
    "beyond 32 bits": lambda faces: replaced(faces, (5, 1), 2**40 + 1),
    "float": lambda faces: faces.astype(float),
    "none": lambda faces: faces[:0],
    "two columns": lambda faces: faces[:, :2],
    "text": lambda _: np.array("a"),
    "a vertex is missing": lambda faces: faces[(faces != 7).all(axis=1)],
    "corner twice": lambda faces: replaced(faces, (3, 1), faces[3, 0]),
    "flat": np.ravel,
    "many": lambda _: np.full([500_000, 3], [0, 1, 2]),
}


@pytest.mark.parametrize("name", list(FACES))
def test_faces_that_are_none_are_refused(name, good):
    with pytest.raises(ValueError, match="face"):
        describe(good.info, FACES[name](good.faces["right"]))


NAN = float("nan")
CHANGED = [
    *(("keypoint_names", value) for value in (5, [], ["a"] * 36, [1, 2], [""], None, "abc")),
    *(("part_names", value) for value in ([], {}, ["a", "a"], [["a"]])),
    *(("cube_mm", value) for value in ("x", -1e9, NAN, 0, True, 1e300, None)),
    *(("grid_size", value) for value in (0, -1, 1.5, 10**9, "64", True, None)),
    *(("num_layers", value) for value in (0, 10**9, NAN)),
    *(("image_size", value) for value in (0, 10**9, "64")),
    *(("confidence", value) for value in (["a"], None, 3)),
]


@pytest.mark.parametrize(("key", "value"), CHANGED)
def test_names_and_sizes_that_are_none_are_refused(key, value, good):
    with pytest.raises(ValueError, match=key):
        describe({**good.info, key: value}, good.faces["right"])


@pytest.mark.parametrize("info", [None, [], "text", 5, {}])
def test_a_description_that_is_no_object_is_refused(info, good):
    with pytest.raises(ValueError, match="description"):
        describe(info, good.faces["right"])


def test_a_left_hand_is_the_right_ones_mirror(good):
    right, left = good.faces["right"], good.faces["left"]
    np.testing.assert_array_equal(describe(good.info, right, left).faces["left"], left)
    with pytest.raises(ValueError, match="mirrored"):
        describe(good.info, right, right)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(exported_model() / "1", folder)
    return folder


def bomb():
    """An archive of a few kB whose array says that it has 8 GB."""
    header, out = io.BytesIO(), io.BytesIO()
    shape = {"descr": "<i4", "fortran_order": False, "shape": (700_000_000, 3)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("faces.npy", header.getvalue() + bytes(2**22))
    return out.getvalue()


def inflating():
    """An archive of some 300 kB that inflates to more than a model may have."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("faces.npy", "w") as member:
            for _ in range(2**8):
                member.write(bytes(2**20))
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mesh.npz", bomb()),
        ("mesh.npz", inflating()),
        ("hand.json", b"[" * 200_000),
        ("hand.json", b'{"a":' * 200_000),
        ("hand.json", b'{"cube_mm": ' + b"9" * 10_000 + b"}"),
        ("hand.json", b"\xff\xfe\x00"),
    ],
    ids=["bomb", "inflating", "deep list", "deep object", "long number", "no text"],
)
def test_bombs_and_depths_are_refused_in_one_line(name, content, model):
    (model / "assets" / name).write_bytes(content)
    with pytest.raises(InputError, match="damaged") as error:
        HandMeshPredictor(model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("count", HOW_MANY)
@pytest.mark.parametrize("name", ["mesh.npz", "hand.json"])
def test_damaged_assets_are_refused_or_the_same(name, count, model, good):
    file, rng = model / "assets" / name, random.Random(17)
    content = file.read_bytes()
    for _ in range(count):
        file.write_bytes(mutated(content, rng))
        try:
            found = read_description(model)
        except InputError as error:
            assert "\n" not in str(error)
            continue
        np.testing.assert_array_equal(found.faces["right"], good.faces["right"])


def test_faces_that_are_cut_short_are_refused(model, good):
    np.savez(model / "assets" / "mesh.npz", faces=good.faces["right"][:-1])
    with pytest.raises(InputError, match="own description of its hand differ"):
        HandMeshPredictor(model)


def test_another_description_than_the_models_own_is_refused(model):
    file = model / "assets" / "hand.json"
    info = json.loads(file.read_text())
    info["keypoint_names"][0] = "another"
    file.write_text(json.dumps(info))
    with pytest.raises(InputError, match="own description of its hand differ"):
        HandMeshPredictor(model)
