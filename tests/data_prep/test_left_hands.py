"""--hand=left: a left hand's recording becomes the records of its mirror image, and says so."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from data_prep import rig_to_tfrecord
from dgn_tf.geometry import mirror
from dgn_tf.records import view_schema
from dgn_tf.records.batches import Batching
from dgn_tf.records.views import open_views, step_dataset
from tests.data_prep import ball_rig, nyu_folder
from tests.data_prep.nyu_folder import contents, read_records

STEPS = 3
MIRROR = {"left", "frame_width"}
CAMERAS = ("cam1", "cam2", "cam3")


def mirrored_calibration(calibration: dict, width: int) -> dict:
    """What a rig's file says when the cameras look into a mirror."""
    flipped = [{**one, "cx": width - 1 - one["cx"]} for one in calibration["intrinsics"]]
    sign = np.diag([-1.0, 1.0, 1.0, 1.0])
    transforms = sign @ np.array(calibration["camera_from_camera1"]) @ sign
    return {"intrinsics": flipped, "camera_from_camera1": transforms.tolist()}


def mirror_images(folder, names) -> None:
    for name in names:
        pixels = np.asarray(Image.open(folder / name))
        Image.fromarray(np.ascontiguousarray(pixels[:, ::-1])).save(folder / name)


def convert_rig(rig, output, **settings):
    return rig_to_tfrecord.convert_rig(**ball_rig.arguments(rig, output, CAMERAS, **settings))


def assert_equal_but_for_the_hand(left, right):
    assert len(left) == len(right) == STEPS
    for one, other in zip(left, right, strict=True):
        assert one["left"] == 1 and other["left"] == 0 and other["frame_width"] == 0
        for name in one.keys() - MIRROR - {"depth"}:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
        for depth, mirrored in zip(one["depth"], other["depth"], strict=True):
            np.testing.assert_array_equal(depth, mirrored)


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    return ball_rig.write_rig(tmp_path_factory.mktemp("left") / "rig", STEPS)


@pytest.fixture(scope="module")
def left_records(rig, tmp_path_factory):
    output = tmp_path_factory.mktemp("left_records")
    convert_rig(rig, output, hand="left")
    return output / "train"


def test_a_left_recording_gives_the_records_of_its_mirror_image(rig, left_records, tmp_path):
    copy = shutil.copytree(rig, tmp_path / "rig")
    mirror_images(
        copy, [f"{camera}/{name}" for camera in CAMERAS for name in ball_rig.names(STEPS)]
    )
    calibration = mirrored_calibration(ball_rig.calibration(), ball_rig.WIDTH)
    (copy / "calibration.json").write_text(json.dumps(calibration))
    description = convert_rig(copy, tmp_path / "out")
    assert description["hand"] == "right" and "left" not in description["features"]
    right = read_records(tmp_path / "out" / "train")
    assert_equal_but_for_the_hand(read_records(left_records), right)
    told = json.loads((left_records / "description.json").read_text())
    assert told["hand"] == "left" and told["features"]["left"] == "int64 []"
    for key in ("views", "centres_apart_mm", "keypoints_valid", "without_hand"):
        assert told[key] == description[key], key


def test_what_the_record_says_undoes_the_mirror(rig, left_records, tmp_path):
    convert_rig(rig, tmp_path)
    frames = [
        [np.asarray(Image.open(rig / camera / name)) for camera in CAMERAS]
        for name in ball_rig.names(STEPS)
    ]
    for step, seen in zip(read_records(left_records), frames, strict=True):
        assert step["frame_width"] == ball_rig.WIDTH
        back = view_schema.in_camera(step | {"depth": np.zeros(1)}, True, step["frame_width"])
        np.testing.assert_array_equal(back["intrinsics"], np.float32(ball_rig.INTRINSICS))
        np.testing.assert_array_equal(back["camera_from_rig"], np.float32(nyu_folder.rig()))
        for view, frame in enumerate(seen):
            left, top, width, height = step["window"][view]
            first = ball_rig.WIDTH - left - width
            part = frame[top : top + height, first : first + width]
            np.testing.assert_array_equal(mirror.mirror_image(step["depth"][view]), part)
    same = read_records(tmp_path / "train")[0]
    assert view_schema.in_camera(same, False, 0) is same


