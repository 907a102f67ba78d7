"""Parameter files: what was written comes back, and what is wrong with a file is said in a line."""

import json
import random
import shutil
import types

import numpy as np
import pytest
from PIL import Image

from dgn_tf.errors import InputError
from dgn_tf.model_folder import save_model_folder
from dgn_tf.parameter_file import FRAME, HEADER, ParameterTable, read_parameters
from dgn_tf.parameters import hand_parameters
from dgn_tf.template import load_template
from tests import programs
from tests.exported_model import blob_frame, exported_model, network
from tests.faults.mutations import HOW_MANY, mutated
from tests.test_parameters import posed

TEMPLATE = load_template()


def mesh(seed=0, hand="right"):
    found, _, _ = posed(seed, hand)
    return types.SimpleNamespace(**vars(found), confidence=np.full(4, 0.75, np.float32))


def write(file, hands=("right", "", "right"), names=None):
    """A file of hands, a frame each, posed by their number; "" is a frame without one."""
    table = ParameterTable(str(file), TEMPLATE)
    for row, hand in enumerate(hands):
        name = names[row] if names else f"frame_{row}.png"
        if hand:
            table.add(name, "found", mesh(row, hand))
        else:
            table.add(name, "no_hand")
    table.write()
    return file


@pytest.mark.parametrize("ending", ["json", "npz"])
def test_what_was_written_comes_back(tmp_path, ending):
    found = read_parameters(str(write(tmp_path / f"take.{ending}", ("right", "", "left"))))
    assert found.frame_names == ("frame_0", "frame_1", "frame_2")
    assert found.hands == ("right", "", "left") and found.valid.tolist() == [True, False, True]
    assert found.template_hash == TEMPLATE.hash and found.part_names == TEMPLATE.part_names
    assert np.isnan(found.times).all()
    for row, side in ((0, "right"), (2, "left")):
        wanted = hand_parameters(mesh(row, side), TEMPLATE)
        np.testing.assert_allclose(found.local[row], wanted.local, atol=1e-5)


def test_both_forms_hold_the_same_fields_and_describe_each(tmp_path):
    told = json.loads(write(tmp_path / "a.json").read_text())
    arrays = np.load(write(tmp_path / "a.npz"))  # plain arrays: no pickle is needed
    assert set(told) == {*HEADER, "frames"}
    assert set(arrays) == {*HEADER, *FRAME}
    assert told["fields"] == {**HEADER, **FRAME} == json.loads(str(arrays["fields"]))
    first, lost = told["frames"][:2]
    assert {*first, "time_s"} == set(FRAME)
    assert lost == {"frame_name": "frame_1", "valid": False, "status": "no_hand", "hand": ""}
    for name in set(first) - {"frame_name", "valid", "status", "hand"}:
        np.testing.assert_allclose(arrays[name][0], first[name], atol=1e-6, err_msg=name)
        assert np.isnan(arrays[name][1]).all(), name
    assert arrays["shape"].shape == (3, len(TEMPLATE.shape_names))
    assert told["joint_names"][3] == "thumb_mcp_flexion"


def test_names_that_are_seconds_are_time_stamps(tmp_path):
    names = ["1305031102.160407.png", "1305031102.194330.png"]
    file = write(tmp_path / "take.json", ("right", "right"), names)
    np.testing.assert_allclose(
        read_parameters(str(file)).times, [1305031102.160407, 1305031102.194330], atol=1e-6
    )


def edited(file, change):
    told = json.loads(file.read_text())
    change(told)
    file.write_text(json.dumps(told))
    return str(file)


