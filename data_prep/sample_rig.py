"""Frames of three cameras around a hand, and their calibration: what samples/rig holds.

They show that `data_prep.rig_to_tfrecord` and training without labels run; six steps teach nothing.
"""

import pathlib

import numpy as np
from PIL import Image

from dgn_tf.geometry.raster import render_mesh
from dgn_tf.json_file import write_json
from dgn_tf.synthesis.batches import drawn_hand, laid_out
from dgn_tf.template import load_template
from dgn_tf.writing import output_file

_SIZE = (320, 240)
_INTRINSICS = (240.0, 240.0, 159.5, 119.5)
_TURNS_DEGREES = (0.0, 40.0, -40.0)  # of the cameras about the hand's vertical axis
_NOISE_MM = 1.0
_UNIT_MM = 0.25


def camera_from_camera1(turn_degrees: float, middle: np.ndarray) -> np.ndarray:
    """[4, 4] of a camera that was turned about the vertical axis through `middle` [3] mm."""
    angle = np.radians(turn_degrees)
    transform = np.eye(4)
    transform[:3, :3] = [
        [np.cos(angle), 0, np.sin(angle)],
        [0, 1, 0],
        [-np.sin(angle), 0, np.cos(angle)],
    ]
    transform[:3, 3] = middle - transform[:3, :3] @ middle
    return transform


def write_rig(folder: pathlib.Path, configs: dict, seed: int) -> None:
    """Writes a step for each sampler, `camera<number>/<step>_<name>.png`, and calibration.json.

    Args:
        folder: is made.
        configs: name of the step -> `SynthesisConfig` of its hand.
        seed: of all random draws.
    """
    hand, rng = laid_out(load_template()), np.random.default_rng(seed)
    fx, fy, cx, cy = _INTRINSICS
    middle = np.array([0.0, 0.0, 480.0])
    transforms = [camera_from_camera1(turn, middle) for turn in _TURNS_DEGREES]
    for step, (name, config) in enumerate(configs.items()):
        drawn = drawn_hand(hand, config, seed, 1000 * step)
        seen = drawn.vertices - drawn.keypoints.mean(axis=0) + middle
        for camera, transform in enumerate(transforms, start=1):
            vertices = seen @ transform[:3, :3].T + transform[:3, 3]
            depth, _, _ = render_mesh(vertices, hand.faces, _INTRINSICS, *_SIZE, 40.0)
            noise = rng.normal(0, _NOISE_MM, depth.shape)
            seen_mm = np.where(np.isfinite(depth), depth + noise, 0)
            image = Image.fromarray(np.round(seen_mm / _UNIT_MM).astype(np.uint16))
            file = folder / f"camera{camera}" / f"{step:02d}_{name}.png"
            with output_file(file, "--output_dir") as beside:
                image.save(beside, "PNG", optimize=True)
    intrinsics = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": _SIZE[0], "height": _SIZE[1]}
    calibration = {
        "intrinsics": intrinsics,
        "camera_from_camera1": [transform.round(9).tolist() for transform in transforms],
    }
    write_json(calibration, folder / "calibration.json", "--output_dir")
