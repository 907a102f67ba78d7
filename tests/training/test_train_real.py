"""The trainer with labelled frames in its batches, as one runs it."""

import csv
import json

import pytest

from dgn_tf.errors import InputError
from tests.view_records import write_view_records

TINY = [
    "--image_channels=8",
    "--mesh_channels=8",
    "--features=4",
    "--batch_size=4",
    "--steps=2",
    "--steps_per_epoch=1",
    "--validation_frames=2",
    "--nosummaries",
    "--warmup_steps=1",
    "--held_out=0.5",
    "--real_validation_frames=3",
    "--clip_norm=100",
]


def run(*arguments):
    from absl import flags

    from dgn_tf import train

    flags.FLAGS.unparse_flags()
    flags.FLAGS(["train", *TINY, *arguments])
    train.main([])


def describe(folder, **changes):
    from dgn_tf.template import nyu_keypoint_names

    file = folder / "description.json"
    description = json.loads(file.read_text())
    description |= {"keypoints": nyu_keypoint_names(), "skipped": [], **changes}
    file.write_text(json.dumps(description))


def test_held_out_labels_are_logged_and_the_model_says_what_it_learnt_from(tmp_path):
    records = write_view_records(tmp_path / "records" / "train", steps=4, cameras=2)
    describe(records, content_hash="first")
    folder = tmp_path / "run"
    flags = (f"--real_records={records}", f"--output_dir={folder}", "--real_cameras=2")
    run(*flags)
    with open(folder / "log.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    real = [float(row["val_real_keypoints_mm"]) for row in rows]
    assert len(real) == 2 and min(real) > 0
    assert all(float(row["real_keypoints"]) > 0 for row in rows)
    assert all(float(row["correspondence"]) > 0 for row in rows)
    best = json.loads((folder / "best" / "config.json").read_text())
    assert best["validation"]["real_keypoints_mm"] == pytest.approx(min(real))
    assert best["real_frames"]["status"].startswith("experiment")
    assert best["real_frames"]["cameras"] == [2]

    # The same frames may lie elsewhere; a run can't go on without them.
    moved = records.with_name("moved")
    records.rename(moved)
    run(f"--real_records={moved}", *flags[1:])
    with pytest.raises(InputError, match="--real_records_hash was first, is None"):
        run(*flags[1:])
