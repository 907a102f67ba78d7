import io
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


def test_ratios_are_those_of_the_same_round():
    def work(count):
        values = np.ones([count, 1000])
        return lambda: np.sin(values)

    jobs = {"slow": work(40), "fast": work(10)}
    result = measure(jobs, {"slow to fast": ("slow", "fast", 1.0)}, rounds=9, burst=3)
    found = result["ratios"]["slow to fast"]
    assert 2 < found["median"] < 8
    assert found["quartiles"][0] <= found["median"] <= found["quartiles"][1]
    assert result["times"]["slow"]["ms_p50"] <= result["times"]["slow"]["ms_p99"]
