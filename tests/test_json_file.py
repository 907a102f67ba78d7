"""JSON files written whole or not at all."""

import json

import numpy as np
import pytest

from dgn_tf import json_file
from dgn_tf.errors import InputError
from dgn_tf.json_file import known, parse_json, read_json, write_json


def test_writes_into_a_new_folder_and_leaves_nothing_beside(tmp_path):
    file = tmp_path / "new" / "a.json"
    write_json({"x": 1.5, "y": None}, file)
    assert json.loads(file.read_text()) == {"x": 1.5, "y": None}
    assert [entry.name for entry in file.parent.iterdir()] == ["a.json"]


def test_nan_is_refused_and_the_old_file_stays(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("old")
    with pytest.raises(ValueError):
        write_json({"x": float("nan")}, file)
    assert file.read_text() == "old"


def test_a_folder_in_its_place_is_an_error_that_names_the_flag(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(InputError, match="--json=.*a.json"):
        write_json({}, tmp_path / "a.json")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_file_in_its_folders_place_is_an_error_too(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(InputError, match="--json=.*a.json"):
        write_json({}, tmp_path / "file" / "a.json")


@pytest.mark.parametrize(
    "text", ["[" * 10**5, '{"a":' * 10**5, "", "{", '{"a": ' + "9" * 10**4 + "}", "nul"]
)
def test_whatever_stands_in_a_file_its_error_is_one_line(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    for read in (lambda: read_json(tmp_path / "a.json"), lambda: parse_json(text)):
        with pytest.raises(ValueError) as error:
            read()
        assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_and_files_without_end_are_refused(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="UTF-16 text"):
        read_json(tmp_path / "a.json")
    monkeypatch.setattr(json_file, "MAX_BYTES", 10)
    (tmp_path / "a.json").write_text("[1, 2, 3, 4]")
    with pytest.raises(ValueError, match="more than 10 bytes"):
        read_json(tmp_path / "a.json")


def test_figures_that_there_are_none_of_become_null(tmp_path):
    figures = {"a": float("nan"), "b": [1.5, float("inf"), {"c": np.float64("nan")}], "d": "nan"}
    write_json(known(figures), tmp_path / "f.json")
    assert read_json(tmp_path / "f.json") == {"a": None, "b": [1.5, None, {"c": None}], "d": "nan"}
