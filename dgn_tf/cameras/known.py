"""Sensors that people have: their usual intrinsics and depth unit, where nothing better is known.

Two cameras of one kind differ by about a percent in focal length and by several pixels in the
principal point: a few mm on a hand's place, less on its shape.
"""

from typing import NamedTuple

from dgn_tf.cameras.camera import Camera
from dgn_tf.errors import InputError


class Sensor(NamedTuple):
    """What is usual: mm for one step, and fx = fy, cx, cy by image size, pixels."""

    name: str
    unit: float
    modes: dict[tuple[int, int], tuple[float, float, float]]
    remark: str = ""


_D435 = Sensor(  # devices listed in librealsense's issues 2788 and 11511
    "an Intel D435 (or D455)",
    1.0,
    {
        (1280, 720): (641.0, 639.0, 357.0),
        (848, 480): (425.0, 423.0, 237.0),
        (640, 480): (385.0, 319.5, 237.0),
        (640, 360): (320.5, 319.5, 178.0),
        (480, 270): (240.0, 239.5, 134.0),
        (424, 240): (212.0, 211.5, 118.5),
    },
    "of its depth stream, not of depth aligned to colour",
)
_SR305 = Sensor("an Intel SR305 (or SR300)", 0.125, {(640, 480): (475.5, 315.0, 244.0)})
_AZURE = Sensor(  # narrow field of view, unbinned; its lens bends by several pixels at the rim
    "an Azure Kinect or Femto Bolt (narrow view)",
    1.0,
    {(640, 576): (504.5, 320.0, 333.0)},
    "its distortion is not known here",
)
_KINECT2 = Sensor(
    "a Kinect v2",
    1.0,
    {(512, 424): (364.7, 255.5, 206.5)},
    "its programs mirror the image: a right hand looks like a left one, say --hand=left",
)
SENSORS: dict[str, Sensor] = {
    "sr305": _SR305,
    "sr300": _SR305,
    "d435": _D435,
    "d455": _D435,
    "l515": Sensor("an Intel L515", 0.25, {(640, 480): (460.0, 320.0, 240.0)}),
    "kinect2": _KINECT2,
    "kinect1": Sensor("a Kinect for Xbox 360 (as NYU's)", 1.0, {(640, 480): (587.5, 319.5, 239.5)}),
    "azure_kinect": _AZURE,
    "femto_bolt": _AZURE,
    "astra": Sensor("an Orbbec Astra", 1.0, {(640, 480): (570.3, 319.5, 239.5)}),
    "msra": Sensor("the MSRA data set's camera", 1.0, {(320, 240): (241.42, 160.0, 120.0)}),
}


def sensor_camera(name: str, width: int, height: int, file="the frame") -> Camera:
    """The usual camera of a sensor for frames of a size; InputError where it has no such mode."""
    sensor = SENSORS[name]
    size = (width, height)
    if size not in sensor.modes:
        if len(sensor.modes) > 1:  # of several cuts of one chip: none can be scaled to another
            listed = ", ".join(f"{w} x {h}" for w, h in sensor.modes)
            raise InputError(
                f"{file} has {width} x {height} pixels; --camera={name} knows {listed}. Give "
                "--intrinsics."
            )
        size = next(iter(sensor.modes))
    focal, cx, cy = sensor.modes[size]
    source = f"--camera={name}, the usual intrinsics of {sensor.name}, approximate"
    if sensor.remark:
        source += f" ({sensor.remark})"
    camera = Camera((focal, focal, cx, cy), source, size)
    return camera.of_size(width, height, file)
