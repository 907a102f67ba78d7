"""A split of multi-view records and its true meshes, small enough for tests of the evaluation."""

import json
import pathlib

import numpy as np

from tests.tiny_template import tiny_template
from tests.view_records import FRAME, make_step, write_view_records

CORNERS = 8  # vertices of the true mesh: the first key points of a frame
STEPS = 6
NO_VIEW = {3: (1,)}  # frame 3 of camera 2 can't be used


def write_split(folder, keypoints=None, extrinsics="labels", left=False) -> pathlib.Path:
    """Writes six time steps of three cameras with the tiny template's key point names.

    Camera 2 has no frame 3. Of frame 2, the key points 0, 1 and 3 are not known: two of the 14.
    With `left` the same records stand for left hands.
    """
    import tensorflow as tf

    from dgn_tf.records import view_schema

    folder = write_view_records(folder, STEPS, shards=1)
    file = folder / "description.json"
    description = json.loads(file.read_text()) | {
        "split": "test",
        "keypoints": list(keypoints or tiny_template().keypoint_names),
        "extrinsics": {"source": extrinsics},
        "skipped": [],
        **({"hand": "left"} if left else {}),
    }
    file.write_text(json.dumps(description))
    with tf.io.TFRecordWriter(str(next(folder.glob("*.tfrecord")))) as writer:
        for index in range(1, STEPS + 1):
            step, _ = make_step(index, 3, NO_VIEW.get(index, ()))
            if index == 2:
                unknown = [0, 1, 3]
                step["keypoints_valid"][:, unknown] = 0
                step["keypoints"] = np.array(step["keypoints"])
                step["keypoints"][:, unknown] = 0
            side = {"left": 1, "frame_width": FRAME[0]} if left else {}
            writer.write(view_schema.encode_step(step | side))
    return folder


def write_truth(folder, left=False) -> None:
    """Writes truth.npz and truth_template.npz of frames 1, 2, 4 and 5: a strip of key points.

    With `left` they are those of the left hands that `write_split` has mirrored.
    """
    index = np.array([1, 2, 4, 5])
    points = np.stack([np.array(make_step(i)[0]["keypoints"][0])[:CORNERS] for i in index])
    points = points * [-1, 1, 1] if left else points
    origin = points.mean(axis=1)
    offsets = (points - origin[:, None]).astype(np.float16)
    faces = np.stack([np.arange(CORNERS - 2) + i for i in range(3)], axis=-1)
    np.savez(folder / "truth.npz", index=index, origin=origin, vertices=offsets)
    np.savez(folder / "truth_template.npz", vertices=points[0], faces=faces)
