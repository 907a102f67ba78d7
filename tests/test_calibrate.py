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
