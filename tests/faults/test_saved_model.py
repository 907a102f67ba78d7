"""Damaged bytes of a SavedModel: refused in one line, or the very same answer."""

import random
import shutil

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.predictor import HandMeshPredictor
from dgn_tf.serving import allow_list
from tests.exported_model import INTRINSICS, blob_frame, exported_model
from tests.faults.mutations import LONG, SMALL, mutated

GRAPH = ("saved_model.pb", "fingerprint.pb")
VARIABLES = ("variables/variables.index", "variables/variables.data-00000-of-00001")


@pytest.fixture(scope="module")
def wanted():
    return HandMeshPredictor(exported_model(), INTRINSICS)(blob_frame())


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(exported_model() / "1", tmp_path / "model")


def refused_or_the_same(folder, wanted) -> bool:
    """Whether the model is refused; gives the same hand where it is not."""
    try:
        found = HandMeshPredictor(folder, INTRINSICS)(blob_frame())
    except InputError as error:
        assert "\n" not in str(error)
        return True
    np.testing.assert_array_equal(found.vertices, wanted.vertices)
    np.testing.assert_array_equal(found.keypoints, wanted.keypoints)
    return False


@pytest.mark.parametrize("count", [SMALL // 3, pytest.param(LONG, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", GRAPH)
def test_a_damaged_model_is_refused_or_the_same(name, count, wanted, folder):
    file, rng = folder / name, random.Random(23)
    good = file.read_bytes()
    for _ in range(count):
        file.write_bytes(mutated(good, rng))
        refused_or_the_same(folder, wanted)


# A model whose variables are damaged takes seconds to be refused: all are restored alone, by the
# operation that loading runs, and some loaded as a whole.
@pytest.mark.parametrize("count", [SMALL, pytest.param(LONG, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", VARIABLES)
def test_damaged_variables_are_refused_or_the_same(name, count, wanted, folder):
    prefix = str(folder / "variables" / "variables")
    reader = tf.train.load_checkpoint(prefix)
    kinds = reader.get_variable_to_dtype_map()
    names = sorted(kinds)

    def restored():
        slices, types = [""] * len(names), [kinds[name] for name in names]
        values = tf.raw_ops.RestoreV2(
            prefix=prefix, tensor_names=names, shape_and_slices=slices, dtypes=types
        )
        return [value.numpy() for value in values]

    file, rng = folder / name, random.Random(23)
    good, values = file.read_bytes(), restored()
    for number in range(count):
        file.write_bytes(mutated(good, rng))
        try:
            found = restored()
        except tf.errors.OpError:
            refused = True
        else:
            refused = False
            for one, other in zip(found, values, strict=True):
                np.testing.assert_array_equal(one, other)
        if number % 10 == 0:
            assert refused_or_the_same(folder, wanted) or not refused


@pytest.mark.parametrize("count", [3 * SMALL, pytest.param(10 * LONG, marks=pytest.mark.long)])
def test_a_damaged_graph_without_fingerprint_is_parsed_without_a_crash(count, folder):
    (folder / "fingerprint.pb").unlink()
    file, rng = folder / "saved_model.pb", random.Random(29)
    good = file.read_bytes()
    for _ in range(count):
        file.write_bytes(mutated(good, rng))
        try:
            allow_list.read_saved_model(folder)
        except InputError as error:
            assert "\n" not in str(error)
