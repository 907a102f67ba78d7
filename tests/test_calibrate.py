"""`python -m dgn_tf.calibrate`: its flags, and templates from records and from images."""

import dataclasses

import numpy as np
import pytest
from absl import flags
from PIL import Image

from dgn_tf import calibrate
from dgn_tf.errors import InputError
from dgn_tf.hand_fit.user_hand import UserHand, UserPredictions
from dgn_tf.model_folder import save_model_folder
from dgn_tf.template import load_template
from tests.exported_model import SIZE, blob_frame, exported_model, network

K = "--intrinsics=300,300,160,120"


def run(*arguments):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["calibrate", *arguments])
    calibrate.main([])


@pytest.fixture()
def lenient(monkeypatch):
    """An untrained network sees little of a hand."""
    monkeypatch.setattr("dgn_tf.hand_fit.user_shape.MIN_FRAMES", 1)
    monkeypatch.setattr("dgn_tf.hand_fit.user_shape._MIN_PIXELS", 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with the untrained network and its SavedModel."""
    folder = tmp_path_factory.mktemp("model")
    save_model_folder(network(), folder)
    (folder / "1").symlink_to(exported_model() / "1")
    return folder


def test_what_is_missing_or_does_not_go_together_is_named(tmp_path):
    for arguments, message in [
        ([], "wanted one of --records and --depth"),
        (["--records=x", "--depth=y"], "wanted one of --records and --depth"),
        (["--records=x", "--output=me.npz"], "--weights is wanted with --records"),
        (["--depth=x", "--output=me.npz"], "--saved_model is wanted with --depth"),
        (["--depth=x", "--saved_model=m"], "--output is wanted with --depth"),
        (["--depth=x", "--split=test"], "--split does not go with --depth"),
        (["--records=x", "--hand=left"], "--hand does not go with --records"),
        (["--records=x", "--weights=y", f"--output={tmp_path}"], "--output=.*: the name of a file"),
    ]:
        with pytest.raises(InputError, match=message):
            run(*arguments)


def test_records_of_one_user_give_a_template_that_predicts(tmp_path, monkeypatch, lenient, model):
    """Multi-view records through an untrained network: written whole, read, predicted with."""
    from dgn_tf.evaluation.view_records import ViewFrames
    from tests.evaluated_views import write_split

    monkeypatch.chdir(tmp_path)
    write_split(tmp_path / "records" / "test")
    arguments = ["--records=records", "--split=test", f"--weights={model}", "--output=me.npz"]
    run(*arguments, "--steps=2")
    assert [file.name for file in tmp_path.glob("me.npz*")] == ["me.npz"]
    user = load_template(tmp_path / "me.npz")
    predict = UserPredictions(network(), user, steps=2)
    (batch, *_) = ViewFrames(tmp_path / "records" / "test", 2, user).batches(4, SIZE)
    found = predict(batch)
    assert found["vertices"].shape == found["vertices_sampled"].shape
    with pytest.raises(InputError, match="is not shaped from the model's"):
        UserHand(
            dataclasses.replace(user, joint_limits=user.joint_limits * 1.01), network().template
        )


def test_images_of_one_user_give_a_template(tmp_path, lenient, model):
    for index in range(2):
        frame = blob_frame(u=150 + 20 * index)
        Image.fromarray(frame.astype(np.uint16)).save(tmp_path / f"frame{index}.png")
    images = [f"--saved_model={model}", f"--depth={tmp_path}/*.png", K, "--depth_unit=1"]
    run(*images, f"--output={tmp_path}/me.npz", "--steps=1")
    user = load_template(tmp_path / "me.npz")
    assert network().template.hash in user.source and "2 frames" in user.source
    with pytest.raises(InputError, match="none.npz can't be read"):
        run(*images, f"--output={tmp_path}/me.npz", f"--bias={tmp_path}/none.npz")


@pytest.fixture
def quick(monkeypatch, lenient):
    """Without the fit, which other tests have: the model's own hand is the user's."""
    import types

    from dgn_tf.hand_fit import user_shape

    seen = []

    def fit(template, frames, steps, bias):
        seen.append(frames)
        return types.SimpleNamespace(template=template, energy=(1.0, 1.0))

    monkeypatch.setattr(user_shape, "fit_user", fit)
    return seen


def test_nyus_frames_are_read_as_such(tmp_path, quick, model):
    mm = blob_frame().round().astype(np.uint16)
    colours = np.stack([0 * mm, mm >> 8, mm & 255], axis=-1).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "nyu.png")
    Image.fromarray(mm).save(tmp_path / "u16.png")
    arguments = [f"--saved_model={model}", K, f"--output={tmp_path}/me.npz"]
    for name, encoding in (
        ("nyu", ["--encoding=nyu"]),
        ("u16", ["--encoding=u16", "--depth_unit=1"]),
    ):
        run(*arguments, f"--depth={tmp_path}/{name}.png", *encoding)
    first, second = quick
    np.testing.assert_array_equal(first.depth, second.depth)
    with pytest.raises(InputError, match="nyu.png is 8-bit RGB"):
        run(*arguments, f"--depth={tmp_path}/nyu.png", "--depth_unit=1")


def test_one_camera_of_views_is_looked_at(tmp_path, monkeypatch, quick, model):
    from dgn_tf.records import views
    from tests.evaluated_views import write_split

    monkeypatch.chdir(tmp_path)
    write_split(tmp_path / "records" / "test")
    asked, dataset = [], views.view_dataset

    def of_camera(*arguments, **named):
        asked.append(named["camera"])
        return dataset(*arguments, **named)

    monkeypatch.setattr(views, "view_dataset", of_camera)
    run("--records=records", "--split=test", f"--weights={model}", "--output=me.npz", "--camera=2")
    assert asked == [2] and len(quick[0].depth) == 5  # camera 2 lacks a frame of six


def test_synthetic_records_of_another_hand_want_its_template(tmp_path, monkeypatch, quick, model):
    from tests.tiny_template import tiny_template
    from tests.written_records import write_records

    monkeypatch.chdir(tmp_path)
    template = tiny_template()
    other = dataclasses.replace(
        template, vertices=(1.1 * template.vertices).astype(template.vertices.dtype)
    )
    other.save(tmp_path / "other.npz")
    write_records(tmp_path / "records", other, count=4)
    arguments = ["--records=records", f"--weights={model}", "--output=me.npz"]
    with pytest.raises(InputError, match="another template"):
        run(*arguments)
    run(*arguments, "--records_template=other.npz")
    assert len(quick[0].depth) == 4
