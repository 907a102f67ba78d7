"""Damaged and made-up hand templates: refused in one line, or the very same template."""

import dataclasses
import io
import random
import zipfile

import numpy as np
import pytest

from dgn_tf.errors import InputError
from dgn_tf.npz_file import read_arrays
from dgn_tf.template import HandTemplate
from tests.faults.mutations import HOW_MANY, mutated
from tests.tiny_template import tiny_template


@pytest.mark.parametrize("count", HOW_MANY)
def test_a_damaged_template_is_refused_or_the_same(count):
    template, rng = tiny_template(), random.Random(31)
    good = template.to_bytes()
    for _ in range(2 * count):
        try:
            found = HandTemplate.from_bytes(mutated(good, rng), where="me.npz")
        except InputError as error:
            assert str(error).startswith("me.npz") and "\n" not in str(error)
            continue
        assert found.hash == template.hash


@pytest.mark.parametrize("count", HOW_MANY)
def test_a_template_with_changed_arrays_never_crashes(count):
    """Past the check sums: each array in turn damaged, or of another shape or type."""
    rng = random.Random(37)
    good = read_arrays(io.BytesIO(tiny_template().to_bytes()))
    for _ in range(2 * count):
        arrays = dict(good)
        name = rng.choice(sorted(arrays))
        arrays[name] = _changed(arrays[name], rng)
        out = io.BytesIO()
        np.savez(out, **arrays)
        try:
            HandTemplate.from_bytes(out.getvalue(), where="me.npz")
        except InputError as error:
            assert str(error).startswith("me.npz") and "\n" not in str(error)


def _changed(array, rng):
    kind = rng.choice(["scale", "shape", "cut", "nan", "type", "add", "empty"])
    number = array.dtype.kind in "iufb"
    if kind == "scale" and number:
        return (array * rng.choice([0, -1, 10**6])).astype(array.dtype)
    if kind == "add" and number:
        return (array + rng.choice([1, -1, 10**9])).astype(array.dtype)
    if kind == "nan" and number:
        return np.full(array.shape, rng.choice([np.nan, np.inf]))
    if kind == "type":
        return array.astype(np.str_) if number else np.zeros(array.shape)
    if kind == "cut" and array.ndim:
        return array[:-1]
    return array[:0] if kind == "empty" and array.ndim else array[np.newaxis]


def test_a_template_of_no_size_or_of_a_million_cells_is_refused():
    template = tiny_template()
    for field, value, message in (
        ("vertices", np.zeros_like(template.vertices), "extend over 0 mm"),
        ("vertices", template.vertices / 1000, "extend over"),
        ("grid_size", 10**6, "grid_size must be 8 to 1024"),
    ):
        with pytest.raises(InputError, match=message):
            dataclasses.replace(template, **{field: value}).validate("me.npz")


def test_a_template_that_inflates_without_end_is_refused():
    content = io.BytesIO(tiny_template().to_bytes())
    with zipfile.ZipFile(content, "a", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("more.npy", "w") as member:
            for _ in range(80):
                member.write(bytes(2**20))
    assert len(content.getvalue()) < 10**6
    with pytest.raises(InputError, match="too many"):
        HandTemplate.from_bytes(content.getvalue(), where="me.npz")
