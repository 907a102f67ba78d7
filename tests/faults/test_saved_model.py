"""Damaged bytes of a SavedModel: refused in one line, or the very same answer."""

import random
import shutil

import numpy as np
import pytest

from dgn_tf.errors import InputError
from dgn_tf.predictor import HandMeshPredictor
from dgn_tf.serving import allow_list
from tests.exported_model import INTRINSICS, blob_frame, exported_model
from tests.faults.mutations import LONG, SMALL, mutated

FILES = (
    "saved_model.pb",
    "fingerprint.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
)


@pytest.fixture(scope="module")
def wanted():
    return HandMeshPredictor(exported_model(), INTRINSICS)(blob_frame())


# Loading takes a second where damage is not found before it.
@pytest.mark.parametrize("count", [SMALL // 3, pytest.param(LONG, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_model_is_refused_or_the_same(name, count, wanted, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(exported_model() / "1", folder)
    file, rng = folder / name, random.Random(23)
    good = file.read_bytes()
    for _ in range(count):
        file.write_bytes(mutated(good, rng))
        try:
            found = HandMeshPredictor(folder, INTRINSICS)(blob_frame())
        except InputError as error:
            assert "\n" not in str(error)
            continue
        np.testing.assert_array_equal(found.vertices, wanted.vertices)
        np.testing.assert_array_equal(found.keypoints, wanted.keypoints)


@pytest.mark.parametrize("count", [3 * SMALL, pytest.param(10 * LONG, marks=pytest.mark.long)])
def test_a_damaged_graph_without_fingerprint_is_parsed_without_a_crash(count, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(exported_model() / "1", folder)
    (folder / "fingerprint.pb").unlink()
    file, rng = folder / "saved_model.pb", random.Random(29)
    good = file.read_bytes()
    for _ in range(count):
        file.write_bytes(mutated(good, rng))
        try:
            allow_list.read_saved_model(folder)
        except InputError as error:
            assert "\n" not in str(error)
