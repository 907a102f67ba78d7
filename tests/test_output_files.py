"""No program writes a file that it reads, by whatever path it is named."""

import os
import pathlib
import re

import numpy as np
import pytest
from absl import flags
from PIL import Image

from dgn_tf import output_files
from dgn_tf.errors import InputError
from tests.exported_model import blob_frame


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.fixture
def recording(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    for index in range(2):
        frame = (blob_frame(u=150 + index) * 8).astype(np.uint16)
        Image.fromarray(frame).save(folder / f"{index}.png")
    return folder


def linked(folder, how):
    """Another path at which a frame of the folder would be replaced."""
    other = folder.parent / how
    if how == "same":
        return folder
    if how == "folder link":
        other.symlink_to(folder)
        return other
    other.mkdir()
    place = other / "1.png"
    place.symlink_to(folder / "1.png") if how == "link" else os.link(folder / "1.png", place)
    return other


@pytest.mark.parametrize("program", ["predict", "serving_client"])
@pytest.mark.parametrize("how", ["same", "folder link", "link", "hard link"])
def test_a_recording_is_never_replaced_by_its_pictures(program, how, recording):
    if program == "predict":
        from dgn_tf import predict as module

        more = ["--saved_model=nowhere"]
    else:
        pytest.importorskip("grpc")
        from dgn_tf import serving_client as module

        more = ["--grpc=localhost:1"]
    before = contents(recording)
    flags.FLAGS.unparse_flags()
    arguments = [f"--depth={recording}/*.png", f"--output_dir={linked(recording, how)}"]
    camera = ["--intrinsics=300,300,160,120", "--depth_unit=0.125"]
    flags.FLAGS([program, *arguments, *camera, *more])
    with pytest.raises(InputError, match=r"\.png is an input \(--depth"):
        module.main([])
    assert contents(recording) == before


def test_a_frame_of_that_name_does_not_replace_the_models_description(recording):
    (recording / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"config\.json is an input \(--saved_model"):
        output_files.refuse_inputs(
            {"output_dir": [recording / "config.json"]}, {"saved_model": recording}
        )


@pytest.mark.parametrize(
    "flag",
    [
        *("json=a.txt", "json=./a.txt", "json=link.txt", "plot=b.txt", "predictions_out=a.txt"),
        *("json=run/weights.h5", "json=run/../run/weights.h5", "plot=set/x-0.tfrecord"),
        *("labels_out=c=d.txt", "json=run", "json=flags"),
    ],
)
def test_evaluate_writes_no_file_that_a_flag_names(flag, tmp_path, monkeypatch):
    from dgn_tf import evaluate  # noqa: F401 (its flags)

    monkeypatch.chdir(tmp_path)
    pathlib.Path("run").mkdir()
    pathlib.Path("set").mkdir()
    for name in ("a.txt", "b.txt", "c=d.txt", "flags", "run/weights.h5", "set/x-0.tfrecord"):
        pathlib.Path(name).touch()
    pathlib.Path("link.txt").symlink_to("a.txt")
    reads = ["--predictions=A=a.txt,c=d.txt", "--labels=b.txt", "--weights=run"]
    flags.FLAGS.unparse_flags()
    arguments = ["evaluate", "--flagfile=flags", "--records=set/*.tfrecord", *reads, f"--{flag}"]
    flags.FLAGS(arguments)
    with pytest.raises(InputError, match="is an input|is a folder"):
        output_files.check_flags(arguments)


def test_one_file_for_two_outputs_is_refused_and_other_files_are_not(tmp_path):
    file = tmp_path / "figures.json"
    file.touch()
    (tmp_path / "weights.h5").touch()
    output_files.refuse_inputs({"json": file}, {"weights": tmp_path, "records": "", "x": None})
    with pytest.raises(InputError, match="is the file of --json too"):
        output_files.refuse_inputs({"json": file, "plot": f"{tmp_path}/./figures.json"}, {})


def test_every_flag_of_a_file_to_write_is_checked(checkout):
    """Flags whose help says that a file is written there stand in the list."""
    found = set()
    for folder in ("dgn_tf", "data_prep", "experiments"):
        for path in (checkout / folder).rglob("*.py"):
            for name, text in re.findall(
                r'DEFINE_string\(\s*"(\w+)",\s*(?:"[^"]*"|None|str\(\w+\)),\s*"([^"]*)',
                path.read_text(),
            ):
                if re.search(r"^File.* for |to write|^Picture|^Calibration plot|as JSON", text):
                    found.add(name)
    assert {"json", "plot", "output", "report", "figure"} <= found
    assert found <= set(output_files.FLAGS_OF_FILES), found - set(output_files.FLAGS_OF_FILES)


def test_a_folder_in_the_way_leaves_every_earlier_result_where_it_was(tmp_path):
    from dgn_tf import frame_command

    (tmp_path / "b.ply").mkdir()
    (tmp_path / "a.ply").write_text("of an earlier run")
    with pytest.raises(InputError, match=r"b\.ply is a folder"):
        with frame_command.staged(tmp_path) as stage:
            for name in ("a.ply", "b.ply"):
                (stage / name).write_text("new")
    assert contents(tmp_path) == {"a.ply": b"of an earlier run"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ply", "b.ply"]


def test_what_a_killed_run_left_does_not_stop_the_next(tmp_path):
    from dgn_tf import frame_command

    (tmp_path / f".writing-{os.getpid()}").mkdir()
    with frame_command.staged(tmp_path) as stage:
        (stage / "a.ply").write_text("new")
    assert (tmp_path / "a.ply").read_text() == "new"
