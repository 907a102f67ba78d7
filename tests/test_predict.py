import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import trimesh
from absl import flags
from PIL import Image

import dgn_tf
from dgn_tf.errors import InputError
from dgn_tf.geometry import mirror
from dgn_tf.predictor import NoHandError
from tests.exported_model import INTRINSICS, SIZE, blob_frame, exported_model

K, UNIT = "300,300,160,120", "--depth_unit=0.125"


@pytest.fixture(scope="module")
def predictor():
    return dgn_tf.HandMeshPredictor(exported_model(), INTRINSICS)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    for index in range(2):
        frame = blob_frame(u=150 + 20 * index)
        Image.fromarray((frame * 8).astype(np.uint16)).save(folder / f"frame{index}.png")
    return folder


def run(output, *arguments):
    """Runs the module's main in this process; later flags replace earlier ones."""
    from dgn_tf import predict

    flags.FLAGS.unparse_flags()
    flags.FLAGS(
        [
            "predict",
            f"--saved_model={exported_model()}",
            f"--intrinsics={K}",
            f"--output_dir={output}",
            *arguments,
        ]
    )
    predict.main([])


def command(output, *arguments):
    """Runs `python -m dgn_tf.predict` as a user would."""
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "dgn_tf.predict",
            f"--saved_model={exported_model()}",
            f"--intrinsics={K}",
            f"--output_dir={output}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parents[1],
    )


def test_writes_mesh_key_points_and_picture_of_each_frame(checkout, frames, tmp_path):
    result = command(tmp_path / "a" / "b", f"--depth={frames}/*.png", "--depth_unit=0.125")
    assert result.returncode == 0, result.stderr
    written = sorted(file.name for file in (tmp_path / "a" / "b").iterdir())
    assert written == [f"frame{i}.{end}" for i in (0, 1) for end in ("json", "ply", "png")]
    description = json.loads((tmp_path / "a" / "b" / "frame0.json").read_text())
    names = list(description["keypoints_mm"])
    assert len(names) == 36 and names[0] == "F1_KNU3_A" and names[-1] == "PALM_6"
    assert np.shape(list(description["keypoints_mm"].values())) == (36, 3)
    assert np.shape(list(description["transforms"].values()))[1:] == (4, 4)
    assert set(description["transforms"]) == set(description["joint_angles_rad"])
    page = (checkout / "docs" / "results.md").read_text().partition("## The JSON file")[2]
    table = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", table)) == set(description), "docs/results.md"
    assert description["unit"] == "mm" and 0 <= description["confidence"] <= 1
    mesh = trimesh.load(tmp_path / "a" / "b" / "frame0.ply", process=False)
    assert len(mesh.vertices) == len(description["confidence_vertices"])
    with Image.open(tmp_path / "a" / "b" / "frame0.png") as picture:
        assert picture.width == 1200


@pytest.mark.parametrize("format", ["obj", "glb"])
def test_writes_other_mesh_formats(format, frames, tmp_path):
    run(tmp_path, f"--depth={frames}/frame0.png", UNIT, f"--format={format}")
    assert {file.suffix for file in tmp_path.iterdir()} == {f".{format}", ".json", ".png"}


