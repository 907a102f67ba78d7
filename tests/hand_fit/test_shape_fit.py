"""One user's shape from frames: round trips, slow references, finite differences, messages."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.geometry import kinematics
from dgn_tf.geometry.similarity import fit_similarity
from dgn_tf.hand_fit import shapes, skeleton, solver, user_shape
from dgn_tf.hand_fit.residuals import FitWeights, SeenFrame
from dgn_tf.hand_fit.seen_frames import SeenFrames
from dgn_tf.hand_fit.skeleton import Poses, moved
from dgn_tf.hand_fit.user_shape import ShapeBias, ShapeFit, learn_bias
from dgn_tf.losses import data_terms, multi_view
from dgn_tf.template import load_template
from tests.tiny_template import tiny_template


@pytest.fixture(scope="module")
def template():
    return load_template()


@pytest.fixture(scope="module")
def every_shape(template):
    return shapes.shapes_of(template)


def drawn_poses(template, count, seed, bend=1.0):
    """Hands 600 mm before the camera, angles within the limits."""
    rng = np.random.default_rng(seed)
    limits = np.asarray(template.joint_limits, np.float64)
    share = rng.uniform(0.5 - bend / 2, 0.5 + bend / 2, [count, len(limits), 3])
    angles = limits[..., 0] + share * (limits[..., 1] - limits[..., 0])
    angles[:, 0] = 0
    rotation = kinematics.rotation_from_angles(tf.constant(rng.uniform(-1, 1, [count, 3])))
    return Poses(
        rotation.numpy(),
        [0, 0, 600] + rng.normal(scale=30, size=[count, 3]),
        angles,
        np.zeros([count, 0]),
    )


def test_a_shaped_hand_moves_as_its_personal_template(template, every_shape):
    rng = np.random.default_rng(0)
    coefficients = rng.normal(size=len(every_shape.names))
    personal = shapes.personal_template(template, every_shape, coefficients, 9)
    poses = drawn_poses(template, 2, 1)
    transforms, vertices = ShapeFit(template, every_shape).posed(coefficients, poses)
    offset = kinematics.local_from_global(
        tf.constant(transforms), personal.bone_from_template, personal.parents
    )[:, 1:, :3, 3]
    np.testing.assert_allclose(offset, np.zeros_like(offset), atol=2e-3)  # mm: no joint slips
    angles = kinematics.joint_angles(
        tf.constant(transforms), personal.bone_from_template, personal.parents
    )
    np.testing.assert_allclose(angles[:, 1:], poses.angles[:, 1:], atol=1e-4)
    wanted = kinematics.skin(tf.constant(transforms), personal.vertices, personal.skinning_weights)
    np.testing.assert_allclose(vertices, wanted, atol=2e-3)


def test_joints_are_alike_in_both_forms(template, every_shape):
    """`posed_joints` in TensorFlow against the compiled hand, of any shape."""
    rng = np.random.default_rng(3)
    coefficients = rng.normal(size=len(every_shape.names))
    poses = drawn_poses(template, 3, 2)
    transforms, _ = ShapeFit(template, every_shape).posed(coefficients, poses)
    own = shapes.joints_of(shapes.personal_template(template, every_shape, coefficients, 1))
    wanted = np.einsum("npij,pj->npi", transforms[..., :3, :3], own) + transforms[..., :3, 3]
    bones, parents = template.bone_from_template, np.asarray(template.parents)
    found = skeleton.posed_joints(
        tf.constant(poses.angles), np.tile(coefficients, [3, 1]), every_shape.joints, bones, parents
    )
    found = np.einsum("nij,npj->npi", poses.rotation, found)
    off = (found - found[:, :1]) - (wanted - wanted[:, :1])
    assert np.abs(off).max() < 1e-3  # mm


def test_rows_are_the_derivatives_of_the_vertices():
    """Of blended vertices, with a part's own scale and the shapes."""
    tiny = tiny_template()
    every = shapes.shapes_of(tiny)
    hand = skeleton.skeleton(
        tiny,
        tiny.vertices,
        tiny.skinning_weights,
        every.joints,
        every.vertices,
        (tiny.part_names[0], tiny.part_names[2]),
    )
    poses = drawn_poses(tiny, 1, 2)._replace(log_scales=np.array([[0.1, -0.2]]))
    pose, count = hand.sizes
    shape, posed = np.full(count, 0.3), skeleton.room(hand)
    _, points = skeleton.posed_hands(hand, shape, *poses, posed)
    rows = np.empty([points.shape[1], 3, pose + count])
    for v in range(len(rows)):
        skeleton.fill_rows(hand, posed, v, rows[v])
    step = 1e-5
    for column in range(pose + count):
        change = np.zeros([1, pose + count])
        ends = []
        for change[0, column] in (-step, step):
            there = moved(poses, change[:, :pose])
            ends.append(skeleton.posed_hands(hand, shape + change[0, pose:], *there, posed)[1][0])
        np.testing.assert_allclose(rows[..., column], (ends[1] - ends[0]) / (2 * step), atol=1e-5)