def test_the_mirrored_rig_is_one_rig(left_records):
    (batch,) = step_dataset(
        str(left_records), batching=Batching(batch_size=STEPS, shuffle=False, repeat=False)
    )
    batch = {name: value.numpy() for name, value in batch.items()}
    assert (batch["left"] == 1).all() and (batch["frame_width"] == ball_rig.WIDTH).all()
    for step, centre in enumerate(ball_rig.centres(STEPS)):
        for view in range(3):
            depth, (fx, fy, cx, cy) = batch["depth"][step, view], batch["intrinsics"][step, view]
            row, column = np.nonzero(depth)
            z = depth[row, column]
            points = np.stack([(column - cx) * z / fx, (row - cy) * z / fy, z], axis=-1)
            transform = batch["camera_from_rig"][step, view]
            in_rig = (points - transform[:3, 3]) @ transform[:3, :3]
            away = np.linalg.norm(in_rig - mirror.mirror_points(centre), axis=-1)
            assert len(points) > 200 and np.abs(away - ball_rig.RADIUS_MM).mean() < 0.6  # mm


@pytest.fixture(scope="module")
def left_nyu(tmp_path_factory):
    """A data set in NYU's layout, its calibration, and centres in the camera's frame."""
    folder = tmp_path_factory.mktemp("left_nyu")
    nyu_folder.write_nyu(folder / "nyu", STEPS, ("test",))
    camera = {"fx": 588.036865, "fy": 587.075073, "cx": 318.5, "cy": 240.0}
    calibration = {"intrinsics": [camera] * 3, "camera_from_camera1": nyu_folder.rig().tolist()}
    (folder / "rig.json").write_text(json.dumps(calibration))
    (folder / "mirrored.json").write_text(json.dumps(mirrored_calibration(calibration, 640)))
    for view, points in enumerate(nyu_folder.points(STEPS)):
        for name, sign in (("centres", 1.0), ("mirrored", -1.0)):
            lines = [f"{sign * x:.3f} {y:.3f} {z:.3f}\n" for x, y, z in points[:, 32]]
            (folder / f"{name}_{view + 1}.txt").write_text("".join(lines))
    return folder


@pytest.mark.parametrize("center", ["joint", "file"])
def test_labels_and_centres_are_mirrored_with_the_frames(left_nyu, convert, tmp_path, center):
    copy = shutil.copytree(left_nyu / "nyu", tmp_path / "nyu")
    mirror_images(
        copy / "test",
        [
            f"depth_{camera}_{index:07d}.png"
            for camera in (1, 2, 3)
            for index in range(1, STEPS + 1)
        ],
    )
    nyu_folder.write_labels(copy / "test", mirror.mirror_points(nyu_folder.points(STEPS)))
    given = {"center": center}
    files = [
        {"center_file": str(left_nyu / name)} if center == "file" else {}
        for name in ("centres_{camera}.txt", "mirrored_{camera}.txt")
    ]
    convert(
        left_nyu / "nyu",
        tmp_path / "left",
        hand="left",
        **given,
        **files[0],
        calibration=str(left_nyu / "rig.json"),
    )
    convert(
        copy, tmp_path / "right", **given, **files[1], calibration=str(left_nyu / "mirrored.json")
    )
    left = read_records(tmp_path / "left" / "test")
    assert_equal_but_for_the_hand(left, read_records(tmp_path / "right" / "test"))
    for step in left:
        back = view_schema.in_camera({"keypoints": step["keypoints"]}, True, 640)
        expected = nyu_folder.points(STEPS)[:, step["index"] - 1]
        np.testing.assert_allclose(back["keypoints"], expected, atol=1e-3)  # mm


def test_a_rig_found_from_labels_fits_the_mirrored_ones(left_nyu, convert, tmp_path):
    convert(left_nyu / "nyu", tmp_path, hand="left")
    for step in read_records(tmp_path / "test"):
        assert (step["intrinsics"][:, 2] == 319).all()  # 639 - 320
        transform = step["camera_from_rig"].astype(np.float64)
        moved = step["keypoints"] - transform[:, None, :3, 3]
        in_rig = np.einsum("cji,cki->ckj", np.swapaxes(transform[:, :3, :3], 1, 2), moved)
        assert np.ptp(in_rig, axis=0).max() < 0.01  # mm


def test_older_records_are_right_hands_and_their_folder_is_gone_on_with(rig, tmp_path):
    convert_rig(rig, tmp_path)
    folder = tmp_path / "train"
    file = folder / "description.json"
    told = json.loads(file.read_text())
    del told["hand"]
    file.write_text(json.dumps(told))
    (folder / sorted(contents(folder))[-1]).unlink()
    assert convert_rig(rig, tmp_path)["content_hash"] == told["content_hash"]
    file.write_text(json.dumps(told))
    assert "hand" not in open_views(str(folder)).description
    batch = next(
        iter(
            step_dataset(
                str(folder), batching=Batching(batch_size=STEPS, shuffle=False, repeat=False)
            )
        )
    )
    assert not batch["left"].numpy().any()


def test_a_folder_of_right_hands_does_not_become_one_of_left(rig, left_records):
    with pytest.raises(rig_to_tfrecord.InputError, match=r"other records \(hand differ\)"):
        convert_rig(rig, left_records.parent, hand="right")
