"""The synthesis config as JSON, and what it says about mistakes in it."""

import dataclasses

import pytest

from dgn_tf.errors import InputError
from dgn_tf.synthesis.settings import SynthesisConfig


def test_a_config_survives_its_file(tmp_path):
    config = SynthesisConfig(note="x", salt=4, cube_mm=250.0)
    config = dataclasses.replace(config, pose=config.pose._replace(shape_sigma=0.5))
    (tmp_path / "c.json").write_text(config.to_json())
    assert SynthesisConfig.load(tmp_path / "c.json") == config


def test_left_out_settings_are_the_defaults():
    config = SynthesisConfig.from_dict({"scene": {"occluder_share": 1}})
    assert config.scene.occluder_share == 1.0 and isinstance(config.scene.occluder_share, float)
    assert config.pose == SynthesisConfig.version_1().pose


@pytest.mark.parametrize(
    "values, message",
    [
        ({"cube": 1}, "unknown setting 'cube'"),
        ({"pose": {"uniform": 1}}, "pose: unknown setting 'uniform'"),
        ({"pose": 3}, "pose: wanted an object"),
        ({"cube_mm": "large"}, "cube_mm wants the form of"),
        ({"place": {"distance_mm": 300}}, "distance_mm wants the form of"),
        ({"place": {"distance_mm": [300]}}, "distance_mm wants 2 numbers"),
        ([1], "wanted an object"),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(InputError, match=message):
        SynthesisConfig.from_dict(values)


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(InputError, match="none.json: cannot be read"):
        SynthesisConfig.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="bad.json: not JSON"):
        SynthesisConfig.load(tmp_path / "bad.json")
