import numpy as np
import pytest
from PIL import Image

from dgn_tf.errors import InputError
from tests.exported_model import exported_model
from tests.programs import run


def test_the_recordings_frames_differ_and_are_timed(tmp_path, checkout):
    import json

    from experiments import recording_speed

    recording_speed.make_recording(tmp_path / "made", str(checkout / "samples"), 8)
    frames = [np.asarray(Image.open(file)) for file in sorted((tmp_path / "made").iterdir())]
    assert len(frames) == 8
    assert all((frames[k] != frames[j]).any() for k in range(8) for j in range(k))
    with pytest.raises(InputError, match="--samples=.* has no PNG"):
        recording_speed.make_recording(tmp_path / "none", str(tmp_path), 8)
    run(
        "experiments.recording_speed",
        f"--saved_model={exported_model()}",
        *("--frames=3", "--kinds=none", f"--samples={checkout / 'samples'}"),
        f"--json={tmp_path / 'speed.json'}",
    )
    assert json.loads((tmp_path / "speed.json").read_text())["frames_per_s"]["none"] > 0