def seen_of(fitter, poses, shape, noise, seed):
    """Frames as they would be read, of a tiny hand: every vertex that faces the camera a pixel."""
    rng = np.random.default_rng(seed)
    vertices = np.float32(fitter.posed(shape, poses)[1])
    count, size = len(vertices), 8
    sampled = vertices + rng.normal(scale=noise, size=vertices.shape).astype(np.float32)
    template = fitter._template
    fitted = fit_similarity(
        tf.constant(sampled), template.vertices, template.skinning_weights
    ).numpy()
    around = data_terms.faces_of_vertices(template.faces, vertices.shape[1])
    facing = data_terms.facing(
        vertices, data_terms.vertex_normals(vertices, template.faces, around)
    ).numpy()
    index = np.tile(np.arange(vertices.shape[1], dtype=np.int32), [count, 1])
    depth = np.full([count, size, size], 500, np.float32)  # before every vertex: none is lost
    return SeenFrames(
        fitted,
        sampled,
        vertices,
        facing,
        index,
        depth,
        np.tile(np.float32([8, 8, 4, 4]), [count, 1]),
        np.ones(count, np.float32),
    )


def test_the_right_hand_side_falls_down_the_energy():
    """J^T W r is minus the energy's gradient, matches and limits included."""
    weights = FitWeights(sliding=1.0, lifting=0.4, sampled=0.2, limits=3.0)
    fitter = ShapeFit(tiny_template(), shapes.shapes_of(tiny_template()), weights)
    shape = np.zeros(fitter.hand.shape_joints.shape[-1])
    seen = seen_of(fitter, drawn_poses(tiny_template(), 1, 3), shape, 4.0, 4)
    seen = seen._replace(depth=np.zeros_like(seen.depth))  # every vertex looks through
    poses = drawn_poses(tiny_template(), 1, 5)
    poses = poses._replace(place=seen.sampled.mean(axis=1) + 4.0, angles=poses.angles + 0.4)
    frames = SeenFrame(*(getattr(seen, name) for name in SeenFrame._fields))
    _, right, _ = fitter.equations(shape, poses, frames)
    step = 1e-6
    slope = np.zeros(right.shape[1])
    for column in range(len(slope)):
        change = np.zeros([1, len(slope)])
        ends = []
        for change[0, column] in (-step, step):
            pose = len(slope) - len(shape)
            there = moved(poses, change[:, :pose])
            ends.append(fitter.equations(shape + change[0, pose:], there, frames)[2][0])
        slope[column] = (ends[1] - ends[0]) / (2 * step)
    np.testing.assert_allclose(right[0], -slope, rtol=2e-3, atol=2e-3 * np.abs(slope).max())


