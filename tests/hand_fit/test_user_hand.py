"""A user's hand fitted to meshes that a model has predicted, left and right, and `predict`."""

import dataclasses

import numpy as np
import pytest
from absl import flags
from PIL import Image

import dgn_tf
from dgn_tf.errors import InputError
from dgn_tf.hand_fit import shapes
from dgn_tf.hand_fit.seen_frames import MeshReader, crop_depth, turned
from dgn_tf.hand_fit.user_hand import UserMeshes
from dgn_tf.model_folder import save_model_folder
from dgn_tf.template import load_template
from tests.exported_model import INTRINSICS, SIZE, blob_frame, exported_model, network


@pytest.fixture()
def lenient(monkeypatch):
    """An untrained network sees little of a hand."""
    monkeypatch.setattr("dgn_tf.hand_fit.user_shape._MIN_PIXELS", 0)


@pytest.fixture(scope="module")
def mesh():
    return dgn_tf.HandMeshPredictor(exported_model(), INTRINSICS)(blob_frame())


def test_the_crop_holds_the_depth_of_the_frame_at_its_rays(mesh):
    frame = blob_frame()
    depth = crop_depth(mesh, frame, INTRINSICS)
    assert depth.shape == mesh.valid.shape and (depth[~mesh.valid] == 0).all()
    assert np.isin(depth[mesh.valid], frame).all() and (depth[mesh.valid] > 0).any()


def test_a_left_hand_is_the_right_one_in_a_mirror(mesh):
    """What is read of a left mesh in a mirrored frame is what is read of the right one."""
    frame = blob_frame()
    read = MeshReader(network().template)
    fields = (
        "vertices",
        "vertices_sampled",
        "keypoints",
        "transforms",
        "valid",
        "mesh_coords",
        "mesh_layer",
    )
    names = {name: getattr(mesh, name) for name in fields}
    camera = np.array(mesh.crop_intrinsics)
    camera[2] = SIZE - 1 - camera[2]
    left = dataclasses.replace(mesh, hand="left", crop_intrinsics=camera, **turned(names))
    flipped = np.float32([300, 300, frame.shape[1] - 1 - 160, 120])
    wanted = read(mesh, frame, INTRINSICS)
    found = read(left, frame[:, ::-1], flipped)
    for name, value in wanted._asdict().items():
        np.testing.assert_allclose(getattr(found, name), value, atol=1e-3, err_msg=name)


def test_a_users_mesh_keeps_what_is_not_the_hands(mesh, lenient):
    template = network().template
    user = dataclasses.replace(template, name="me", vertices=template.vertices * 1.05)
    found = UserMeshes(lambda *given, **named: mesh, user, template)(blob_frame(), INTRINSICS)
    for field in dataclasses.fields(mesh):
        same = np.array_equal(getattr(found, field.name), getattr(mesh, field.name))
        moved = field.name in ("vertices", "keypoints", "transforms", "joint_angles")
        assert same != moved, field.name
        if moved:
            assert np.shape(getattr(found, field.name)) == np.shape(getattr(mesh, field.name))


def test_predict_takes_a_users_template_of_its_own_model_alone(tmp_path, lenient):
    from dgn_tf import predict

    template = network().template
    every = shapes.shapes_of(template)
    user = shapes.personal_template(template, every, 0.5 * np.ones(len(every.names)), 9)
    user.save(tmp_path / "me.npz")
    load_template().save(tmp_path / "other.npz")
    save_model_folder(network(), tmp_path / "model")
    (tmp_path / "model" / "1").symlink_to(exported_model() / "1")
    Image.fromarray(blob_frame().astype(np.uint16)).save(tmp_path / "frame.png")

    def run(name):
        flags.FLAGS.unparse_flags()
        flags.FLAGS(
            [
                "predict",
                f"--saved_model={tmp_path}/model",
                f"--depth={tmp_path}/frame.png",
                "--intrinsics=300,300,160,120",
                "--depth_unit=1",
                f"--user_template={tmp_path}/{name}.npz",
                f"--output_dir={tmp_path}/{name}",
            ]
        )
        predict.main([])

    run("me")
    assert len(list((tmp_path / "me").iterdir())) == 3
    with pytest.raises(InputError, match="is not shaped from the model's"):
        run("other")
    assert not (tmp_path / "other").exists()
