"""Correspondence error on the rest surface, on a sheet whose answers are known."""

import dataclasses

import numpy as np
import pytest

from dgn_tf.evaluation.frame_errors import RestSurface, correspondence_errors_mm


@dataclasses.dataclass
class Sheet:
    """Two parallel squares of 100 mm, 10 mm apart, as two layers of one 11x11 grid."""

    layers: int = 2

    def __post_init__(self):
        steps = np.arange(11)
        y, x = np.meshgrid(steps, steps, indexing="ij")
        coords = np.stack([x, y], axis=-1).reshape(-1, 2).astype(float)
        corner = (np.arange(10)[:, None] * 11 + np.arange(10)).reshape(-1)
        quad = np.concatenate(
            [
                np.stack([corner, corner + 1, corner + 11], axis=-1),
                np.stack([corner + 1, corner + 12, corner + 11], axis=-1),
            ]
        )
        self.vertices = np.concatenate(
            [
                np.concatenate([coords * 10, np.full([121, 1], 10.0 * layer)], axis=1)
                for layer in range(self.layers)
            ]
        )
        self.faces = np.concatenate([quad + 121 * layer for layer in range(self.layers)])
        self.face_coords = np.tile(coords, [self.layers, 1])[self.faces]
        self.face_layer = np.repeat(np.arange(self.layers), len(quad))
        self.face_is_seam = np.zeros(len(self.faces), bool)


def test_coords_map_to_their_point_within_the_sampling():
    surface = RestSurface(Sheet(), subdivisions=5)
    coords = np.random.default_rng(4).uniform(0, 10, size=[200, 2])
    for layer in (0, 1):
        found = surface.at_coords(coords, np.full(200, layer))
        np.testing.assert_allclose(found[:, :2], coords * 10, atol=1.01)  # mm: half of 2 mm
        assert np.all(found[:, 2] == 10 * layer)


def test_coords_outside_the_sheet_map_to_its_border_and_nan_to_nan():
    surface = RestSurface(Sheet(), subdivisions=2)
    found = surface.at_coords(np.array([[-3.0, 5.0], [np.nan, 1.0]]), np.zeros(2, int))
    np.testing.assert_allclose(found[0], [0, 50, 0])
    assert np.isnan(found[1]).all()


def test_one_layer_wants_no_layer():
    found = RestSurface(Sheet(layers=1), 1).at_coords(np.array([[2.0, 3.0]]))
    np.testing.assert_allclose(found, [[20, 30, 0]])


def test_faces_and_barycentrics_give_points_on_the_rest_surface():
    surface = RestSurface(Sheet(), 1)
    face = np.array([[0, 200]])  # shapes of any rank
    point = surface.at_faces(face, np.array([[[0.25, 0.5], [0.0, 0.0]]]))
    np.testing.assert_allclose(point, [[[2.5, 5.0, 0.0], [0.0, 0.0, 10.0]]])


def frame(shift_cells, wrong_layer=False):
    """Two frames of 2x2 pixels that see corner 0 of faces of layer 0; of each one pixel counts."""
    sheet = Sheet()
    face = np.array([[[33, 34], [35, 36]]] * 2)
    coords = sheet.face_coords[face][..., 0, :] + shift_cells
    layer = np.full(face.shape, int(wrong_layer))
    mask = np.zeros(face.shape, bool)
    mask[:, 0, 1] = True
    return RestSurface(sheet), coords, layer, face, np.zeros([2, 2, 2, 2]), mask


def test_error_is_in_mm_at_rest_and_not_in_cells():
    np.testing.assert_allclose(correspondence_errors_mm(*frame([0.0, 0.0])), [0, 0], atol=1e-9)
    np.testing.assert_allclose(correspondence_errors_mm(*frame([3.0, 0.0])), [30, 30])


def test_the_wrong_layer_costs_the_way_through_the_hand():
    np.testing.assert_allclose(correspondence_errors_mm(*frame([0.0, 0.0], True)), [10, 10])


def test_pixels_outside_the_mask_do_not_count_and_a_frame_without_any_is_nan():
    surface, coords, layer, face, barycentric, mask = frame([0.0, 0.0])
    coords[:, 1] += 5  # not in the mask
    face[:, 1] = -1
    mask[1] = False
    errors = correspondence_errors_mm(surface, coords, layer, face, barycentric, mask)
    assert errors[0] == pytest.approx(0.0, abs=1e-9) and np.isnan(errors[1])


def test_seam_faces_are_not_sampled():
    sheet = Sheet(layers=1)
    sheet.face_is_seam[:] = True
    sheet.face_is_seam[:1] = False  # one triangle at the origin is left
    found = RestSurface(sheet).at_coords(np.array([[9.0, 9.0]]))
    assert np.all(found[0] <= 10.0)
