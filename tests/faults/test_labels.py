"""Damaged joint_data.mat: read as it was, or refused in one line."""

import random

import numpy as np
import pytest

from data_prep.nyu.labels import check_same_frames, read_labels
from dgn_tf.errors import InputError
from tests.data_prep.nyu_folder import points, write_labels
from tests.faults.mutations import HOW_MANY, mutated


@pytest.mark.parametrize("count", HOW_MANY)
def test_no_damage_of_bytes_is_read_as_other_labels(count, tmp_path):
    write_labels(tmp_path, points())
    file = tmp_path / "joint_data.mat"
    good, rng = file.read_bytes(), random.Random(3)
    wanted = read_labels(file, (1, 2, 3))
    refused = 0
    for _ in range(count):
        file.write_bytes(mutated(good, rng))
        try:
            found = read_labels(file, (1, 2, 3))
            check_same_frames(found)
        except InputError as error:
            refused += 1
            assert "joint_data.mat" in str(error)
            continue
        # What is left is damage of the header's text, and of what no label is read from.
        np.testing.assert_array_equal(found.xyz, wanted.xyz)
    assert refused > count / 2