def test_eliminated_poses_give_the_solution_of_the_whole_system():
    rng = np.random.default_rng(6)
    frames, pose, shapes_count = 3, 9, 2
    jacobian = rng.normal(size=[frames, 40, pose + shapes_count])
    square = np.swapaxes(jacobian, 1, 2) @ jacobian
    right = rng.normal(size=[frames, pose + shapes_count])
    shape, trust = rng.normal(size=shapes_count), np.array([0.5, 1.0, 0.2])
    damping = rng.uniform(0.1, 0.2, pose)
    now = solver.Equations(square, right, np.zeros(frames))
    change, more = solver._solved(now, shape, damping, np.zeros(frames), trust)
    share = trust / trust.sum()
    whole = np.zeros([frames * pose + shapes_count] * 2)
    wanted = np.zeros(len(whole))
    for n in range(frames):
        own = slice(n * pose, (n + 1) * pose)
        part = share[n] * (square[n] + np.diag(np.append(damping, np.zeros(shapes_count))))
        whole[own, own] = part[:pose, :pose]
        whole[own, -2:], whole[-2:, own] = part[:pose, pose:], part[pose:, :pose]
        whole[-2:, -2:] += part[pose:, pose:]
        wanted[own] = share[n] * right[n, :pose]
        wanted[-2:] += share[n] * right[n, pose:]
    whole[-2:, -2:] += solver._SHAPE_PRIOR * np.eye(shapes_count)
    wanted[-2:] -= solver._SHAPE_PRIOR * shape
    solved = np.linalg.solve(whole, wanted)
    np.testing.assert_allclose(more, solved[-2:], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(change.ravel(), solved[:-2], rtol=1e-9, atol=1e-12)


def test_the_joint_fit_finds_the_shape_and_its_energy_falls():
    template = tiny_template()
    every = shapes.shapes_of(template)
    weights = FitWeights(lifting=1.0, sampled=0.0)
    fitter = ShapeFit(template, every, weights)
    true = np.zeros(len(every.names))
    true[[0, 2]] = 1.5, -1.0
    seen = seen_of(fitter, drawn_poses(template, 5, 4), true, 3.0, 5)
    fitted = fitter(seen, 12)
    assert fitted.energy[:, 1].mean() < 0.3 * fitted.energy[:, 0].mean()
    found = fitter.posed(fitted.shape, fitted.poses)[1]
    assert np.linalg.norm(found - seen.points, axis=-1).mean() < 1.0  # mm
    held = fitter(seen, 10, shape=true)
    np.testing.assert_array_equal(held.shape, true)
    assert (held.energy[:, 1] <= held.energy[:, 0]).all()
    _, _, again = fitter.equations(
        true, held.poses, SeenFrame(*(getattr(seen, name) for name in SeenFrame._fields))
    )
    np.testing.assert_allclose(again, held.energy[:, 1])  # the poses kept are those of the energy


def test_only_vertices_that_the_camera_looks_through_are_outside():
    depth = np.zeros([4, 4], np.float32)
    depth[1, 1], depth[1, 2], depth[2, 1] = 600, 620, 590
    frame = depth, np.float32([600, 600, 0, 0])
    at = {  # column and row of a vertex 600 mm away
        (0, 0): True,  # nothing measured
        (1, 1): False,  # the surface itself
        (2, 1): True,  # 20 mm behind it
        (1, 2): False,  # hidden by what is before it
        (5, 1): False,  # beyond the crop
    }
    for (column, row), wanted in at.items():
        assert multi_view.looked_through(*frame, np.array([column, row, 600.0])) == wanted


def test_each_stretch_lengthens_its_own_bone_alone(template, every_shape):
    lengths = shapes.bone_lengths(template)
    for row, name in enumerate(every_shape.names):
        if not name.endswith(" length"):
            continue
        one = np.eye(len(every_shape.names))[row]
        ratio = (
            shapes.bone_lengths(shapes.personal_template(template, every_shape, one, 1)) / lengths
        )
        above = template.part_names.index(name.removesuffix(" length"))
        own = np.asarray(template.parents)[1:] == above
        np.testing.assert_allclose(ratio[own], 1 + shapes.STRETCH_SIGMA, atol=1e-4)
        np.testing.assert_allclose(ratio[~own], 1, atol=1e-4)


def test_a_personal_template_is_saved_read_and_known(template, every_shape, tmp_path):
    personal = shapes.personal_template(template, every_shape, np.ones(25) / 2, 12)
    personal.save(tmp_path / "me.npz")
    again = load_template(tmp_path / "me.npz")
    assert again.hash == personal.hash != template.hash
    assert template.hash in again.source and "12 frames" in again.source
    assert shapes.is_shape_of(again, template)
    moved = dataclasses.replace(again, joint_limits=again.joint_limits * 1.1)
    assert not shapes.is_shape_of(moved, template)


def test_frames_without_a_hand_are_refused(monkeypatch):
    template = tiny_template()
    monkeypatch.setattr(user_shape, "_MIN_PIXELS", 20)  # the tiny hand has few vertices
    fitter = ShapeFit(template, shapes.shapes_of(template))
    shape = np.zeros(fitter.hand.shape_joints.shape[-1])
    seen = seen_of(fitter, drawn_poses(template, 6, 4), shape, 1.0, 5)
    assert len(user_shape.choose(seen, 0, "x").depth) == 6
    assert len(user_shape.choose(seen, 5, "x").depth) == 5
    lost = seen._replace(counted=seen.counted & (np.arange(6) > 2)[:, None])
    with pytest.raises(InputError, match=r"me: 3 of 6 frames show a hand .* record more"):
        user_shape.choose(lost, 0, "me")
    seen.sampled[:3] = np.nan
    with pytest.raises(InputError, match="3 of 6 frames"):
        user_shape.choose(seen, 0, "me")


def test_a_bias_that_is_linear_is_undone_on_other_users(tmp_path):
    rng = np.random.default_rng(8)
    matrix, offset = np.eye(4) * 0.7 + 0.1, np.array([0.2, 0, -0.1, 0])
    true = rng.uniform(-2, 2, [200, 4])
    fitted = true @ matrix + offset
    bias = learn_bias(fitted, true, ("a", "b", "c", "d"), "f00", 48)
    other = rng.uniform(-2, 2, [20, 4])
    seen = other @ matrix + offset
    off = np.abs(bias(seen) - other).max()
    assert off < 0.02 and off < 0.05 * np.abs(seen - other).max()
    bias.save(tmp_path / "bias.npz")
    again = ShapeBias.load(tmp_path / "bias.npz", ("a", "b", "c", "d"), "f00")
    np.testing.assert_array_equal(again(seen), bias(seen))
    assert [file.name for file in tmp_path.iterdir()] == ["bias.npz"]
    with pytest.raises(InputError, match="belongs to other weights or shapes; make it anew"):
        ShapeBias.load(tmp_path / "bias.npz", ("a", "b", "c", "d"), "bad")
    (tmp_path / "bias.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="can't be read.*learn_shape_bias"):
        ShapeBias.load(tmp_path / "bias.npz", ("a", "b", "c", "d"), "f00")