def test_reads_nyu_frames(tmp_path):
    frame = blob_frame().astype(int)
    coded = np.where(frame > 0, frame, 2001)
    pixels = np.stack([0 * coded, coded // 256, coded % 256], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "nyu.png")
    run(tmp_path / "out", f"--depth={tmp_path}/nyu.png", "--encoding=nyu")
    assert (tmp_path / "out" / "nyu.ply").exists()


def test_a_wrong_call_prints_one_line_and_writes_nothing(frames, tmp_path):
    cases = [
        ([f"--depth={frames}/*.png"], "--depth_unit is missing"),
        ([f"--depth={frames}/*.png", "--encoding=u8"], "--encoding=u8"),
        ([f"--depth={tmp_path}/*.png", "--depth_unit=1"], "matches no file"),
        (["--depth_unit=1"], "depth"),
    ]
    for arguments, message in cases:
        result = command(tmp_path / "out", *arguments)
        assert result.returncode == 1 and result.stdout == ""
        assert message in result.stderr and result.stderr.count("\n") == 1, result.stderr
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--intrinsics=300,300,160", "--intrinsics=300,300,160 must be 4 numbers"),
        ("--intrinsics=300,x,160,120", "must be 4 numbers, fx,fy,cx,cy"),
        ("--intrinsics=300,-1,160,120", "positive"),
        ("--intrinsics=300,nan,160,120", "positive"),
        ("--intrinsics=600,600,320,240", "not near the middle"),
        ("--intrinsics=150,150,80,60", "not near the middle"),
        ("--depth_unit=100.0", "check --depth_unit"),
        ("--depth_unit=1e-3", "check --depth_unit"),
        ("--depth_unit=-1.0", "not in"),
        ("--center_mm=1,2", "--center_mm=1,2 must be 3 numbers"),
        ("--center_mm=0,0,-500", "z at least 10"),
        ("--center_mm=0,0,5000", "check --center_mm"),
        ("--saved_model=nowhere", "no such folder"),
    ],
)
def test_wrong_values_are_refused_and_nothing_is_written(change, message, frames, tmp_path):
    with pytest.raises(InputError, match=message):
        run(tmp_path / "out", f"--depth={frames}/*.png", UNIT, change)
    assert not (tmp_path / "out").exists()


def test_one_bad_frame_among_good_ones_leaves_no_output(frames, tmp_path):
    for file in frames.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    Image.fromarray(np.zeros([240, 320], np.uint16)).save(tmp_path / "zzz.png")
    with pytest.raises(InputError, match=r"zzz\.png has no pixel with depth"):
        run(tmp_path / "out", f"--depth={tmp_path}/*.png", UNIT)
    assert not (tmp_path / "out").exists()
    speck = np.zeros([240, 320], np.uint16)
    speck[100, 100] = 4000  # good enough to read, no hand: found out after the first frames
    Image.fromarray(speck).save(tmp_path / "zzz.png")
    with pytest.raises(InputError, match=r"zzz\.png: no hand was found"):
        run(tmp_path / "out", f"--depth={tmp_path}/*.png", UNIT)
    assert not (tmp_path / "out").exists()


def test_frames_without_a_hand_can_be_left_out(frames, tmp_path, capsys):
    for file in frames.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    speck = np.zeros([240, 320], np.uint16)
    speck[100, 100] = 4000
    Image.fromarray(speck).save(tmp_path / "zzz.png")
    with pytest.raises(InputError, match="no hand was found.* --skip_without_hand leaves it out"):
        run(tmp_path / "out", f"--depth={tmp_path}/*.png", UNIT)
    run(tmp_path / "out", f"--depth={tmp_path}/*.png", UNIT, "--skip_without_hand")
    stems = {file.stem for file in (tmp_path / "out").iterdir()}
    assert stems == {file.stem for file in frames.iterdir()}
    assert "left out, no hand found: " + str(tmp_path / "zzz.png") in capsys.readouterr().out
    with pytest.raises(InputError, match="no hand was found in any of the 1 frames"):
        run(tmp_path / "none", f"--depth={tmp_path}/zzz.png", UNIT, "--skip_without_hand")
    assert not (tmp_path / "none").exists()


