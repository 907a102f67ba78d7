"""Intrinsics in the files of other programs: read with their size, or refused by name."""

import json
import sys

import numpy as np
import pytest

from dgn_tf.cameras.camera import Camera, Distortion
from dgn_tf.cameras.camera_file import is_file, read_camera
from dgn_tf.errors import InputError

K = (610.5, 611.25, 322.75, 243.5)
ROWS = [610.5, 0, 322.75, 0, 611.25, 243.5, 0, 0, 1]
LENS = [0.1, -0.2, 0.001, 0.002, 0.05]
REALSENSE = {"width": 640, "height": 480, "fx": K[0], "fy": K[1], "ppx": K[2], "ppy": K[3]}
ROS = """header:
  frame_id: depth
image_width: 640
image_height: 480
camera_name: depth
camera_matrix:
  rows: 3
  cols: 3
  data: [610.5, 0.0, 322.75, 0.0, 611.25, 243.5, 0.0, 0.0, 1.0]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [0.1, -0.2, 0.001, 0.002, 0.05]
"""
ECHO = """width: 640
height: 480
distortion_model: "equidistant"
D: [0.1, -0.2, 0.001, 0.002]
K: [610.5, 0.0, 322.75, 0.0, 611.25, 243.5, 0.0, 0.0, 1.0]
binning_x: 0
binning_y: 0
---
width: 640
"""
OPENCV_YAML = """%YAML:1.0
---
calibration_time: "Thu"
image_width: 640
image_height: 480
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 610.5, 0., 322.75, 0., 611.25, 243.5, 0., 0., 1. ]
distortion_coefficients: !!opencv-matrix
   rows: 5
   cols: 1
   dt: d
   data: [ 0.1, -0.2, 0.001, 0.002, 0.05 ]
"""
OPENCV_XML = """<?xml version="1.0"?>
<opencv_storage>
<image_width>640</image_width>
<image_height>480</image_height>
<camera_matrix type_id="opencv-matrix">
  <rows>3</rows><cols>3</cols><dt>d</dt>
  <data>610.5 0. 322.75 0. 611.25 243.5 0. 0. 1.</data></camera_matrix>
<distortion_coefficients type_id="opencv-matrix">
  <rows>5</rows><cols>1</cols><dt>d</dt>
  <data>0.1 -0.2 0.001 0.002 0.05</data></distortion_coefficients>
</opencv_storage>
"""
ENUMERATED = """Provided Intrinsic:
 Intrinsic of "Depth" / 640x480 / {Z16}
  Width:       640
  Height:      480
  PPX:         322.75
  PPY:         243.5
  Fx:          610.5
  Fy:          611.25
  Distortion:  Brown Conrady
  Coeffs:      0   0   0   0   0
  FOV (deg):   55.31 x 42.87

 Intrinsic of "Color" / 640x480 / {RGB8}
  Width:       640
  Height:      480
  PPX:         300
  PPY:         200
  Fx:          900
  Fy:          900
  Distortion:  Inverse Brown Conrady
  Coeffs:      0   0   0   0   0
"""
MATRIX = "610.5 0 322.75\n0 611.25 243.5\n0 0 1\n"
BROWN = Distortion("brown_conrady", tuple(LENS))
SIZE = (640, 480)
OPEN3D = {"width": 640, "height": 480, "intrinsic_matrix": np.reshape(ROWS, [3, 3]).T.ravel()}
# name: what it holds, its size, its distortion
READ = {
    "rs2_intrinsics.json": (json.dumps({**REALSENSE, "model": "None"}), SIZE, None),
    "bent.json": (
        json.dumps({**REALSENSE, "model": "distortion.brown_conrady", "coeffs": LENS}),
        SIZE,
        BROWN,
    ),
    "straight.json": (
        json.dumps({**REALSENSE, "model": "distortion.inverse_brown_conrady", "coeffs": [0] * 5}),
        SIZE,
        None,
    ),
    "sr305.json": (
        json.dumps({**REALSENSE, "model": "inverse_brown_conrady", "coeffs": LENS}),
        SIZE,
        Distortion("inverse_brown_conrady", tuple(LENS)),
    ),
    "t265.json": (
        json.dumps({**REALSENSE, "model": "kannala_brandt4", "coeffs": [*LENS[:4], 0]}),
        SIZE,
        Distortion("kannala_brandt", tuple(LENS[:4])),
    ),
    "both.json": (json.dumps({"color": {"fx": 1, "fy": 1}, "depth": REALSENSE}), SIZE, None),
    "open3d.json": (json.dumps({**OPEN3D, "intrinsic_matrix": ROWS}), SIZE, None),
    "columns.json": (
        json.dumps({**OPEN3D, "intrinsic_matrix": list(OPEN3D["intrinsic_matrix"])}),
        SIZE,
        None,
    ),
    "calibration.json": (
        json.dumps(
            {
                "intrinsics": dict(zip(("fx", "fy", "cx", "cy"), K, strict=True)),
                "width": 640,
                "height": 480,
            }
        ),
        SIZE,
        None,
    ),
    "camera_info.yaml": (ROS, SIZE, BROWN),
    "echo.yaml": (ECHO, SIZE, Distortion("kannala_brandt", tuple(LENS[:4]))),
    "opencv.yml": (OPENCV_YAML, SIZE, BROWN),
    "opencv.xml": (OPENCV_XML, SIZE, BROWN),
    "windows.xml": ("\ufeff" + OPENCV_XML.replace("\n", "\r\n"), SIZE, BROWN),
    "windows.yaml": ("\ufeff" + ROS.replace("\n", "\r\n"), SIZE, BROWN),
    "windows.json": ("\ufeff" + json.dumps(REALSENSE, indent=1).replace("\n", "\r\n"), SIZE, None),
    "enumerated.txt": (ENUMERATED, SIZE, None),
    "matrix.txt": (MATRIX, None, None),
    "windows.txt": ("\ufeff" + MATRIX.replace("\n", "\r\n"), None, None),
    "printed.txt": (str(np.reshape(ROWS, [3, 3])), None, None),
    "commas.csv": (MATRIX.replace(" ", ","), None, None),
    "savetxt.txt": ("# of 2021\n" + MATRIX, None, None),
}


