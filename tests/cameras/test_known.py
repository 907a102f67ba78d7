import pytest

from dgn_tf.cameras.known import SENSORS, sensor_camera
from dgn_tf.errors import InputError
from dgn_tf.plausibility import camera_warnings


@pytest.mark.parametrize("name", SENSORS)
def test_each_sensor_is_plausible_and_said_to_be_approximate(name):
    for width, height in SENSORS[name].modes:
        camera = sensor_camera(name, width, height)
        assert camera.size == (width, height) and "approximate" in camera.source
        assert not camera_warnings(camera.intrinsics, width, height)
        assert 0.1 <= SENSORS[name].unit <= 1


def test_a_sensor_of_one_mode_is_scaled_and_one_of_several_is_not():
    assert sensor_camera("kinect2", 256, 212).intrinsics[0] == pytest.approx(364.7 / 2)
    with pytest.raises(InputError, match="--camera=d435 knows 1280 x 720.*Give --intrinsics"):
        sensor_camera("d435", 320, 180, "f.png")
    with pytest.raises(InputError, match="of other proportions"):
        sensor_camera("kinect2", 640, 480, "f.png")