def test_results_of_an_earlier_run_survive_a_failure(frames, tmp_path):
    run(tmp_path, f"--depth={frames}/frame0.png", UNIT)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(InputError):
        run(tmp_path, f"--depth={frames}/frame0.png", UNIT, "--center_mm=0,0,5000")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_frames_that_would_overwrite_each_other_are_refused(frames, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes((frames / "frame0.png").read_bytes())
    with pytest.raises(InputError, match="both be written"):
        run(tmp_path / "out", f"--depth={tmp_path}/*/x.png", UNIT)


def test_an_output_folder_that_is_a_file_or_read_only_is_refused(frames, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        run(tmp_path / "file", f"--depth={frames}/*.png", UNIT)
    with pytest.raises(InputError, match="can't be written"):
        run(tmp_path / "file" / "below", f"--depth={frames}/*.png", UNIT)
    if os.geteuid():  # root may write anywhere
        tmp_path.chmod(0o500)
        with pytest.raises(InputError, match="can't be written"):
            run(tmp_path / "out", f"--depth={frames}/*.png", UNIT)


def test_the_predictor_returns_a_mesh(predictor):
    mesh = predictor(blob_frame())
    assert mesh.vertices.shape == mesh.vertices_sampled.shape and mesh.hand == "right"
    assert mesh.faces.max() < len(mesh.vertices) == len(mesh.confidence)
    assert mesh.keypoints.shape == (36, 3) == (len(mesh.keypoint_names), 3)
    assert mesh.mesh_coords.shape == (SIZE, SIZE, 2)
    assert all(
        np.isfinite(value).all()
        for value in dataclasses.asdict(mesh).values()
        if isinstance(value, np.ndarray)
    )


def test_the_predictor_takes_integers_and_a_call_may_override_its_defaults(predictor):
    frame = np.round(blob_frame())
    expected = predictor(frame)
    np.testing.assert_allclose(
        predictor(frame.astype(np.uint16)).vertices, expected.vertices, atol=1e-3
    )
    moved = predictor(frame, intrinsics=(300, 300, 150, 120))
    assert abs(moved.centre[0] - expected.centre[0]) > 5
    given = predictor(frame, centre_mm=expected.centre)
    np.testing.assert_allclose(given.vertices, expected.vertices, atol=2e-2)


def test_a_left_hand_has_outward_faces_and_a_mirrored_mesh(predictor):
    frame = blob_frame()
    right = predictor(frame)
    left = predictor(frame[:, ::-1], (300, 300, 319 - 160, 120), hand="left")
    assert left.hand == "left" and (left.faces != right.faces).any()
    volume = [trimesh.Trimesh(m.vertices, m.faces, process=False).volume for m in (left, right)]
    assert np.sign(volume[0]) == np.sign(volume[1])
    np.testing.assert_array_equal(left.vertices, mirror.mirror_points(right.vertices))
    assert right.to_json()["hand"] == "right" and left.to_json()["hand"] == "left"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame * np.nan, "NaN"),
        (lambda frame: np.where(frame > 0, frame, np.inf), "infinite"),
        (lambda frame: frame - 1, "negative"),
        (lambda frame: frame * 0, "no pixel with depth"),
        (lambda frame: frame[None], "shape"),
        (lambda frame: frame[:0], "shape"),
        (lambda frame: frame > 0, "dtype bool"),
        (lambda frame: frame.astype(str), "dtype"),
        (lambda frame: frame[:100, :100] + 500, "principal point"),
        (lambda frame: frame * 50, "no hand was found"),
    ],
)
def test_the_predictor_refuses_frames_it_cannot_mean(change, message, predictor):
    with pytest.raises(InputError, match=message) as error:
        predictor(change(blob_frame()), name="frame 7")
    assert "frame 7" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"intrinsics": (1, 2, 3)}, "four numbers"),
        ({"intrinsics": "abcd"}, "four numbers"),
        ({"intrinsics": (0, 1, 2, 3)}, "positive"),
        ({"centre_mm": (0, 0)}, "x, y, z"),
        ({"centre_mm": (0, 0, np.nan)}, "x, y, z"),
        ({"hand": "both"}, "right, left, auto"),
    ],
)
def test_the_predictor_refuses_bad_arguments(arguments, message, predictor):
    with pytest.raises(InputError, match=message):
        predictor(blob_frame(), **arguments)


