"""A handful of records made without a renderer, for tests of what reads them."""

import json
import pathlib

import numpy as np

SIZE = 32


def write_records(folder, template, count: int = 6, seed: int = 0) -> pathlib.Path:
    """Writes `count` frames of blobs with made-up truth, and their description.json."""
    import tensorflow as tf

    from dgn_tf.records import schema

    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    name = "synthetic-00000-of-00001.tfrecord"
    with tf.io.TFRecordWriter(str(folder / name)) as writer:
        for index in range(count):
            centre = rng.normal(size=3) * [40, 40, 60] + [0, 0, 600]
            face = rng.integers(-1, len(template.faces), size=[SIZE, SIZE])
            sample = {
                "depth": np.where(face >= 0, centre[2] + rng.normal(size=face.shape) * 20, 0.0),
                "face": face,
                "barycentric": rng.dirichlet([1, 1, 1], size=face.shape)[..., 1:],
                "vertices": template.vertices + centre,
                "keypoints": template.keypoints + centre,
                "intrinsics": [64.0, 64.0, 15.5, 15.5],
                "centre": centre,
                "cube": 300.0,
            }
            writer.write(schema.encode_example(sample, index))
    description = {
        "format_version": schema.FORMAT_VERSION,
        "template_name": template.name,
        "template_hash": template.hash,
        "mesh_hash": schema.mesh_hash(template),
        "config": {"size": SIZE},
        "files": [{"name": name, "records": count}],
    }
    (folder / schema.DESCRIPTION_FILE).write_text(json.dumps(description))
    return folder
