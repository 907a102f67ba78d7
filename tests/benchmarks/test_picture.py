"""The picture of the figures."""

import pytest

from benchmarks.picture import plot_speed

STAGE = {"ms": 2.0, "bound_ms": 1.0}
FIGURES = {
    "machine": {},
    "stages": {
        "CPU": {
            "batch_1": {
                "batch_size": 1,
                "locate": STAGE,
                "crop": STAGE,
                "whole": STAGE,
                "unaccounted": {"ms": 0.1},
            }
        }
    },
    "exported": {
        "CPU": {
            "memory_gbytes_per_s": 10.0,
            "fp32": {
                "megabytes": 1.0,
                "crop": {"batch_1": {"frames_per_s": 50.0}, "batch_8": {"frames_per_s": 90.0}},
                "frame": {},
            },
        }
    },
    "memory": {
        "serving": {"bar_mb": 600.0, "eager": {"resident_mb": 500.0, "peak_mb": 700.0}},
        "work": {"training": {"start_mb": 300.0, "peak_mb": 900.0}},
    },
}


@pytest.mark.parametrize("parts", [["stages", "exported", "memory"], ["exported"], []])
def test_the_picture_is_a_png_of_the_parts_that_there_are(parts, tmp_path):
    from PIL import Image

    plot_speed({part: FIGURES[part] for part in parts}, tmp_path / "new" / "speed.png")
    with Image.open(tmp_path / "new" / "speed.png") as image:
        assert image.format == "PNG" and image.width > 800
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["speed.png"]
