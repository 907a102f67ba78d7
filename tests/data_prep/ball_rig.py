"""A rig of three cameras that see a ball, rendered exactly: frames, calibration, their geometry."""

import json
import pathlib

import numpy as np
from PIL import Image

from tests.data_prep import nyu_folder
from tests.view_records import grouped

STEPS = 5
WIDTH, HEIGHT = 320, 240
RADIUS_MM = 60.0
UNIT_MM = 0.25
INTRINSICS = np.array(
    [[290.0, 292.0, 158.0, 121.0], [300.0, 299.0, 161.0, 119.0], [310.0, 311.0, 160.0, 120.0]]
)


def names(steps: int = STEPS) -> list[str]:
    """File names whose order is not that of their letters: 8, 9, 10, ..."""
    return [f"frame{number}.png" for number in range(8, 8 + steps)]


def centres(steps: int = STEPS) -> np.ndarray:
    """[N, 3] mm, rig frame: where the ball is."""
    return np.random.default_rng(3).uniform([-40, -30, 770], [40, 30, 830], size=[steps, 3])


def depth_mm(centre: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """[H, W] depth of a ball at `centre` (camera frame), 0 elsewhere, by exact rays."""
    fx, fy, cx, cy = intrinsics
    column, row = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rays = np.stack([(column - cx) / fx, (row - cy) / fy, np.ones(column.shape)], axis=-1)
    along, square = rays @ centre, np.sum(rays**2, axis=-1)
    under = along**2 - square * (centre @ centre - RADIUS_MM**2)
    return np.where(under > 0, (along - np.sqrt(np.maximum(under, 0))) / square, 0.0)


def write_png(path, depth: np.ndarray, unit_mm: float = UNIT_MM) -> None:
    """Writes [H, W] mm as 16-bit grey."""
    pixels = np.rint(depth / unit_mm).astype(np.uint16)
    Image.fromarray(pixels).save(path, compress_level=1)


def calibration(cameras: int = 3) -> dict:
    """What calibration.json says."""
    listed = [
        {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": WIDTH, "height": HEIGHT}
        for fx, fy, cx, cy in INTRINSICS[:cameras]
    ]
    return {"intrinsics": listed, "camera_from_camera1": nyu_folder.rig()[:cameras].tolist()}


def write_rig(folder, steps: int = STEPS) -> pathlib.Path:
    """Writes cam1, cam2, cam3 and calibration.json; returns the folder."""
    folder = pathlib.Path(folder)
    for camera, transform in enumerate(nyu_folder.rig()):
        (folder / f"cam{camera + 1}").mkdir(parents=True)
        for name, centre in zip(names(steps), centres(steps), strict=True):
            seen = transform[:3, :3] @ centre + transform[:3, 3]
            write_png(folder / f"cam{camera + 1}" / name, depth_mm(seen, INTRINSICS[camera]))
    (folder / "calibration.json").write_text(json.dumps(calibration()))
    return folder


def arguments(rig, output, frames, **settings) -> dict:
    """What `convert_rig` takes for folders or patterns of a rig's folder; `settings` win."""
    return grouped(
        {
            "frames": tuple(str(rig / one) for one in frames),
            "calibration": rig / "calibration.json",
            "depth_unit": UNIT_MM,
            "output_dir": output,
            "center": "com",  # a ball is no hand
            "workers": 1,
            "steps_per_shard": 2,
            "progress": False,
            **settings,
        }
    )
