"""A data set in NYU's layout, made by hand: a blob for a hand, seen by three cameras."""

import io
import pathlib

import numpy as np
import scipy.io
from PIL import Image

from dgn_tf.evaluation.nyu import INTRINSICS, uvd_from_xyz
from dgn_tf.template.hand_template import nyu_keypoint_names

FRAMES = 5
WIDTH, HEIGHT = 640, 480


def rig() -> np.ndarray:
    """[3, 4, 4] camera_from_camera1, mm: 2 and 3 look at the same place from the sides."""
    transforms = np.tile(np.eye(4), (3, 1, 1))
    pivot = np.array([0.0, 0.0, 800.0])
    for camera, degrees in ((1, 35.0), (2, -40.0)):
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        transforms[camera, :3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        transforms[camera, :3, 3] = pivot - transforms[camera, :3, :3] @ pivot + [5, -10, 20]
    return transforms


def points(frames: int = FRAMES, seed: int = 0) -> np.ndarray:
    """[3, N, 36, 3] mm, camera frames, y down."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform([-60, -40, 750], [60, 40, 850], size=[frames, 1, 3])
    inside = middle + rng.uniform(-60, 60, size=[frames, 36, 3])
    inside[:, 32] = middle[:, 0]
    moved = [inside @ t[:3, :3].T + t[:3, 3] for t in rig()]
    return np.stack(moved)


def depth_frame(centre: np.ndarray, seed: int) -> np.ndarray:
    """[480, 640] int: a disc of depth around the projected centre, 2001 and more elsewhere, some
    pixels 0, a wall at 1.2 m below."""
    rng = np.random.default_rng(seed)
    u, v, d = uvd_from_xyz(centre)
    column, row = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
    radius = 70 * INTRINSICS[0] / d
    disc = (column - u) ** 2 + (row - v) ** 2 < radius**2
    depth = np.where(row > 400, 1200, rng.choice([2001, 2002, 9000, 65535], size=disc.shape))
    depth = np.where(disc, np.rint(d) + rng.integers(-30, 31, size=disc.shape), depth)
    return np.where(rng.random(disc.shape) < 0.02, 0, depth).astype(int)


def write_frame(path, depth) -> None:
    """Writes [H, W] mm as NYU does."""
    pixels = np.stack([0 * depth, depth >> 8, depth & 255], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(path, compress_level=1)


def write_labels(folder, xyz, **changed) -> None:
    """Writes joint_data.mat of [C, N, 36, 3] mm, y down; `changed` replaces or, None, drops."""
    uvd = uvd_from_xyz(xyz)
    names = np.empty([1, 36], object)
    names[0] = nyu_keypoint_names()
    values = {"joint_xyz": xyz * [1, -1, 1], "joint_uvd": uvd, "joint_names": names, **changed}
    kept = {name: value for name, value in values.items() if value is not None}
    scipy.io.savemat(pathlib.Path(folder) / "joint_data.mat", kept, do_compression=True)


def write_nyu(folder, frames: int = FRAMES, splits=("train", "test")) -> pathlib.Path:
    """Writes a whole data set; returns its folder."""
    folder = pathlib.Path(folder)
    for number, split in enumerate(splits):
        (folder / split).mkdir(parents=True)
        xyz = points(frames, number)
        write_labels(folder / split, xyz)
        for camera in range(3):
            for index in range(frames):
                name = f"depth_{camera + 1}_{index + 1:07d}.png"
                seed = camera * frames + index
                write_frame(folder / split / name, depth_frame(xyz[camera, index, 32], seed))
    return folder


def contents(folder) -> dict[str, bytes]:
    """All files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def read_records(folder, cameras: int = 3) -> list[dict]:
    """The time steps of converted records, with windows decoded."""
    import tensorflow as tf

    from dgn_tf.records import view_schema
    from dgn_tf.records.reader import record_offsets

    steps = []
    for path in sorted(pathlib.Path(folder).glob("*.tfrecord")):
        data = path.read_bytes()
        for offset, length in record_offsets(str(path)):
            serialized = data[offset : offset + length]
            view_schema.check_example(serialized, path.name)
            step = view_schema.parse_step(tf.constant(serialized), cameras, 36)
            step = {name: value.numpy() for name, value in step.items()}
            windows = [np.asarray(Image.open(io.BytesIO(png))) for png in step["depth"]]
            steps.append(step | {"depth": windows})
    return steps