def needs_yaml(name):
    if name.endswith(("yaml", "yml")):
        pytest.importorskip("yaml")


@pytest.mark.parametrize("name", READ)
def test_what_programs_write_is_read_with_its_size_and_distortion(name, tmp_path):
    needs_yaml(name)
    text, size, lens = READ[name]
    (tmp_path / name).write_bytes(text.encode())
    camera = read_camera(str(tmp_path / name))
    assert camera.intrinsics == pytest.approx(K) and camera.size == size
    assert camera.distortion == lens and name in camera.source


def test_a_camera_of_several_is_named_by_number_or_name(tmp_path):
    file = tmp_path / "calibration.json"
    other = {**REALSENSE, "fx": 500.0}
    file.write_text(json.dumps({"intrinsics": [REALSENSE, other], "camera_from_camera1": [[1.0]]}))
    with pytest.raises(InputError, match="holds 2 cameras; name one as .*calibration.json:NAME"):
        read_camera(str(file))
    assert read_camera(f"{file}:intrinsics2").intrinsics[0] == 500.0
    assert read_camera(f"{file}:2").intrinsics[0] == 500.0
    file.write_text(json.dumps({"left": REALSENSE, "right": other}))
    assert read_camera(f"{file}:right").intrinsics[0] == 500.0
    with pytest.raises(InputError, match="no camera 'middle'.*left, right"):
        read_camera(f"{file}:middle")


