"""Poses out of a fit's file: read, mapped by names, followed by synthesis, told to models."""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from dgn_tf.config import Train
from dgn_tf.errors import InputError
from dgn_tf.synthesis.batches import synthesize_batch
from dgn_tf.synthesis.pose_prior import EXPERIMENT, FORMAT, PosePrior
from dgn_tf.synthesis.posing import PoseSettings
from dgn_tf.synthesis.scene import SceneSettings
from dgn_tf.synthesis.settings import SynthesisConfig
from dgn_tf.template import load_template

QUIET = PoseSettings(prior_share=1.0, prior_noise=0.0, shape_sigma=0.0, collision_draws=1)


@pytest.fixture(scope="module")
def template():
    return load_template()


def contents(template, count=4, seed=0, **changed) -> dict:
    """Arrays of a file of poses within limits; `changed` replaces or, None, drops."""
    rng = np.random.default_rng(seed)
    low, high = template.joint_limits[..., 0], template.joint_limits[..., 1]
    arrays = {
        "format": np.array(FORMAT),
        "part_names": np.array(template.part_names),
        "joint_limits": template.joint_limits,
        "joint_angles": rng.uniform(low, high, [count, *low.shape]).astype(np.float32),
        "observed": np.ones([count, len(low)], bool),
        "usable": np.ones(count, bool),
        "template_hash": np.array(template.hash),
        "status": np.array(EXPERIMENT),
        "source": np.array("a test"),
    }
    return {k: v for k, v in (arrays | changed).items() if v is not None}


def write(path, arrays) -> PosePrior:
    np.savez(path, **arrays)
    return PosePrior.load(path)


def test_a_file_comes_back_and_its_hash_tells_contents_apart(template, tmp_path):
    arrays = contents(template)
    prior = write(tmp_path / "a.npz", arrays)
    np.testing.assert_array_equal(prior.angles, arrays["joint_angles"])
    assert prior.part_names == template.part_names
    assert prior.facts() == {
        "content_hash": prior.content_hash,
        "poses": 4,
        "template_hash": template.hash,
        "source": "a test",
        "status": EXPERIMENT,
    }
    assert write(tmp_path / "b.npz", arrays).content_hash == prior.content_hash
    other = write(tmp_path / "c.npz", contents(template, seed=1))
    assert other.content_hash != prior.content_hash
    shipped = write(tmp_path / "d.npz", contents(template, status=np.array("other")))
    assert shipped.content_hash != prior.content_hash


def test_only_usable_poses_and_observed_parts_count(template, tmp_path):
    usable = np.array([True, False, True, False])
    observed = np.ones([4, 16], bool)
    observed[2, 5] = False
    prior = write(tmp_path / "a.npz", contents(template, usable=usable, observed=observed))
    assert prior.angles.shape == (2, 16, 3)
    np.testing.assert_array_equal(np.isnan(prior.angles).any(axis=-1), ~observed[[0, 2]])


def test_angles_go_by_name_from_rest_pose_to_rest_pose(template, tmp_path):
    """Another hand at rest with its index finger bent by 0.2 rad, parts in another order."""
    limits = template.joint_limits.copy()
    bent = template.part_names.index("index2")
    limits[bent, 0] -= 0.2
    order = np.r_[0, 15:0:-1]
    arrays = contents(template, joint_limits=limits)
    same = arrays["joint_angles"].copy()
    arrays["joint_angles"][:, bent, 0] -= 0.2
    for name in ("part_names", "joint_limits"):
        arrays[name] = arrays[name][order]
    arrays["joint_angles"] = arrays["joint_angles"][:, order]
    found = write(tmp_path / "a.npz", arrays).angles_for(template)
    assert np.isnan(found[:, 0]).all()  # where the hand lies is not the prior's to say
    np.testing.assert_allclose(found[:, 1:], same[:, 1:], atol=1e-6)  # rad


def posed(template, prior, pose=QUIET, seed=3, count=6, threads=1):
    config = SynthesisConfig(pose=pose, scene=SceneSettings())
    return synthesize_batch(template, config, seed, 0, count, threads, prior=prior)


def pairwise(points):
    return np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)


def test_hands_take_the_priors_pose(template, tmp_path):
    """Distances among key points are those of the pose, whatever way the hand is turned."""
    from data_prep.posing import skin, transforms_from_angles

    arrays = contents(template, count=1)
    angles = arrays["joint_angles"].astype(np.float64)
    angles[:, 0] = 0
    transforms = transforms_from_angles(angles, template.bone_from_template, template.parents)
    expected = skin(transforms, template.keypoints, template.keypoint_weights)
    batch = posed(template, write(tmp_path / "a.npz", arrays))
    distances = pairwise(batch["keypoints"].astype(np.float64))
    np.testing.assert_allclose(distances, pairwise(expected).repeat(6, axis=0), atol=0.01)  # mm


def test_frames_with_a_prior_are_seeded_and_those_without_are_as_before(template, tmp_path):
    prior = write(tmp_path / "a.npz", contents(template))
    mixed = PoseSettings(prior_share=0.5)
    first = posed(template, prior, mixed, count=16)
    again = posed(template, prior, mixed, count=16, threads=2)
    without = posed(template, None, mixed, count=16)
    for name in ("vertices", "depth"):
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.array_equal(first[name], without[name])
    ignored = posed(template, None, PoseSettings(prior_share=0.0, prior_noise=1.0), count=16)
    np.testing.assert_array_equal(without["vertices"], ignored["vertices"])


