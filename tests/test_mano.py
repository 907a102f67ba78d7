"""MANO's parameters, by MANO's own formula: its joints stand where the hand's do."""

import dataclasses
import types

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_prep import mano, source_hand, template_assembly
from dgn_tf.animation.sequence import hand_sequence
from dgn_tf.errors import InputError
from dgn_tf.mano import mano_parameters
from dgn_tf.parameter_file import ParameterTable, read_parameters
from dgn_tf.parameters import MIRROR, posed_by
from dgn_tf.template import load_template
from tests import programs
from tests.data_prep import mano_file

FRAMES = 4


def file_arrays(side):
    """A file of MANO's structure, of a right or left hand, turned in its frame as MANO's is."""
    arrays = mano_file.model()
    rng = np.random.default_rng(11)
    arrays["hands_mean"] = rng.normal(0, 0.2, 45)
    turn = Rotation.from_rotvec([0.3, 1.4, -0.2]).as_matrix()
    mirror = np.diag([-1.0, 1, 1]) if side == "left" else np.eye(3)
    arrays["v_template"] = arrays["v_template"] @ turn.T @ mirror + [0.09, 0.006, 0.006]
    arrays["shapedirs"] = np.einsum("ij,vjk->vik", mirror @ turn, arrays["shapedirs"])
    if side == "left":
        arrays["f"] = arrays["f"][:, ::-1].copy()
    return arrays


@pytest.fixture(scope="module", params=["right", "left"])
def model(request, tmp_path_factory):
    """side, arrays, the file, and a template that was built of it."""
    side, folder = request.param, tmp_path_factory.mktemp("mano")
    arrays = file_arrays(side)
    file = folder / f"MANO_{side.upper()}.pkl"
    mano_file.write_pickle(file, arrays)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(template_assembly, "EMBEDDINGS", ("layered",))  # scaling takes seconds
        template = source_hand.build_template(mano.read_mano(file))
    template.save(folder / "mano.npz")
    return side, arrays, file, template


def posed_joints(arrays, orient, pose, betas, transl):
    """[16, 3] mm: MANO's joints by its own formula, from axis-angles with the mean added."""
    rest = arrays["J_regressor"] @ (arrays["v_template"] + arrays["shapedirs"] @ betas)
    turns = Rotation.from_rotvec(np.concatenate([orient, pose]).reshape(16, 3)).as_matrix()
    parents = arrays["kintree_table"][0].astype(np.int32)
    world = []
    for joint, parent in enumerate(parents):
        own = np.eye(4)
        own[:3, :3] = turns[joint]
        own[:3, 3] = rest[joint] - (rest[parent] if joint else 0)
        world.append(world[parent] @ own if joint else own)
    return (np.stack(world)[:, :3, 3] + transl) * 1000


def recording(template, side, file, shapes=True):
    """Writes a recording of one user's hand in random poses; joints [N, 16, 3] mm in MANO's order.

    The user's shape is within two deviations; parts turn about the joints of it.
    """
    rng = np.random.default_rng(7)
    count = len(template.part_names)
    shape = rng.uniform(-2, 2, len(template.shape_names)) * shapes
    bones = np.asarray(template.bone_from_template, np.float64)
    rest = np.linalg.inv(bones)[:, :3, 3]
    shaped = rest + np.tensordot(shape, template.shape_joints, 1)
    own = bones.copy()
    own[:, :3, 3] = -np.einsum("pij,pj->pi", bones[:, :3, :3], shaped)
    table, joints = ParameterTable(str(file), template), []
    for frame in range(FRAMES):
        local = np.tile(np.eye(4), [count, 1, 1])
        low, high = template.joint_limits[..., 0], template.joint_limits[..., 1]
        local[:, :3, :3] = Rotation.from_euler("XYZ", rng.uniform(low, high)).as_matrix()
        local[0, :3, :3] = Rotation.random(random_state=frame).as_matrix()
        local[0, :3, 3] = [20, -30, 500 + 10 * frame]
        moved = posed_by(local, own, template.parents)  # of the shaped hand
        placed = np.einsum("pij,pj->pi", moved[:, :3, :3], shaped) + moved[:, :3, 3]
        # The template's own transforms: its joints come to where the shaped hand's are.
        moved[:, :3, 3] = placed - np.einsum("pij,pj->pi", moved[:, :3, :3], rest)
        if side == "left":
            moved, placed = MIRROR @ moved @ MIRROR, placed * [-1, 1, 1]
        hand = types.SimpleNamespace(
            transforms=moved, part_names=template.part_names, hand=side, confidence=np.ones(1)
        )
        table.add(f"{frame}.png", "found", hand)
        joints.append(placed[[template.part_names.index(part) for part in mano.PARTS]])
    table.write()
    return np.stack(joints)