@pytest.mark.parametrize(
    "change, line",
    [
        (lambda told: told.pop("frames"), "it has no frames"),
        (lambda told: told.pop("part_names"), "it has no 'part_names'"),
        (lambda told: told.update(format_version=2), "its format is dgn_parameters 2, wanted"),
        (lambda told: told.update(frames=[]), "it holds no frame"),
        (lambda told: told["frames"][0].pop("local"), "it has no 'local'"),
        (lambda told: told["frames"][0].update(local=[[1]]), "no parameters of dgn_tf.predict"),
        (lambda told: told["frames"][0].update(hand="both"), "neither right nor left"),
        (
            lambda told: told["frames"][0]["local"][3].__setitem__(0, [9, 9, 9, 9]),
            "local of frame_0 are no similarities",
        ),
        (lambda told: told["frames"][0].update(valid="yes"), "no parameters of dgn_tf.predict"),
        (lambda told: told["frames"].append(7), "no parameters of dgn_tf.predict"),
    ],
)
def test_a_damaged_file_is_told_in_one_line(tmp_path, change, line):
    file = edited(write(tmp_path / "take.json"), change)
    with pytest.raises(InputError, match=line) as caught:
        read_parameters(file)
    assert file in str(caught.value) and "\n" not in str(caught.value)


def test_no_file_another_ending_and_foreign_bytes(tmp_path):
    with pytest.raises(InputError, match=r"none.json: cannot read \(No such file"):
        read_parameters(str(tmp_path / "none.json"))
    with pytest.raises(InputError, match=r"a.csv: wanted a name that ends in .json, .npz"):
        read_parameters(str(tmp_path / "a.csv"))
    for name, content in (("a.npz", b"PK\x03\x04oops"), ("a.json", b"{"), ("b.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="no parameters of dgn_tf.predict"):
            read_parameters(str(tmp_path / name))


@pytest.mark.parametrize("count", HOW_MANY)
@pytest.mark.parametrize("ending", ["json", "npz"])
def test_damage_by_chance_is_refused_in_a_line_or_read(tmp_path, ending, count):
    """JSON has no check sums: a digit may be another, but what is read is a recording."""
    file = write(tmp_path / f"take.{ending}")
    whole, rng = file.read_bytes(), random.Random(5)
    for _ in range(count):
        file.write_bytes(mutated(whole, rng))
        try:
            found = read_parameters(str(file))
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert np.isfinite(found.local).all() and len(found.hands) == len(found.local)


def model_folder(folder):
    """A model folder with the small network's template and export; its path."""
    save_model_folder(network(), folder / "model")
    shutil.copytree(exported_model() / "1", folder / "model" / "1")
    return folder / "model"


def test_predict_writes_a_row_for_every_frame(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for name, u in (("a", 150), ("c", 170)):
        Image.fromarray(blob_frame(u=u).astype(np.uint16)).save(frames / f"{name}.png")
    Image.fromarray(np.zeros([240, 320], np.uint16)).save(frames / "b.png")
    common = (
        f"--saved_model={model_folder(tmp_path)}",
        f"--depth={frames}",
        "--intrinsics=300,300,160,120",
        "--depth_unit=1",
        "--pictures=none",
        "--skip_bad_frames",
    )
    file = tmp_path / "take.json"
    programs.run(
        "dgn_tf.predict", *common, f"--output_dir={tmp_path / 'out'}", f"--parameters={file}"
    )
    told = json.loads(file.read_text())
    assert [row["frame_name"] for row in told["frames"]] == ["a", "b", "c"]
    assert [row["status"] for row in told["frames"]] == ["found", "unreadable", "found"]
    of_frame = json.loads((tmp_path / "out" / "c.json").read_text())
    found = read_parameters(str(file))
    assert found.hands[0] == of_frame["hand"] == "right"
    both = tmp_path / "both.npz"
    programs.run(
        "dgn_tf.predict",
        *common,
        f"--output_dir={tmp_path / 'two'}",
        f"--parameters={both}",
        "--max_hands=2",
        "--hand=left",
        "--skip_without_hand",
    )
    assert set(read_parameters(str(both)).frame_names) == {"a", "b", "c"}  # not a_0
    with pytest.raises(InputError, match=r"--parameters=x.csv: wanted a name that ends in .json"):
        programs.run("dgn_tf.predict", *common, "--output_dir=o", "--parameters=x.csv")
