import io
import time
import zipfile

import numpy as np
import pytest

from dgn_tf.errors import InputError
from experiments.compare_mediapipe import measure, read_network


def archive(path, **members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return str(path)


def test_a_network_is_found_in_any_folder_and_in_a_bundle(tmp_path):
    bundle = io.BytesIO()
    archive(bundle_path := tmp_path / "b.zip", b_dot_tflite="inner")
    bundle.write(bundle_path.read_bytes())
    wheel = archive(
        tmp_path / "w.whl", m__x__a_dot_tflite="outer", m__hand_dot_task=bundle.getvalue()
    )
    assert read_network(wheel, "a") == b"outer"
    assert read_network(wheel, "b") == b"inner"


def test_bad_wheels_are_told_in_one_line(tmp_path):
    with pytest.raises(InputError, match="holds no hand_landmark_full.tflite; take that of"):
        read_network(archive(tmp_path / "w.whl", a="1"), "hand_landmark_full")
    with pytest.raises(InputError, match="No such file.*pip download"):
        read_network(str(tmp_path / "none.whl"), "a")
    (tmp_path / "text.whl").write_text("no zip")
    with pytest.raises(InputError, match="not a zip file"):
        read_network(str(tmp_path / "text.whl"), "a")


def test_ratios_are_those_of_the_same_round(monkeypatch):
    clock = {"now": 0.0, "calls": 0}

    def job(seconds):
        def run():
            busy = (1.0, 2.0, 10.0)[clock["calls"] // 2 % 3]  # two calls a round
            clock["calls"] += 1
            clock["now"] += seconds * busy

        return run

    monkeypatch.setattr(time, "perf_counter", lambda: clock["now"])
    jobs = {"slow": job(0.004), "fast": job(0.001)}
    ratios = {"slow to fast": ("slow", "fast", 1.0), "fast to slow": ("fast", "slow", None)}
    result = measure(jobs, ratios, rounds=12, burst=1)
    found = result["ratios"]
    np.testing.assert_allclose(found["slow to fast"]["median"], 4.0)
    np.testing.assert_allclose(found["slow to fast"]["quartiles"], [4.0, 4.0])
    assert found["slow to fast"]["bar"] == 1.0 and found["fast to slow"]["bar"] is None
    np.testing.assert_allclose(found["fast to slow"]["median"], 0.25)
    assert result["times"]["slow"]["ms_p99"] > 4 * result["times"]["slow"]["ms_p50"] > 0