@pytest.mark.parametrize("flat", [True, False])
def test_manos_joints_so_posed_are_the_hands(model, tmp_path, capsys, flat):
    side, arrays, file, template = model
    joints = recording(template, side, tmp_path / "take.npz")
    programs.run(
        "dgn_tf.animate",
        f"--input={tmp_path / 'take.npz'}",
        f"--template={file.with_name('mano.npz')}",
        f"--mano={file}",
        f"--output={tmp_path / 'out.npz'}",
        "--flat_hand_mean" if flat else "--noflat_hand_mean",
    )
    found = np.load(tmp_path / "out.npz")
    assert bool(found["flat_hand_mean"]) is flat and str(found["hand"]) == side
    assert found["hand_pose"].shape == (FRAMES, 45) and found["betas"].shape == (10,)
    mean = 0 if flat else arrays["hands_mean"]
    for frame in range(FRAMES):
        told = posed_joints(
            arrays,
            found["global_orient"][frame],
            found["hand_pose"][frame] + mean,
            found["betas"],
            found["transl"][frame],
        )
        away = np.linalg.norm(told - joints[frame], axis=1)
        assert away.max() < 0.5  # mm
        np.testing.assert_allclose(away, found["error_mm"][frame], atol=1e-3)
    assert "MANO's joints, posed again, are off by 0." in capsys.readouterr().out


def test_another_templates_bones_take_its_directions(model, tmp_path):
    """The hand that ships, whose rest pose and proportions are others than the file's."""
    side, arrays, file, _ = model
    template = load_template()
    joints = recording(template, side, tmp_path / "take.json", shapes=False)
    sequence = hand_sequence(read_parameters(str(tmp_path / "take.json")), template)
    found = mano_parameters(sequence, file)
    for frame in range(FRAMES):
        told = posed_joints(
            arrays,
            found.global_orient[frame],
            found.hand_pose[frame],
            found.betas,
            found.transl[frame],
        )
        # The file's hand is a decimated MakeHuman hand: its fingertips, hence bends, differ.
        assert np.linalg.norm(told - joints[frame], axis=1).mean() < 2.0


def test_the_other_hands_file_and_other_outputs_are_refused(model, tmp_path):
    side, _, file, template = model
    other = "left" if side == "right" else "right"
    recording(template, other, tmp_path / "take.npz")
    take = f"--input={tmp_path / 'take.npz'}"
    flags = (take, f"--template={file.with_name('mano.npz')}")
    line = f"is a {side} hand, the recording shows a {other} one; give MANO_{other.upper()}"
    with pytest.raises(InputError, match=line):
        programs.run("dgn_tf.animate", *flags, f"--mano={file}", f"--output={tmp_path / 'a.npz'}")
    with pytest.raises(InputError, match="goes with --mano=MANO_RIGHT.pkl"):
        programs.run("dgn_tf.animate", *flags, f"--output={tmp_path / 'a.npz'}")
    with pytest.raises(InputError, match="goes with --mano=MANO_RIGHT.pkl"):
        programs.run("dgn_tf.animate", *flags, f"--mano={file}", f"--output={tmp_path / 'a.glb'}")


def test_a_file_without_a_mean_says_so(tmp_path):
    arrays = file_arrays("right")
    del arrays["hands_mean"]
    mano_file.write_npz(tmp_path / "MANO_RIGHT.npz", arrays)
    with pytest.raises(InputError, match="hands_mean can't be read .* --flat_hand_mean"):
        mano.read_hands_mean(tmp_path / "MANO_RIGHT.npz")


def test_a_template_without_manos_joints_is_refused(model, tmp_path):
    side, _, file, template = model
    recording(template, side, tmp_path / "take.npz")
    sequence = hand_sequence(read_parameters(str(tmp_path / "take.npz")), template)
    names = tuple(f"part{number}" for number in range(len(template.part_names)))
    other = sequence._replace(template=dataclasses.replace(template, part_names=names))
    with pytest.raises(InputError, match="has no index1, index2"):
        mano_parameters(other, file)
