import types

import numpy as np
import pytest
from PIL import Image

from dgn_tf import plausibility
from dgn_tf.cameras.camera import Camera
from dgn_tf.errors import InputError
from dgn_tf.frame_source import FrameSource
from tests.exported_model import INTRINSICS, blob_frame

SOURCE = FrameSource("u16", 0.125, Camera(tuple(map(float, INTRINSICS)), "--intrinsics"))


def steps():
    return (blob_frame() * 8).astype(np.uint16)


def save(folder, array):
    file = folder / "frame.png"
    Image.fromarray(array).save(file)
    return file


def test_a_frame_of_surfaces_is_not_warned_of(tmp_path):
    frame = SOURCE.read(save(tmp_path, steps()))
    assert not frame.warnings and not frame.camera_warnings
    assert plausibility.jumps(frame.depth) < 0.05


def test_swapped_bytes_are_refused_and_noise_is_warned_of(tmp_path):
    with pytest.raises(InputError, match="frame.png: the two bytes of its pixels are in the wrong"):
        SOURCE.read(save(tmp_path, steps().byteswap()))
    noise = np.random.default_rng(2).integers(0, 2**16, [240, 320], np.uint16)
    (warning,) = SOURCE.read(save(tmp_path, noise)).warnings
    assert "of neighbouring pixels jump by more than 50 mm" in warning


@pytest.mark.parametrize("stem", ["sr305/030", "kinect2/00000097", "fist_five/790471000"])
def test_frames_of_real_sensors_are_smooth_and_swapped_are_not(stem, shared_data):
    files = sorted((shared_data / "frames" / stem).parent.glob("*.png"))
    for file in files:
        with Image.open(file) as image:
            steps = np.asarray(image).astype(np.uint16)
        unit = 0.125 if "sr305" in stem else 1.0
        assert plausibility.check_bytes(steps * np.float32(unit), steps, file) == []
        with pytest.raises(InputError, match="wrong order"):
            swapped = steps.byteswap()
            plausibility.check_bytes(swapped * np.float32(unit), swapped, file)


@pytest.mark.parametrize(
    ("intrinsics", "line"),
    [
        ((475, 475, 319.5, 239.5), None),
        ((504, 504, 320, 333), None),  # an Azure Kinect, of 576 rows
        ((475, 475, 200, 239.5), "not near the middle of 640 x 480"),
        ((475, 475, 319.5, 160), "not near the middle"),
        ((475, 400, 319.5, 239.5), "fy / fx is 0.84"),
    ],
)
def test_intrinsics_of_another_image_are_warned_of(intrinsics, line):
    height = 576 if intrinsics[0] == 504 else 480
    found = plausibility.camera_warnings(intrinsics, 640, height)
    assert not found if line is None else line in found[0]


def hand(scale=1.0, distance=500.0):
    """A mesh whose palm has 88 mm times `scale`."""
    return types.SimpleNamespace(
        keypoint_names=("PALM_1", "PALM_2", "F3_KNU1_B"),
        keypoints=np.array([[-10.0, 0, 0], [10, 0, 0], [0, -88 * scale, 0]]),
        centre=np.array([0, 0, distance]),
    )


def test_a_hand_of_a_wrong_unit_is_too_large_too_small_too_near_or_too_far():
    assert plausibility.palm_mm(hand()) == pytest.approx(88)
    assert plausibility.mesh_warnings(hand()) == []
    for scale in (0.5, 2.0):
        (line,) = plausibility.mesh_warnings(hand(scale))
        assert f"a palm of {88 * scale:.0f} mm is no adult's" in line and "--depth_unit" in line
    for distance in (259.0, 1401.0):
        (line,) = plausibility.mesh_warnings(hand(distance=distance))
        assert f"{distance:.0f} mm is outside of the 260 to 1400 mm" in line
    other = hand()
    other.keypoint_names = ("a", "b", "c")
    assert plausibility.palm_mm(other) is None and plausibility.mesh_warnings(other) == []
