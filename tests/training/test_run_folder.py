"""What a run's folder lets a resumed run change."""

import json

import pytest

from dgn_tf.errors import InputError
from dgn_tf.training.run_folder import open_run_folder

MAY_CHANGE = frozenset({"steps"})


def begun(folder, settings):
    assert not open_run_folder(folder, settings, "", MAY_CHANGE)
    return folder


def test_a_run_from_before_a_flag_resumes_at_the_flags_default(tmp_path):
    folder = begun(tmp_path / "run", {"rate": 0.1, "steps": 10})
    now = {"rate": 0.1, "steps": 10, "real_records": "", "cameras": None, "sizes": (1, 2)}
    defaults = {"rate": 0.5, "real_records": "", "cameras": None, "sizes": (1, 2)}
    assert open_run_folder(folder, now, "", MAY_CHANGE, defaults)


def test_a_new_flag_that_is_not_at_its_default_is_refused_by_name(tmp_path):
    folder = begun(tmp_path / "run", {"rate": 0.1})
    with pytest.raises(InputError, match="--fraction was 0.5, is 0.25"):
        open_run_folder(folder, {"rate": 0.1, "fraction": 0.25}, "", MAY_CHANGE, {"fraction": 0.5})
    assert "fraction" not in json.loads((folder / "run.json").read_text())["settings"]


def test_a_default_does_not_stand_in_for_what_the_run_says(tmp_path):
    folder = begun(tmp_path / "run", {"rate": 0.1})
    with pytest.raises(InputError, match="--rate was 0.1, is 0.5"):
        open_run_folder(folder, {"rate": 0.5}, "", MAY_CHANGE, {"rate": 0.5})


def test_the_flags_of_the_trainer_before_real_frames_still_resume(tmp_path):
    """The settings of runs that were begun then, by today's defaults."""
    from dgn_tf.config import EnergyWeights, Train
    from dgn_tf.setting import may_change, values_of

    own = values_of(Train())
    new = {
        "real_records",
        "real_fraction",
        "real_cameras",
        "labelled_fraction",
        "held_out",
        "real_validation_frames",
        "real_keypoint_weight",
        "unlabelled_records",
        "unlabelled_steps",
        "multi_view",
        "energy_weight",
        *values_of(EnergyWeights()),
    }
    assert new < set(own)
    before = {name: value for name, value in own.items() if name not in new}
    folder = begun(tmp_path / "run", before)
    now = own | {"real_records_hash": None, "unlabelled_records_hash": None}
    assert open_run_folder(folder, now, "", may_change(Train), own)
