"""Labels to poses: every kind of label file, the output, the refusals, and NYU's real labels."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pytest

from data_prep import fit_report, keypoint_labels, template_assembly
from data_prep.posing import skin, transforms_from_angles
from dgn_tf.errors import InputError
from dgn_tf.evaluation.nyu import INTRINSICS, read_uvd, uvd_from_xyz, write_uvd
from dgn_tf.synthesis.pose_prior import EXPERIMENT, PosePrior
from dgn_tf.template import EVALUATED, load_template, nyu_keypoint_names
from tests.data_prep import nyu_folder

AWAY = np.array([10.0, 20.0, 750.0])


@pytest.fixture(scope="module")
def template():
    return load_template()


@pytest.fixture(scope="module")
def points(template):
    """[3, 36, 3] mm: the hand in three poses, before a camera."""
    rng = np.random.default_rng(1)
    low, high = template.joint_limits[..., 0], template.joint_limits[..., 1]
    angles = rng.uniform(low, high, [3, *low.shape])
    transforms = transforms_from_angles(angles, template.bone_from_template, template.parents)
    return skin(transforms, template.keypoints, template.keypoint_weights) + AWAY


def run(*arguments, cwd):
    done = subprocess.run(
        [sys.executable, "-m", "data_prep.fit_template", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_text_to_poses_report_and_pictures(template, points, tmp_path, checkout):
    text = tmp_path / "labels.txt.gz"
    write_uvd(text, uvd_from_xyz(points))
    code, out, err = run(
        f"--input={text}",
        "--every=1500",
        f"--output={tmp_path / 'p.npz'}",
        f"--report={tmp_path / 'r.json'}",
        f"--pictures={tmp_path / 'p.png'}",
        cwd=checkout,
    )
    assert code == 0, err
    assert f"3 poses to draw from; {EXPERIMENT}" in out and "3 of 3 frames fitted" in out
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["all"]["max"] < 0.02 and report["template_hash"] == template.hash
    assert report["subjects"]["1"]["frames"] == 2 and report["subjects"]["2"]["frames"] == 1
    assert report["per_keypoint"]["TH_KNU3_A"]["max"] < 0.02
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    with np.load(tmp_path / "p.npz", allow_pickle=False) as saved:
        transforms, frames = saved["transforms"].astype(np.float64), saved["frames"]
        assert str(saved["status"]) == EXPERIMENT and saved["residual_mm"].shape == (3, 36)
    assert frames.tolist() == [0, 1500, 3000]
    posed = skin(transforms, template.keypoints, template.keypoint_weights)
    assert np.abs(posed - points).max() < 0.02  # mm
    prior = PosePrior.load(tmp_path / "p.npz")
    assert prior.angles.shape == (3, 16, 3) and prior.template_hash == template.hash
    assert np.isfinite(prior.angles_for(template)[:, 1:]).all()
    assert not list(tmp_path.glob("*.part"))


def test_frames_that_fit_badly_are_no_poses_to_draw_from(template, points, tmp_path):
    from data_prep.fit_template import fit_labels, save_poses

    bent = points.copy()
    bent[1] += np.random.default_rng(0).normal(scale=40, size=[36, 3])
    names = nyu_keypoint_names()
    labels = keypoint_labels.KeypointLabels(
        bent, names, np.arange(3), np.ones(3, int), "x", EXPERIMENT
    )
    fit, _ = fit_labels(template, labels)
    assert save_poses(tmp_path / "p.npz", fit, labels, template, 5.0) == 2
    assert len(PosePrior.load(tmp_path / "p.npz").angles) == 2
    assert save_poses(tmp_path / "p.npz", fit, labels, template) == 3
    blind = keypoint_labels.KeypointLabels(
        bent * np.nan, names, np.arange(3), np.ones(3, int), "no labels", EXPERIMENT
    )
    with pytest.raises(InputError, match="no frame of no labels has 3 key points of the palm"):
        fit_labels(template, blind)


def test_fingers_keep_the_palms_scale_and_poses_their_residual_where_that_is_asked(
    points, tmp_path
):
    from tests.programs import run as run_here

    bent = points.copy()
    bent[1] += np.random.default_rng(0).normal(scale=12, size=[36, 3])
    write_uvd(tmp_path / "a.txt", uvd_from_xyz(bent))

    def poses(*arguments):
        output = f"--output={tmp_path / 'p.npz'}"
        run_here("data_prep.fit_template", f"--input={tmp_path / 'a.txt'}", output, *arguments)
        with np.load(tmp_path / "p.npz") as saved:
            return saved["bone_scales"], saved["usable"], saved["residual_mm"].mean(axis=1)

    scales, usable, residual = poses("--finger_scales=palm", "--max_residual_mm=2")
    np.testing.assert_allclose(scales, scales[:, :1].repeat(scales.shape[1], axis=1), rtol=1e-5)
    assert residual[1] > 2 > residual[[0, 2]].max()
    assert usable.tolist() == [True, False, True]
    scales, usable, _ = poses("--finger_scales=frame", "--max_residual_mm=0")
    assert np.ptp(scales[1]) > 0.01 and usable.all()


def test_matlab_records_and_text_hold_the_same_points(nyu, records, tmp_path):
    from_matlab = keypoint_labels.read_keypoints(nyu / "test", camera=2)
    xyz = nyu_folder.points(seed=1)[1]
    np.testing.assert_allclose(from_matlab.keypoints, xyz, atol=1e-3)
    from_records = keypoint_labels.read_keypoints(records, camera=2)
    np.testing.assert_allclose(from_records.keypoints, xyz, atol=1e-3)
    assert from_records.names == from_matlab.names == nyu_keypoint_names()
    np.testing.assert_array_equal(from_records.frames, from_matlab.frames)
    text = tmp_path / "14.txt"
    write_uvd(text, uvd_from_xyz(xyz, INTRINSICS)[:, EVALUATED])
    from_text = keypoint_labels.read_keypoints(text)
    np.testing.assert_allclose(from_text.keypoints, xyz[:, EVALUATED], atol=1e-2)
    assert from_text.names == tuple(nyu_keypoint_names()[j] for j in EVALUATED)
    for labels in (from_matlab, from_records, from_text):
        assert labels.status == EXPERIMENT and set(labels.subjects) == {1}


def test_labels_of_a_left_hand_give_the_poses_of_the_right_one(template, points, tmp_path, records):
    from data_prep.fit_template import fit_labels

    write_uvd(tmp_path / "right.txt", uvd_from_xyz(points))
    write_uvd(tmp_path / "left.txt", uvd_from_xyz(points * [-1, 1, 1]))
    right = keypoint_labels.read_keypoints(tmp_path / "right.txt")
    left = keypoint_labels.read_keypoints(tmp_path / "left.txt", hand="left")
    np.testing.assert_allclose(left.keypoints, right.keypoints, atol=0.01)
    assert "left hand, mirrored" in left.source and "left" not in right.source
    fits = [fit_labels(template, labels)[0] for labels in (right, left)]
    np.testing.assert_allclose(fits[1].angles, fits[0].angles, atol=0.01)
    assert fits[1].residual_mm.max() < 0.05
    # Taken for a right one, it does not fit.
    wrong, _ = fit_labels(template, keypoint_labels.read_keypoints(tmp_path / "left.txt"))
    assert wrong.residual_mm.mean() > 2
    with pytest.raises(InputError, match="--hand=left: .* are records, which hold right hands"):
        keypoint_labels.read_keypoints(records, hand="left")


def test_missing_points_of_a_text_are_masked(tmp_path, points):
    uvd = uvd_from_xyz(points)
    uvd[1, 4] = np.nan
    uvd[2, 7, 2] = 0.0  # no depth
    write_uvd(tmp_path / "a.txt", uvd)
    missing = np.isnan(keypoint_labels.read_keypoints(tmp_path / "a.txt").keypoints).any(axis=-1)
    assert np.argwhere(missing).tolist() == [[1, 4], [2, 7]]


def test_bad_input_is_refused_by_name(tmp_path, points, checkout):
    text = tmp_path / "a.txt"
    write_uvd(text, uvd_from_xyz(points))
    for path, every, message in (
        (
            tmp_path / "none.txt",
            1,
            "can't be read (No such file or directory); name "
            "joint_data.mat, a folder of records or a text of u v d.",
        ),
        (tmp_path, 1, "holds neither joint_data.mat nor records"),
        (text, 5000, "3 lines at --every=5000 are more than NYU's 8252 test frames"),
    ):
        with pytest.raises(InputError) as error:
            keypoint_labels.read_keypoints(path, every=every)
        assert str(error.value).startswith(f"--input={path}: {message}")
    only_one = "--camera=2: .*a.txt is taken for a text, which has camera 1's key points alone"
    with pytest.raises(InputError, match=only_one):
        keypoint_labels.read_keypoints(text, camera=2)
    text.write_text("1 2 3\n")
    with pytest.raises(InputError, match="line 1: wanted 42 numbers .u v d of 14 joints., got 3"):
        keypoint_labels.read_keypoints(text)
    code, _, err = run(f"--input={text}", f"--output={tmp_path / 'no' / 'p.npz'}", cwd=checkout)
    assert code == 1 and "Traceback" not in err
    assert f"--output={tmp_path / 'no' / 'p.npz'}: its folder does not exist" in err


def test_a_template_without_the_labels_palm_is_refused(points):
    from data_prep.fit_template import fit_labels

    names = tuple(name.replace("PALM", "HAND") for name in nyu_keypoint_names())
    labels = keypoint_labels.KeypointLabels(
        points, names, np.arange(3), np.ones(3, int), "x", EXPERIMENT
    )
    with pytest.raises(InputError, match="--template=.*key points of the palm with the labels"):
        fit_labels(load_template(), labels)


def test_summary_leaves_out_what_is_missing():
    found = fit_report.summary(np.array([1.0, np.nan, 3.0]))
    assert found == {"mean": 2.0, "median": 2.0, "p95": 2.9, "max": 3.0}
    assert fit_report.summary(np.array([np.nan]))["mean"] is None


@pytest.fixture(scope="module")
def real(shared_data):
    """Every eighth of the 413 frames of real labels, and their subjects."""
    path = shared_data / "nyu" / "test_uvd_36.txt.gz"
    assert len(read_uvd(path, 36)) == 413
    labels = keypoint_labels.read_keypoints(path, every=20)
    return labels.keypoints[::8], labels.subjects[::8]


def libhand_template(shared_data, palm_bones):
    from data_prep import libhand, source_hand

    hand = libhand.read_libhand(shared_data / "libhand1721" / "right_hand.pkl", palm_bones)
    return source_hand.build_template(hand, grid_size=8)


def _palm_residual(template, root, keypoints):
    palm = np.flatnonzero(template.keypoint_weights[:, 0] == 1)
    posed = np.einsum("nik,jk->nji", root[:, :3, :3], template.keypoints[palm])
    return np.linalg.norm(posed + root[:, None, :3, 3] - keypoints[:, palm], axis=-1).mean()


@pytest.mark.parametrize(("palm_bones", "bar_mm"), [(True, 0.2), (False, 1.3)])
def test_libhand_fits_real_labels(shared_data, real, palm_bones, bar_mm, monkeypatch):
    """Bars of the labels: palm similarity 57.986 mm a LibHand unit, and the residual of all."""
    from data_prep.libhand import MM_PER_UNIT
    from dgn_tf.hand_fit.keypoint_fit import KeypointHand, fit_keypoints

    monkeypatch.setattr(template_assembly, "EMBEDDINGS", ("layered",))  # Scaling takes seconds.
    keypoints, subjects = real
    template = libhand_template(shared_data, palm_bones)
    hand = KeypointHand(template)
    root = hand.fit_palm(keypoints, np.isfinite(keypoints[..., 0]))
    scale = MM_PER_UNIT * np.cbrt(np.linalg.det(root[:, :3, :3]))[subjects == 1]
    assert abs(scale.mean() - 57.986) < 0.05 and np.abs(scale - 57.986).max() < 0.08
    mirrored = hand.fit_palm(keypoints * [-1, 1, 1], np.isfinite(keypoints[..., 0]))
    assert _palm_residual(template, mirrored, keypoints * [-1, 1, 1]) > 3.0  # mm: a right hand's
    fit = fit_keypoints(template, keypoints)
    assert np.nanmean(fit.palm_residual_mm[subjects == 1]) < 0.02
    assert fit.residual_mm.mean() < bar_mm
    low, high = template.joint_limits[1:, 2, 0], template.joint_limits[1:, 2, 1]
    twist = fit.angles[:, 1:, 2]
    assert np.abs(twist - np.clip(twist, low, high)).max() < np.radians(35)


def test_a_file_cut_short_is_refused(tmp_path, points):
    path = tmp_path / "a.txt.gz"
    write_uvd(path, uvd_from_xyz(points))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="a.txt.gz"):
        keypoint_labels.read_keypoints(path)
    path.write_bytes(gzip.compress(b"\xff\xfe"))
    with pytest.raises(InputError, match="a.txt.gz"):
        keypoint_labels.read_keypoints(path)