# name: what it holds, what the line says
REFUSED = {
    "page.json": ("<!DOCTYPE html><html>no</html>", "web page.*download the file itself"),
    "preset.json": (json.dumps({"param-depthunits": 1000}), "holds no camera"),
    "list.json": ("[1, 2", "can't be read as a calibration"),
    "deep.json": ('{"a":' * 9000, "can't be read as a calibration"),
    "words.json": (json.dumps({**REALSENSE, "fx": "wide"}), "four numbers are wanted"),
    "negative.json": (json.dumps({**REALSENSE, "fx": -1}), "fx and fy positive"),
    "nan.json": (json.dumps({**REALSENSE, "fx": float("nan")}), "fx and fy positive"),
    "outside.json": (json.dumps({**REALSENSE, "ppx": 700}), "700, 243.5 lies outside"),
    "no_width.json": (json.dumps({**REALSENSE, "width": None}), "width and height are"),
    "ftheta.json": (
        json.dumps({**REALSENSE, "model": "ftheta", "coeffs": LENS}),
        "model 'ftheta' is not known",
    ),
    "few.json": (
        json.dumps({**REALSENSE, "model": "brown_conrady", "coeffs": LENS[:2]}),
        "2 coefficients of brown_conrady distortion, 4 or 5",
    ),
    "skewed.txt": (MATRIX.replace("610.5 0 ", "610.5 9 "), "pixels are skewed"),
    "projection.txt": ("1 2 3 4 5 6 7 8 9", "no camera matrix"),
    "entities.xml": ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "document type"),
    "cut.xml": (OPENCV_XML[:200], "an XML file that can't be read"),
    "objects.yaml": ("camera: !!python/object/apply:os.system ['true']", "can't be read"),
    "binned.yaml": (ECHO.replace("binning_x: 0", "binning_x: 2"), "image is binned"),
    "utf16.txt": (MATRIX.encode("utf-16"), "UTF-16 text; JSON"),
    "array.npy": (b"\x93NUMPY\x01\0v\0" + bytes(99) + b"\xff", "numpy array"),
    "large.txt": ("1 " * 200_000, "no calibration"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_calibration_is_refused_by_what_it_is(name, tmp_path):
    needs_yaml(name)
    content, line = REFUSED[name]
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=line) as error:
        read_camera(str(tmp_path / name))
    assert name in str(error.value) and "\n" not in str(error.value)


def test_a_yaml_of_shared_parts_stays_small(tmp_path):
    """Nine times nine times ... numbers by aliases: they are counted, not unfolded."""
    pytest.importorskip("yaml")
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for k in range(1, 12):
        lines.append(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]")
    lines += ["K: *a11"]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(InputError, match="camera matrix has 0 numbers"):
        read_camera(str(tmp_path / "bomb.yaml"))


def test_without_yaml_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "camera.yaml").write_text(ROS)
    with pytest.raises(InputError, match="PyYAML: install the extra `camera`"):
        read_camera(str(tmp_path / "camera.yaml"))


def test_numbers_are_no_file(tmp_path):
    assert not is_file("475,475,319.5,239.5") and not is_file("300,x,160,120")
    assert is_file("camera.yaml") and is_file("camera.json:2")
    with pytest.raises(InputError, match="camera.yaml can't be read: No such file"):
        read_camera("camera.yaml")


def test_another_size_of_the_same_proportions_is_scaled_about_the_pixels_middles():
    camera = Camera((600.0, 600.0, 319.5, 239.5), "x.json", (640, 480))
    assert camera.of_size(640, 480) is camera
    half = camera.of_size(320, 240)
    assert half.intrinsics == pytest.approx((300, 300, 159.5, 119.5)) and half.size == (320, 240)
    assert "scaled from 640 x 480" in half.source
    with pytest.raises(InputError, match="f.png has 640 x 400 pixels, but x.json is of 640 x 480"):
        camera.of_size(640, 400, "f.png")


@pytest.mark.parametrize("name", READ)
def test_damage_is_refused_by_name_or_is_another_camera(name, tmp_path):
    needs_yaml(name)
    whole, rng = READ[name][0].encode(), np.random.default_rng(7)
    file = tmp_path / name
    for round_ in range(20):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            damaged[place] = rng.integers(256) if round_ % 2 else rng.integers(32, 127)
        file.write_bytes(bytes(damaged))
        try:
            camera = read_camera(str(file))
        except InputError as error:
            assert name in str(error) and "\n" not in str(error)
        else:
            assert np.isfinite(camera.intrinsics).all() and min(camera.intrinsics[:2]) > 0
