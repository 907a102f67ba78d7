"""What a new user would do: the commands of README and of the tutorials, one after another."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.setup.test_readme import commands

PAGES = ("README.md", "docs/training.md", "docs/serving.md", "docs/hands.md", "docs/evaluation.md")
# What makes each small; the last value of a flag counts.
NETWORK = ["--image_channels=8,8", "--mesh_channels=8,8", "--features=4"]
RUN = ["--steps=2", "--steps_per_epoch=1", "--validation_frames=4"]
SMALL = {
    "dgn_tf.train": [*RUN, "--batch_size=2", "--warmup_steps=1"],
    "dgn_tf.train_localiser": [*RUN, "--batch_size=2"],
    "dgn_tf.annotate": ["--limit=1", "--refine_steps=1"],
    "dgn_tf.evaluate": ["--limit=4", "--nosurface"],
    "dgn_tf.calibrate": ["--steps=1"],
    "dgn_tf.calibrate_confidence": ["--frames=32"],
    "data_prep.synthetic_to_tfrecord": ["--count=8", "--shards=1"],
    "data_prep.nyu_to_tfrecord": ["--limit=6"],
}
# These are not in a package: files of other people, a server, a data set of 92 GB.
WANTS = ("right_hand.pkl", "MANO_RIGHT.pkl", "right.glb", "poses.npz", "a2j.txt.gz", "libhand.npz")


def small(arguments):
    """The command at small size; None where it wants what is not here, or is a study."""
    module = arguments[0]
    if module not in SMALL and module not in (
        "dgn_tf.predict",
        "dgn_tf.export",
        "data_prep.rig_to_tfrecord",
    ):
        return None
    if any(name in argument for argument in arguments for name in WANTS):
        return None
    extra = list(SMALL.get(module, []))
    if "--flagfile=configs/synthetic.flags" in arguments:
        extra += NETWORK
    if any("selfsup" in argument for argument in arguments) and "--smoke" not in arguments:
        extra.append("--unlabelled_steps=1")
    if module == "data_prep.rig_to_tfrecord":
        extra += [f"--frames={','.join(f'rig/camera{k}' for k in (1, 2, 3))}", "--depth_unit=0.25"]
    return [*arguments, *extra] if "--smoke" not in arguments else arguments


@pytest.mark.long
def test_every_command_of_the_tutorials_ends_well(checkout, tmp_path):
    nyu = pathlib.Path(os.environ.get("DGN_SHARED", checkout.parent / "shared")) / "data/nyu_like"
    for name in ("samples", "configs"):
        (tmp_path / name).symlink_to(checkout / name)
    (tmp_path / "rig").symlink_to(checkout / "samples" / "rig")
    (tmp_path / "saved_models").mkdir()
    (tmp_path / "saved_models" / "dgn").symlink_to(checkout / "saved_models" / "dgn")
    if nyu.is_dir():
        (tmp_path / "NYU").symlink_to(nyu)
    environment = {**os.environ, "PYTHONPATH": str(checkout), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = []
    for page, arguments in sorted(
        commands(checkout), key=lambda c: PAGES.index(c[0]) if c[0] in PAGES else 99
    ):
        wanted = small(arguments) if page in PAGES else None
        of_nyu = any(
            "NYU" in a or "nyu" in a or "keypoint" in a or "selfsup.flags" in a for a in arguments
        )
        if (
            wanted is None
            or wanted in done
            or (of_nyu and "--smoke" not in wanted and not nyu.is_dir())
        ):
            continue
        run = subprocess.run(
            [sys.executable, "-m", *wanted],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, f"{page}: {' '.join(wanted)}\n{run.stderr[-2000:]}"
        done.append(wanted)
    assert len(done) > 12
