"""What the rig's converter refuses: one line that names file or flag and the remedy."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from data_prep import rig_frames, rig_to_tfrecord
from dgn_tf.errors import InputError
from tests.data_prep import ball_rig
from tests.data_prep.nyu_folder import contents

CAMERAS = ("cam1", "cam2", "cam3")
STEPS = 3


def convert(rig, output, frames=CAMERAS, **settings):
    return rig_to_tfrecord.convert_rig(**ball_rig.arguments(rig, output, frames, **settings))


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    return ball_rig.write_rig(tmp_path_factory.mktemp("rig") / "data", STEPS)


@pytest.fixture
def copy(rig, tmp_path):
    return pathlib.Path(shutil.copytree(rig, tmp_path / "rig"))


def _remove_folder(rig):
    shutil.rmtree(rig / "cam2")


def _empty_folder(rig):
    _remove_folder(rig)
    (rig / "cam2").mkdir()


def _remove_frame(rig):
    (rig / "cam2" / "frame9.png").unlink()


def _rename_camera(rig):
    for path in (rig / "cam3").iterdir():
        path.rename(path.with_name(f"other_{path.name}"))


def _image(pixels):
    def spoil(rig):
        Image.fromarray(pixels).save(rig / "cam2" / "frame8.png")

    return spoil


def _cut(rig):
    path = rig / "cam1" / "frame8.png"
    path.write_bytes(path.read_bytes()[:300])


def _calibration(change):
    def spoil(rig):
        values = ball_rig.calibration()
        change(values)
        (rig / "calibration.json").write_text(json.dumps(values))

    return spoil


def _two(values):
    values["camera_from_camera1"] = values["camera_from_camera1"][:2]


def _four(values):
    values["camera_from_camera1"].append(np.eye(4).tolist())


def _four_intrinsics(values):
    values["intrinsics"].append(values["intrinsics"][0])


def _scale(values):
    values["camera_from_camera1"][1][0][0] *= 1.1


def _mirror(values):
    row = values["camera_from_camera1"][2][0]
    values["camera_from_camera1"][2][0] = [-value for value in row]


def _no_matrices(values):
    del values["camera_from_camera1"]


def _other_size(values):
    values["intrinsics"] = {**values["intrinsics"][0], "width": 100}


WHOLE = (ball_rig.HEIGHT, ball_rig.WIDTH)


@pytest.mark.parametrize(
    ("spoil", "settings", "message"),
    [
        (_remove_folder, {}, "--frames=.*cam2: no such folder; name one folder"),
        (_empty_folder, {}, r"--frames=.*cam2: no \*.png there"),
        (
            _remove_frame,
            {},
            "cam2/frame9.png: no such file, but .*cam1 has that frame.*--skip_bad_f",
        ),
        (_remove_frame, {"sync": "order"}, "--sync=order .* 3 .*cam1., 2 .*cam2., 3 .*--sync=name"),
        (_rename_camera, {}, "no frame name is common .*'frame8'.*'other_frame8'.*--sync=order"),
        (
            _image(np.zeros(WHOLE, np.uint8)),
            {},
            "cam2/frame8.png is 8-bit grey, --frames wants 16-bit",
        ),
        (_image(np.zeros([*WHOLE, 3], np.uint8)), {}, "is 8-bit RGB.*data_prep.nyu_to_tfrecord"),
        (
            _image(np.zeros([9, 12], np.uint16)),
            {},
            "frame8.png has 12 x 9 pixels, wanted 320 x 240.*--calibration",
        ),
        (_cut, {}, "cam1/frame8.png .*copy or record the frame again"),
        (_calibration(_two), {}, r"is \[2, 4, 4\], wanted \[3, 4, 4\].*one matrix for each camera"),
        (
            _calibration(_four),
            {},
            r"is \[4, 4, 4\], wanted \[3, 4, 4\].*one matrix for each camera",
        ),
        (_calibration(_four_intrinsics), {}, "intrinsics of 4 cameras, wanted one for all or 3"),
        (
            _calibration(_scale),
            {},
            "calibration.json: camera_from_camera1 of camera 2 is not rigid",
        ),
        (_calibration(_mirror), {}, "camera_from_camera1 of camera 3 is left-handed"),
        (_calibration(_no_matrices), {}, "has no 'camera_from_camera1'"),
        (_calibration(_other_size), {}, "principal point .* outside of frames of 100 x 240"),
        (None, {"calibration": "none.json"}, "--calibration=none.json: can't be read"),
        (None, {"depth_unit": 0.0}, "--depth_unit=0 is not in"),
        (None, {"frames": ("cam1", "cam1", "cam3")}, "frame8.png: a frame of two cameras"),
        (None, {"frames": ("cam1", "cam2/*e*.png", "cam3")}, "1 .*cam1., 2 .*cam2.*--sync=order"),
        (
            None,
            {"frames": ("cam1", "cam2/frame8.png", "cam3")},
            "frame8.png: a file; name one folder",
        ),
        (None, {"center": "file"}, "--center=file wants --center_file"),
        (
            None,
            {"center": "file", "center_file": "c.txt"},
            "c.txt is one file for 3 .*write {camera}",
        ),
        (None, {"center": "file", "center_file": "c{camera}"}, "--center_file=c1: can't be read"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(copy, tmp_path, spoil, settings, message):
    if spoil:
        spoil(copy)
    with pytest.raises(InputError, match=message) as error:
        convert(copy, tmp_path / "out", **settings)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_bad_frame_in_the_middle_is_named_and_another_rigs_records_are_refused(copy, tmp_path):
    bad = copy / "cam2" / "frame10.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:300])
    with pytest.raises(InputError, match="cam2/frame10.png .*--skip_bad_frames") as error:
        convert(copy, tmp_path / "out", steps_per_shard=1)
    assert "\n" not in str(error.value)
    assert len(list((tmp_path / "out" / "train").glob("*.tfrecord"))) == 2
    bad.write_bytes(whole)
    convert(copy, tmp_path / "out", steps_per_shard=1)
    before = contents(tmp_path / "out" / "train")
    for settings, what in (({"depth_unit": 1.0}, "depth_unit_mm"), ({"cube_mm": 250.0}, "cube_mm")):
        with pytest.raises(InputError, match=f"other records .{what} differ.*--output_dir"):
            convert(copy, tmp_path / "out", steps_per_shard=1, must_fit=False, **settings)
    assert contents(tmp_path / "out" / "train") == before


def in_metres(transforms):
    transforms[:, :3, 3] /= 1000
    return transforms


def test_a_rig_that_does_not_fit_is_refused_before_anything_is_written(copy, tmp_path, capsys):
    values = ball_rig.calibration()
    transforms = in_metres(np.array(values["camera_from_camera1"]))
    values["camera_from_camera1"] = transforms.tolist()
    (copy / "calibration.json").write_text(json.dumps(values))
    with pytest.raises(
        InputError, match="hands of camera [23] lie .* in metres: give mm.*--nocheck_rig"
    ):
        convert(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    description = convert(copy, tmp_path / "out", must_fit=False)
    rig_to_tfrecord.report(description, tmp_path / "out", 1.0)
    told = capsys.readouterr().out
    assert f"{3 * STEPS} of {3 * STEPS} views" in told and "extrinsics: calibration" in told
    assert float(re.search("its centres lie ([0-9.]+) mm", told)[1]) > 100
    assert "is camera_from_camera1 inverted" in told


def test_a_pattern_with_brackets_or_a_folder_whose_name_has_them_is_understood(tmp_path):
    folder = tmp_path / "take[1]"
    folder.mkdir()
    for name in ("a10.png", "a9.png", "b1.png", "._a1.png", "a2.txt"):
        (folder / name).write_bytes(b"")
    assert list(rig_frames.find_frames(f"{folder}/").files) == [("a9",), ("a10",), ("b1",)]
    pattern = str(tmp_path / "take?1]" / "[!b]*.png")
    found = rig_frames.find_frames(pattern)
    assert list(found.files) == [("[", "a", "9"), ("[", "a", "10")]
    assert all(found.path(key) == path for key, path in found.files.items())