@pytest.mark.parametrize("centre", [None, (10.0, -10.0, 600.0)])
def test_auto_takes_the_hand_that_lies_nearer_to_the_points(centre, predictor, monkeypatch):
    from dgn_tf import predictor as module

    frame, off = blob_frame(), []
    residual = module.residual
    monkeypatch.setattr(module, "residual", lambda *args: off.append(residual(*args)) or off[-1])
    auto = predictor(frame, centre_mm=centre, hand="auto")
    assert len(off) == 2 and off[0] != off[1]  # the left hand's, then the right one's
    assert auto.hand == ("left" if off[0] < off[1] else "right")
    alone = predictor(frame, centre_mm=auto.centre, hand=auto.hand)
    np.testing.assert_allclose(auto.vertices, alone.vertices, atol=2e-2)


def test_the_residual_is_the_points_distance_from_the_mesh():
    from dgn_tf.predictor import _crop_points, residual

    frame = blob_frame()
    valid = np.zeros([4, 4], bool)
    valid[1, 2] = valid[3, 0] = True
    outputs = {"valid": valid, "crop_intrinsics": np.float32([300, 300, 1, 2])}
    z = frame[[119, 121], [161, 159]]
    points = np.array([[1 / 300, -1 / 300, 1], [-1 / 300, 1 / 300, 1]]) * z[:, None]
    outputs["vertices"] = points + [0, 0, 6]
    assert residual(outputs["vertices"], _crop_points(outputs, frame, INTRINSICS)) == pytest.approx(
        6, abs=0.5
    )
    outputs["vertices"] = points + [0, 0, 600]
    assert residual(outputs["vertices"], _crop_points(outputs, frame, INTRINSICS)) == 15
    assert (
        residual(outputs["vertices"], _crop_points(outputs, np.zeros_like(frame), INTRINSICS)) == 15
    )  # nothing to compare with


def test_intrinsics_must_come_from_somewhere():
    with pytest.raises(InputError, match="intrinsics are missing"):
        dgn_tf.HandMeshPredictor(exported_model())(blob_frame())


@pytest.mark.parametrize("module", ["predict", "export", "serving_client"])
def test_importing_the_package_and_what_one_runs_loads_no_tensorflow(module):
    script = (
        f"import sys, dgn_tf, dgn_tf.{module}; "
        "sys.exit(bool({'tensorflow', 'trimesh', 'numba'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def two_hands(tmp_path):
    """A frame with two hands and one with one."""
    left, right = blob_frame(u=80), blob_frame(u=240)
    both = np.where(left > 0, left, right)
    for name, frame in (("both", both), ("one", left)):
        Image.fromarray((frame * 8).astype(np.uint16)).save(tmp_path / f"{name}.png")
    return both


def test_two_hands_a_frame_are_written_apart(tmp_path, capsys):
    two_hands(tmp_path)
    table = tmp_path / "table.csv"
    run(tmp_path / "out", f"--depth={tmp_path}", UNIT, "--max_hands=2", f"--table={table}")
    names = ("both_0", "both_1", "one_0")
    written = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert written == [f"{name}.{end}" for name in names for end in ("json", "ply", "png")]
    places = [
        json.loads((tmp_path / "out" / f"{name}.json").read_text())["centre_mm"][0]
        for name in ("both_0", "both_1")
    ]
    np.testing.assert_allclose(sorted(places), [-160, 160], atol=20)
    assert table.read_text().count("\n") == 4


def test_all_hands_of_a_frame(predictor, tmp_path):
    hands = predictor.all_hands(two_hands(tmp_path), hand="left")
    assert [hand.hand for hand in hands] == ["left", "left"]
    speck = np.zeros([240, 320])
    speck[100, 100] = 600.0
    with pytest.raises(NoHandError, match="no hand was found"):
        predictor.all_hands(speck)


def test_several_hands_go_without_a_centre_or_a_users_template(tmp_path, frames):
    for flag in ("--center_mm=0,0,600", "--user_template=x.npz"):
        with pytest.raises(InputError, match="--max_hands=2 goes without"):
            run(tmp_path, f"--depth={frames}", UNIT, "--max_hands=2", flag)
