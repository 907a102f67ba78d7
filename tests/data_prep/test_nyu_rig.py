"""The rig: found from labels however some of them err, or read from a file that is checked."""

import copy
import json

import numpy as np
import pytest

from data_prep.multi_view.calibration import read_calibration
from data_prep.nyu.rig import (
    check_against_labels,
    fit_rigid,
    rig_from_labels,
    unknown_rig,
)
from dgn_tf.errors import InputError
from dgn_tf.evaluation.nyu import INTRINSICS
from tests.data_prep.nyu_folder import points, rig

CAMERAS = (1, 2, 3)


def test_exact_labels_give_the_exact_rig():
    xyz = points(frames=40).astype(np.float32)
    found = rig_from_labels(xyz, CAMERAS)
    np.testing.assert_allclose(found.camera_from_rig, rig(), atol=1e-3)
    assert found.known and found.source == "labels"
    assert set(found.residual_mm) == {"2", "3"}
    for residual in found.residual_mm.values():
        assert residual["mean"] <= residual["p95"] <= residual["max"] < 1e-3
        assert residual["left_out"] == 0


def test_wrong_frames_have_no_say_and_are_counted():
    rng = np.random.default_rng(1)
    xyz = points(frames=200)
    xyz += rng.normal(size=xyz.shape) * 2.0
    bad = rng.permutation(200)[:70]  # a third
    xyz[1, bad] += rng.uniform(50, 400, size=[70, 1, 3])
    found = rig_from_labels(xyz, CAMERAS)
    kept = np.setdiff1d(np.arange(200), bad)
    plain = fit_rigid(xyz[0, kept].reshape(-1, 3), xyz[1, kept].reshape(-1, 3))
    centre = np.array([0, 0, 800, 1.0])  # where the hand is: errors of angle alone count little
    np.testing.assert_allclose(found.camera_from_rig[1] @ centre, plain @ centre, atol=0.05)
    np.testing.assert_allclose(found.camera_from_rig[1] @ centre, rig()[1] @ centre, atol=0.2)
    assert found.residual_mm["2"]["left_out"] == 70 and found.residual_mm["3"]["left_out"] == 0
    assert found.residual_mm["2"]["max"] > 50  # wrong frames are told, not hidden
    everyone = fit_rigid(xyz[0].reshape(-1, 3), xyz[1].reshape(-1, 3))
    assert np.abs(everyone @ centre - rig()[1] @ centre).max() > 10  # what robustness avoids


def test_frames_with_missing_points_are_left_out_of_the_fit():
    xyz = points(frames=10)
    xyz[0, 3, 5] = np.nan
    xyz[2, 4] = np.nan
    np.testing.assert_allclose(rig_from_labels(xyz, CAMERAS).camera_from_rig, rig(), atol=1e-6)
    xyz[2] = np.nan
    with pytest.raises(InputError, match="cameras 1 and 3; give --calibration"):
        rig_from_labels(xyz, CAMERAS)
    assert set(rig_from_labels(xyz, (1, 2)).residual_mm) == {"2"}


def test_a_fit_is_proper_even_of_mirrored_points():
    source = np.random.default_rng(0).normal(size=[30, 3]) * 50
    for target in (source * [1, -1, 1], source):
        assert np.linalg.det(fit_rigid(source, target)[:3, :3]) == pytest.approx(1.0)


def calibration(**changed):
    fx, fy, cx, cy = INTRINSICS
    return {
        "intrinsics": {"fx": fx, "fy": fy, "cx": cx, "cy": cy},
        "camera_from_camera1": rig().tolist(),
        **changed,
    }


def write(tmp_path, values):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(values))
    return path


def test_a_calibration_is_read_and_measured_on_labels(tmp_path):
    found = read_calibration(write(tmp_path, calibration()), 3)
    np.testing.assert_array_equal(found.camera_from_rig, rig())
    np.testing.assert_array_equal(found.intrinsics, np.tile(INTRINSICS, (3, 1)))
    assert found.source == "calibration" and found.frame_size == (640, 480)
    moved = points()
    moved[2] += [3.0, 0, 4.0]
    residual = check_against_labels(found, moved).residual_mm
    assert residual["2"]["max"] < 1e-3
    assert residual["3"]["mean"] == pytest.approx(5.0, abs=1e-3)


def test_each_camera_may_have_its_own_intrinsics_and_size(tmp_path):
    listed = [
        {"fx": 100.0 * k, "fy": 50.0, "cx": 1, "cy": 2, "width": 320, "height": 240}
        for k in (1, 2, 3)
    ]
    found = read_calibration(write(tmp_path, calibration(intrinsics=listed)), 2)
    np.testing.assert_array_equal(found.intrinsics[:, 0], [100, 200])
    assert found.frame_size == (320, 240) and len(found.camera_from_rig) == 2


def _matrix(camera, change):
    transforms = rig()
    change(transforms[camera])
    return {"camera_from_camera1": transforms.tolist()}


def _scale(t):
    t[:3, :3] *= 1.01


def _mirror(t):
    t[0] *= -1


def _last_row(t):
    t[3, 0] = 1


def _shift(t):
    t[0, 3] = 7


def _nan(t):
    t[0, 0] = np.nan


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (_matrix(1, _scale), "camera 2 is not rigid"),
        (_matrix(2, _mirror), "camera 3 is left-handed"),
        (_matrix(2, _last_row), "last row"),
        (_matrix(0, _shift), "camera 1 is not the identity"),
        (_matrix(1, _nan), "not finite"),
        ({"camera_from_camera1": rig()[:2].tolist()}, r"is \[2, 4, 4\], wanted \[3, 4, 4\]"),
        ({"camera_from_camera1": "none"}, "wanted .3, 4, 4. numbers"),
        ({"camera_from_camera1": [[1], [1, 2]]}, "wanted .3, 4, 4. numbers"),
        ({"intrinsics": {"fx": 1}}, "intrinsics of camera 1 want the numbers fx, fy, cx, cy"),
        ({"intrinsics": [{"fx": 1, "fy": 1, "cx": 1, "cy": 1}]}, "intrinsics of 1 cameras"),
        ({"intrinsics": {"fx": -1, "fy": 1, "cx": 1, "cy": 1}}, "not positive"),
        ({"unit": "m"}, "unit is 'm', wanted mm"),
    ],
)
def test_a_wrong_calibration_is_refused_with_its_reason(tmp_path, changed, message):
    with pytest.raises(InputError, match=message) as error:
        read_calibration(write(tmp_path, calibration(**copy.deepcopy(changed))), 3)
    assert "calibration.json" in str(error.value) and "\n" not in str(error.value)


def test_an_unreadable_calibration_is_named(tmp_path):
    for content in ("{", "[1]", '{"intrinsics": 1}'):
        path = tmp_path / "calibration.json"
        path.write_text(content)
        with pytest.raises(InputError, match="--calibration=.*calibration.json: "):
            read_calibration(path, 3)
    with pytest.raises(InputError, match="none.json: can't be read"):
        read_calibration(tmp_path / "none.json", 3)


def test_cameras_that_know_nothing_of_each_other_stand_at_the_identity():
    found = unknown_rig(2)
    assert not found.known
    np.testing.assert_array_equal(found.camera_from_rig, np.tile(np.eye(4), (2, 1, 1)))