def test_noise_keeps_joints_within_limits(template, tmp_path):
    """At both ends of the limits, with noise, no joint is beyond them."""
    from dgn_tf.hand_fit.keypoint_fit import fit_keypoints

    limits = template.joint_limits
    ends = np.moveaxis(limits, -1, 0).astype(np.float32)
    prior = write(tmp_path / "a.npz", contents(template, count=2, joint_angles=ends))
    batch = posed(template, prior, QUIET._replace(prior_noise=0.05), count=6)
    fit = fit_keypoints(template, batch["keypoints"], finger_scales="palm")
    assert fit.residual_mm.max() < 0.05  # mm
    flexion = fit.angles[:, 1:, 0]  # the one that key points tell best
    assert (flexion > limits[1:, 0, 0] - 0.05).all()
    assert (flexion < limits[1:, 0, 1] + 0.05).all()


BAD = [
    ({"format": np.array("x")}, f"is no pose prior of format '{FORMAT}'"),
    ({"observed": None}, "has no field 'observed'"),
    ({"usable": np.ones(3, bool)}, "usable is [3], wanted [4]"),
    ({"joint_angles": np.full([4, 16, 3], np.nan)}, "holds NaN or infinity"),
    ({"joint_angles": np.array(0.0)}, "joint_angles is [], wanted [1, 16, 3]"),
    ({"joint_limits": np.full([16, 3, 2], "x")}, "joint_limits holds <U1, wanted floating-point"),
    ({"usable": np.full(4, "x")}, "usable holds <U1, wanted truth values"),
    ({"part_names": np.arange(16)}, "part_names holds int64, wanted text"),
    ({"part_names": np.array("palm")}, "part_names is [], wanted [1]"),
    (
        {"usable": np.zeros(4, bool)},
        "none of its 4 poses is usable; fit again with a larger --max_residual_mm.",
    ),
]


@pytest.mark.parametrize(("changed", "message"), BAD)
def test_bad_files_are_refused_by_name(template, tmp_path, changed, message):
    path = tmp_path / "bad.npz"
    with pytest.raises(InputError) as error:
        write(path, contents(template, **changed))
    assert str(error.value).startswith(f"--pose_prior={path}: ")
    assert message in str(error.value)


def test_no_file_a_text_an_npy_and_a_pickle_are_refused(template, tmp_path):
    path = tmp_path / "none.npz"
    with pytest.raises(InputError, match="cannot be read .No such file or directory."):
        PosePrior.load(path)
    path.write_text("no archive")
    with pytest.raises(InputError, match="damaged or no .npz"):
        PosePrior.load(path)
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InputError, match="damaged or no .npz"):
        PosePrior.load(path)
    np.savez(path, **contents(template, source=np.array([{}], object)))
    with pytest.raises(InputError, match="damaged or no .npz"):
        PosePrior.load(path)


def test_a_prior_of_strange_parts_is_refused(template, tmp_path):
    names = np.array([f"bone{i}" for i in range(16)])
    prior = write(tmp_path / "a.npz", contents(template, part_names=names))
    with pytest.raises(InputError, match="are not those of template makehuman_right"):
        prior.angles_for(template)


def test_records_tell_of_their_prior(template, tmp_path):
    from data_prep.synthetic_to_tfrecord import Frames, write_records

    prior = write(tmp_path / "a.npz", contents(template))
    config = dataclasses.replace(SynthesisConfig(), pose=QUIET)
    for folder, given in (("with", prior), ("without", None)):
        write_records(tmp_path / folder, template, Frames(config, 2, prior=given), 1, 1, False)
    described = json.loads((tmp_path / "with" / "description.json").read_text())
    assert described["pose_prior"] == prior.facts()
    assert "pose_prior" not in json.loads((tmp_path / "without" / "description.json").read_text())


def test_the_trainer_learns_the_priors_status(template, tmp_path):
    """Of --pose_prior, and of the prior behind records; both at once are refused."""
    from data_prep.synthetic_to_tfrecord import Frames, write_records
    from dgn_tf.training.datasets import pose_prior_facts

    file = tmp_path / "a.npz"
    prior = write(file, contents(template))
    settings = Train(pose_prior=str(file))
    assert pose_prior_facts(settings) == prior.facts()
    assert pose_prior_facts(Train()) is None
    frames = Frames(SynthesisConfig(pose=QUIET), 2, prior=prior)
    write_records(tmp_path / "r", template, frames, 1, 1, False)
    recorded = Train(data="records", synthetic_records=str(tmp_path / "r"))
    assert pose_prior_facts(recorded) == prior.facts()
    with pytest.raises(InputError, match="--pose_prior wants --data=online: records have their"):
        pose_prior_facts(dataclasses.replace(recorded, pose_prior=str(file)))


def test_a_prior_for_a_sampler_that_draws_nothing_from_it_is_refused(template, tmp_path, checkout):
    from dgn_tf.training.datasets import pose_prior_facts, synthetic_data

    file = tmp_path / "a.npz"
    write(file, contents(template))
    sampler = checkout / "configs" / "synthetic_test.json"
    message = f"--pose_prior={file}: the sampler takes no pose from it (pose.prior_share is 0)"
    settings = Train(pose_prior=str(file), synthesis_config=str(sampler))
    with pytest.raises(InputError, match=re.escape(message)):
        pose_prior_facts(settings)
    with pytest.raises(InputError, match=re.escape(message)):
        synthetic_data(template, settings, 2, 0)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "data_prep.synthetic_to_tfrecord",
            f"--output_dir={tmp_path / 'r'}",
            f"--config={sampler}",
            f"--pose_prior={file}",
        ],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert message in done.stderr and not (tmp_path / "r").exists()
