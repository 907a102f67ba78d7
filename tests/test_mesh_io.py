import io

import numpy as np
import pytest
import trimesh

from dgn_tf import mesh_io
from dgn_tf.errors import InputError
from dgn_tf.geometry import mirror

VERTICES = np.float32([[0, 0, 500], [100, 0, 500], [0, 100, 500], [0, 0, 600]])
FACES = np.int32([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def load(content, format):
    return trimesh.load(io.BytesIO(content), file_type=format, force="mesh", process=False)


@pytest.mark.parametrize("format", ["ply", "obj"])
def test_ply_and_obj_keep_millimetres_and_the_camera_frame(format):
    mesh = load(mesh_io.mesh_bytes(VERTICES, FACES, format), format)
    np.testing.assert_allclose(mesh.vertices, VERTICES, atol=1e-4)
    np.testing.assert_array_equal(mesh.faces, FACES)


def test_glb_is_in_metres_with_y_up_and_the_same_handedness():
    mesh = load(mesh_io.mesh_bytes(VERTICES, FACES, "glb"), "glb")
    np.testing.assert_allclose(mesh.vertices, VERTICES * [1e-3, -1e-3, -1e-3], atol=1e-6)
    assert mesh.volume > 0
    assert trimesh.Trimesh(VERTICES, FACES, process=False).volume > 0


def test_a_left_hands_faces_point_outward():
    mirrored = trimesh.Trimesh(VERTICES * [-1, 1, 1], mirror.mirror_faces(FACES), process=False)
    assert mirrored.volume > 0


def test_write_mesh_goes_by_the_files_ending(tmp_path):
    mesh_io.write_mesh(tmp_path / "a.ply", VERTICES, FACES)
    np.testing.assert_allclose(trimesh.load(tmp_path / "a.ply").vertices, VERTICES, atol=1e-4)
    with pytest.raises(InputError, match="stl is not one of"):
        mesh_io.write_mesh(tmp_path / "a.stl", VERTICES, FACES)


@pytest.mark.parametrize("format", ["ply", "obj", "glb"])
@pytest.mark.parametrize(
    "faces", [FACES - 1, FACES + 10**6, FACES.astype(float), FACES[:, :2], FACES.ravel()]
)
def test_a_mesh_whose_faces_name_no_vertex_is_not_written(faces, format):
    with pytest.raises(ValueError, match="faces"):
        mesh_io.mesh_bytes(VERTICES, faces, format)
