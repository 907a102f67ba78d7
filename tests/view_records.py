"""Multi-view records of made-up frames, for tests of what reads them."""

import dataclasses
import json
import pathlib

import numpy as np

FRAME = (640, 480)
INTRINSICS = np.array([588.0, 587.0, 320.0, 240.0])
CUBE = 300.0
KEYPOINTS = 36


def camera_from_rig(camera: int) -> np.ndarray:
    """[4, 4] mm: camera 1 is the rig's frame, others stand 40 degrees to its sides."""
    angle = np.deg2rad(40.0) * [0, 1, -1][camera % 3]
    transform = np.eye(4)
    transform[[0, 0, 2, 2], [0, 2, 0, 2]] = [
        np.cos(angle),
        np.sin(angle),
        -np.sin(angle),
        np.cos(angle),
    ]
    pivot = np.array([0, 0, 800.0])
    transform[:3, 3] = pivot - transform[:3, :3] @ pivot
    return transform


def make_step(index: int, cameras: int = 3, invalid=(), rng=None, keypoints: int = KEYPOINTS):
    """One time step, as `view_schema.encode_step` takes it, and its whole frames [C][480, 640].

    The hand is 36 points around a centre some 800 mm away; the frames are random surfaces near
    that distance with missing pixels. Views of `invalid` (places) have no frame.
    """
    from dgn_tf.records import view_schema

    rng = rng or np.random.default_rng(index)
    middle = rng.normal(size=3) * [30, 30, 40] + [0, 0, 800]
    rig_points = middle + rng.uniform(-60, 60, size=[keypoints, 3])
    step = {name: [] for name in ("depth", "window", "camera_from_rig", "centre", "keypoints")}
    frames = []
    for camera in range(cameras):
        transform = camera_from_rig(camera)
        points = rig_points @ transform[:3, :3].T + transform[:3, 3]
        centre = middle @ transform[:3, :3].T + transform[:3, 3]
        frame = rng.integers(500, 1100, size=FRAME[::-1]).astype(np.uint16)
        frame[rng.random(frame.shape) < 0.2] = 0
        if camera in invalid:
            step["window"].append(view_schema.NO_WINDOW)
            step["depth"].append(np.zeros([1, 1], np.uint16))
            centre, points = np.zeros(3), np.zeros_like(points)
        else:
            reach = 0.75 * CUBE * INTRINSICS[:2] / centre[2]
            place = INTRINSICS[2:] + INTRINSICS[:2] * centre[:2] / centre[2]
            low = np.clip(np.floor(place - reach), 0, FRAME).astype(int)
            high = np.clip(np.ceil(place + reach), 0, FRAME).astype(int)
            step["window"].append([*low, *(high - low)])
            step["depth"].append(frame[low[1] : high[1], low[0] : high[0]])
        step["camera_from_rig"].append(transform)
        step["centre"].append(centre)
        step["keypoints"].append(points)
        frames.append(frame)
    valid = np.array([camera not in invalid for camera in range(cameras)])
    step |= {
        "index": index,
        "cameras": np.arange(cameras) + 1,
        "frames": [f"train/depth_{camera + 1}_{index:07d}.png" for camera in range(cameras)],
        "depth_unit": 1.0,
        "intrinsics": np.tile(INTRINSICS, [cameras, 1]),
        "rig_known": 1,
        "view_valid": valid.astype(int),
        "cube": CUBE,
        "keypoints_valid": np.tile(valid[:, None], [1, keypoints]).astype(int),
    }
    return step, frames


def write_view_records(
    folder,
    steps: int = 6,
    cameras: int = 3,
    invalid=None,
    keypoints: int = KEYPOINTS,
    shards: int = 2,
) -> pathlib.Path:
    """Writes time steps 1 .. `steps` and their description.json; returns the folder.

    `invalid` {index: places of views without a frame}.
    """
    import tensorflow as tf

    from dgn_tf.records import view_schema

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for shard in range(shards):
        name = f"views-{shard:05d}-of-{shards:05d}.tfrecord"
        indices = range(shard * steps // shards + 1, (shard + 1) * steps // shards + 1)
        with tf.io.TFRecordWriter(str(folder / name)) as writer:
            for index in indices:
                bad = (invalid or {}).get(index, ())
                step, _ = make_step(index, cameras, bad, keypoints=keypoints)
                writer.write(view_schema.encode_step(step))
        files.append({"name": name, "records": len(indices)})
    description = {
        "format_version": view_schema.FORMAT_VERSION,
        "kind": view_schema.KIND,
        "split": "train",
        "cameras": list(range(1, cameras + 1)),
        "frames": steps,
        "views": steps * cameras,
        "keypoints": [f"point{number}" for number in range(keypoints)],
        "cube_mm": CUBE,
        "centre": "joint (oracle: the true palm centre)",
        "labels": True,
        "depth_unit_mm": 1.0,
        "subject1_frames": None,
        "files": files,
    }
    (folder / "description.json").write_text(json.dumps(description))
    return folder


def grouped(settings: dict) -> dict:
    """Arguments of `convert_split` and `convert_rig`, from flat ones."""
    from data_prep.multi_view.record_set import ViewWriting

    names = {field.name for field in dataclasses.fields(ViewWriting)}
    how = {name: value for name, value in settings.items() if name in names}
    rest = {name: value for name, value in settings.items() if name not in names}
    return {**rest, "writing": ViewWriting(**how)}
