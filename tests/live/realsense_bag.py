"""Writes a recording as librealsense writes a .bag: rosbag 2.0 with its topics and messages."""

import numpy as np
from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

_STATIC_NS = 1  # time stamp of what is not a frame: no time is 0
_STREAM = "/device_0/sensor_0/Depth_0"


def write_bag(file, frames, intrinsics, rate: float, metres: float, unit_in_frames: bool = True):
    """Writes depth frames [H, W] uint16 at `rate` Hz, a step of them `metres`.

    Args:
        file: new.
        frames: of equal shape.
        intrinsics: fx, fy, cx, cy, pixels.
        rate: Hz.
        metres: of a step.
        unit_in_frames: each frame tells its unit, as of librealsense 2.38; else the option does.
    """
    store = get_typestore(Stores.ROS1_NOETIC)
    info = "uint32 fps\nstring encoding\nbool is_recommended\n"
    store.register(get_types_from_msg(info, "realsense_msgs/msg/StreamInfo"))
    connections = {}

    def made(kind, *fields, **named):
        return store.types[kind.replace("/", "/msg/")](*fields, **named)

    def header(number=0, time_s=0.0):
        nanoseconds = round(1e9 * time_s)
        stamp = store.types["builtin_interfaces/msg/Time"](*divmod(nanoseconds, 10**9))
        # What ROS calls the frame's name tells librealsense the version of an image.
        return made("std_msgs/Header", number, stamp, "1" if unit_in_frames else "")

    with Writer(file) as writer:

        def write(topic, kind, message, time_ns=_STATIC_NS, more=b""):
            named = kind.replace("/", "/msg/")
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, named, typestore=store)
            content = bytes(store.serialize_ros1(message, named)) + more
            writer.write(connections[topic], time_ns, content)

        def tell(topic, entries):
            for key, value in entries.items():
                message = made("diagnostic_msgs/KeyValue", key, value)
                write(topic, "diagnostic_msgs/KeyValue", message)

        fx, fy, cx, cy = intrinsics
        height, width = frames[0].shape
        write("/file_version", "std_msgs/UInt32", made("std_msgs/UInt32", 4))
        tell("/device_0/info", {"Name": "Intel RealSense SR305", "Serial Number": "0"})
        tell("/device_0/sensor_0/info", {"Name": "Coded-Light Depth Sensor"})
        option = "/device_0/sensor_0/option/Depth_Units"
        write(f"{option}/value", "std_msgs/Float32", made("std_msgs/Float32", metres))
        write(f"{option}/description", "std_msgs/String", made("std_msgs/String", "metres"))
        stream = made("realsense_msgs/StreamInfo", round(rate), "mono16", True)
        write(f"{_STREAM}/info", "realsense_msgs/StreamInfo", stream)
        camera = made(
            "sensor_msgs/CameraInfo",
            *(header(), height, width, "None", np.zeros(5)),
            *(np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1.0]), np.zeros(9), np.zeros(12), 0, 0),
            roi=made("sensor_msgs/RegionOfInterest", 0, 0, 0, 0, False),
        )
        write(f"{_STREAM}/info/camera_info", "sensor_msgs/CameraInfo", camera)
        for number, depth in enumerate(frames):
            image = made(
                "sensor_msgs/Image",
                *(header(number + 1, number / rate), height, width, "mono16", 0, 2 * width),
                np.ascontiguousarray(depth).view(np.uint8).ravel(),
            )
            unit = np.float32(metres).tobytes() if unit_in_frames else b""
            when = _STATIC_NS + round(1e9 * (number + 1) / rate)
            write(f"{_STREAM}/image/data", "sensor_msgs/Image", image, when, unit)
