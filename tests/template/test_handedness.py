"""Which hand a template was made of: kept, hashed, and undone for the mesh."""

import dataclasses
import io
import zipfile

import numpy as np
import pytest

from dgn_tf.errors import InputError
from dgn_tf.template import HandTemplate, load_template
from tests.tiny_template import tiny_template

SHIPPED = "174005d673d165a96b76115d0e14c662e6acf5dabb45d60778444bf60c146964"


@pytest.fixture(scope="module")
def left():
    return dataclasses.replace(tiny_template(), handedness="left")


def volume(vertices, faces):
    """Signed, mm^3: of an open mesh, the part below its corners' cone to the origin."""
    a, b, c = np.moveaxis(np.asarray(vertices, np.float64)[faces], 1, 0)
    return np.sum(np.cross(a, b) * c) / 6


def test_the_shipped_hand_is_right_and_its_hash_is_the_one_that_weights_were_trained_with():
    template = load_template()
    assert template.handedness == "right" and template.hash == SHIPPED


def test_a_left_hands_template_says_so_after_saving_and_in_configs(left, tmp_path):
    left.save(tmp_path / "left.npz")
    for read in (
        HandTemplate.load(tmp_path / "left.npz"),
        HandTemplate.from_config(left.to_config()),
    ):
        assert read.handedness == "left" and read.hash == left.hash != tiny_template().hash
        np.testing.assert_array_equal(read.vertices, tiny_template().vertices)


def test_a_file_without_handedness_is_of_a_right_hand(tmp_path):
    path = tmp_path / "old.npz"
    source = zipfile.ZipFile(io.BytesIO(tiny_template().to_bytes()))
    with source, zipfile.ZipFile(path, "w") as old:
        for name in source.namelist():
            if name != "handedness.npy":
                old.writestr(name, source.read(name))
    template = HandTemplate.load(path)
    assert template.handedness == "right" and template.hash == tiny_template().hash


def test_another_handedness_is_refused(left, tmp_path):
    path = tmp_path / "odd.npz"
    dataclasses.replace(left, handedness="both").save(path)
    with pytest.raises(InputError, match="odd.npz: handedness must be one of right, left, got 'bo"):
        HandTemplate.load(path)
    with pytest.raises(ValueError, match="rest_mesh wants one of right, left, got 'both'"):
        left.rest_mesh("both")


def test_the_mesh_of_either_hand_has_its_faces_outside(left):
    template = tiny_template()
    for hand, x in (("right", 1), ("left", -1)):
        vertices, faces = template.rest_mesh(hand)
        np.testing.assert_array_equal(vertices, template.vertices * np.float32([x, 1, 1]))
        assert volume(vertices, faces) == pytest.approx(volume(template.vertices, template.faces))
        assert volume(vertices, faces) > 0
        for one, other in zip(left.rest_mesh(hand), (vertices, faces), strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(left.rest_mesh()[0], left.rest_mesh("left")[0])
    np.testing.assert_array_equal(template.rest_mesh()[0], template.vertices)
