"""`predict` on recordings: of other forms and cameras, with bad frames, in one table."""

import csv
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from dgn_tf.errors import InputError
from dgn_tf.frame_files import find_frames
from tests import programs
from tests.exported_model import blob_frame, exported_model

K = "--intrinsics=300,300,160,120"
UNIT = "--depth_unit=0.125"


def run(output, *arguments):
    """Runs dgn_tf.predict in this process."""
    model = f"--saved_model={exported_model()}"
    programs.run("dgn_tf.predict", model, f"--output_dir={output}", *arguments)


def save(file, u=150):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((blob_frame(u=u) * 8).astype(np.uint16)).save(file)


@pytest.fixture
def recording(tmp_path):
    """Frames 1, 2, 10 with a hand; 3 without depth, 4 with a speck, and two foreign files."""
    folder = tmp_path / "take [1]"
    for number in (1, 2, 10):
        save(folder / f"frame_{number}.png", u=140 + number)
    Image.fromarray(np.zeros([240, 320], np.uint16)).save(folder / "frame_3.png")
    speck = np.zeros([240, 320], np.uint16)
    speck[100, 100] = 4000
    Image.fromarray(speck).save(folder / "frame_4.png")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "notes.txt").write_text("a take")
    return folder


def stems(files):
    return [file.stem for file in files]


def test_folders_patterns_and_names_with_brackets_are_found(recording, monkeypatch):
    in_order = ["frame_1", "frame_2", "frame_3", "frame_4", "frame_10"]
    assert stems(find_frames(str(recording))) == in_order
    save(recording.parent / "other" / "x.png")
    one = str(recording / "frame_1.png")
    assert find_frames(one) == [pathlib.Path(one)]  # has brackets in it
    monkeypatch.chdir(recording)
    monkeypatch.setenv("HOME", str(recording.parent))
    found = find_frames("frame_1*.png,~/other,frame_10.png,frame_[23].png")
    assert stems(found) == ["frame_1", "frame_10", "x", "frame_2", "frame_3"]
    assert find_frames("~/other/*")[0] == recording.parent / "other" / "x.png"
    save(recording / "left[0].png")
    assert stems(find_frames("left[0].png")) == ["left[0]"]
    assert stems(find_frames("left[0]*")) == ["left[0]"]
    assert stems(find_frames("../take [1]/frame_1.*")) == ["frame_1"]
    save(recording / "one, two.png")
    assert stems(find_frames("one, two.png")) == ["one, two"]
    for named, line in [
        ("nothing/*.png", "matches no file"),
        (f"{recording.parent}/none", "matches no file"),
        ("frame_1.png,zz*", r"--depth=zz\* matches no file"),
        (",", "names no file"),
    ]:
        with pytest.raises(InputError, match=line):
            find_frames(named)
    (recording.parent / "empty").mkdir()
    (recording.parent / "empty" / "a.txt").touch()
    with pytest.raises(InputError, match=r"no depth frame .* among its 1 files \(.txt\)"):
        find_frames(str(recording.parent / "empty"))


def test_bad_frames_end_a_recording_or_are_left_out_and_named(recording, tmp_path, capsys):
    with pytest.raises(InputError, match="frame_3.*no pixel with depth.* --skip_bad_frames leaves"):
        run(tmp_path / "out", f"--depth={recording}", K, UNIT)
    with pytest.raises(InputError, match="--depth_unit is missing") as error:
        run(tmp_path / "out", f"--depth={recording}", K)
    assert "--skip_bad_frames" not in str(error.value)  # it would leave all of them out
    assert not (tmp_path / "out").exists()
    table = tmp_path / "out.csv"
    run(
        *(tmp_path / "out", f"--depth={recording},{recording}/Thumbs.db", K, UNIT),
        *("--skip_bad_frames", "--skip_without_hand", "--pictures=none", f"--table={table}"),
    )
    said = capsys.readouterr().out
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        f"frame_{number}.{ending}" for number in (1, 2, 10) for ending in ("ply", "json")
    }
    assert "3 frames, each .ply and .json; of 6: 3 found" in said and "3 skipped" in said
    assert "left out, no hand found" in said and "Thumbs.db, no depth frame" in said
    rows = list(csv.DictReader(table.open()))
    assert [row["status"] for row in rows] == [
        *("found", "found", "unreadable", "no_hand", "found", "unreadable")
    ]
    assert rows[2]["confidence"] == "" and "no pixel with depth" in rows[2]["warnings"]
    description = json.loads((tmp_path / "out" / "frame_1.json").read_text())
    names = list(description["keypoints_mm"])
    for axis, letter in enumerate("xyz"):
        told = float(rows[0][f"{names[0]}_{letter}_mm"])
        assert told == pytest.approx(description["keypoints_mm"][names[0]][axis], abs=1e-3)


def test_a_recording_of_bad_frames_alone_is_an_error(recording, tmp_path):
    with pytest.raises(InputError, match="none of the 1 frames can be read; .*no pixel"):
        run(tmp_path / "out", f"--depth={recording}/frame_3.png", K, UNIT, "--skip_bad_frames")
    assert not (tmp_path / "out").exists()


def test_frames_below_min_confidence_are_left_out_and_in_the_table(recording, tmp_path, capsys):
    arguments = [f"--depth={recording}/frame_1.png,{recording}/frame_2.png", K, UNIT]
    arguments.append(f"--table={tmp_path / 'out.npz'}")
    run(tmp_path / "out", *arguments)
    arrays = np.load(tmp_path / "out.npz")
    assert arrays["keypoints_mm"].shape == (2, 36, 3) == (2, len(arrays["keypoint_names"]), 3)
    assert list(arrays["status"]) == ["found", "found"] and list(arrays["hand"]) == ["right"] * 2
    low, high = sorted(arrays["confidence"])
    assert low < high
    between = (low + high) / 2
    run(tmp_path / "some", *arguments, f"--min_confidence={between}")
    assert f"left out, confidence {low:.2f}" in capsys.readouterr().out
    assert len(list((tmp_path / "some").glob("*.json"))) == 1
    again = np.load(tmp_path / "out.npz")
    assert sorted(again["status"]) == ["found", "low_confidence"]
    np.testing.assert_array_equal(again["keypoints_mm"], arrays["keypoints_mm"])
    with pytest.raises(InputError, match="no hand of --min_confidence=1 .*lower it"):
        run(tmp_path / "none", *arguments, "--min_confidence=1")


def test_a_table_of_parquet_is_that_of_csv(recording, tmp_path):
    pyarrow = pytest.importorskip("pyarrow", exc_type=ImportError)
    from pyarrow import parquet

    arguments = [f"--depth={recording}/frame_1.png", K, UNIT, "--pictures=none"]
    run(tmp_path / "out", *arguments, f"--table={tmp_path}/t.parquet")
    run(tmp_path / "out", *arguments, f"--table={tmp_path}/t.csv")
    table = parquet.read_table(tmp_path / "t.parquet")
    (row,) = csv.DictReader((tmp_path / "t.csv").open())
    assert pyarrow.types.is_float32(table.schema.field("confidence").type)
    assert table.column_names == list(row)
    for name in table.column_names:
        (value,) = table[name].to_pylist()
        assert row[name] == (value if isinstance(value, str) else f"{value:.4f}")


def test_a_table_is_refused_before_the_work(recording, tmp_path, monkeypatch):
    import sys

    arguments = [f"--depth={recording}/frame_1.png", K, UNIT]
    with pytest.raises(InputError, match=r"ends in .csv, .npz, .parquet"):
        run(tmp_path / "out", *arguments, "--table=all.xlsx")
    with pytest.raises(InputError, match="is an input"):
        run(tmp_path / "out", f"--depth={tmp_path}/t.csv", K, UNIT, f"--table={save_as(tmp_path)}")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="install the extra `table`"):
        run(tmp_path / "out", *arguments, f"--table={tmp_path}/t.parquet")
    assert not (tmp_path / "out").exists()


def save_as(folder):
    save(folder / "t.png")
    return (folder / "t.png").rename(folder / "t.csv")


@pytest.mark.parametrize(("pictures", "drawn"), [("none", 0), ("2", 2), ("9", 5)])
def test_pictures_are_drawn_of_all_some_or_none(pictures, drawn, tmp_path):
    for number in range(5):
        save(tmp_path / "in" / f"{number}.png", u=140 + 4 * number)
    run(tmp_path / "out", f"--depth={tmp_path}/in", K, UNIT, f"--pictures={pictures}")
    assert len(list((tmp_path / "out").glob("*.json"))) == 5
    files = list((tmp_path / "out").glob("*.png"))
    assert len(files) == drawn
    for file in files:
        with Image.open(file) as picture:
            assert picture.width == 1200 and np.asarray(picture).std() > 5


def test_pictures_of_other_processes_are_those_of_this_one(tmp_path):
    for number in range(4):
        save(tmp_path / "in" / f"{number}.png", u=140 + 4 * number)
    run(tmp_path / "many", f"--depth={tmp_path}/in", K, UNIT)
    run(tmp_path / "one", f"--depth={tmp_path}/in/2.png", K, UNIT)
    assert (tmp_path / "many" / "2.png").read_bytes() == (tmp_path / "one" / "2.png").read_bytes()


def test_a_picture_that_cannot_be_written_ends_the_run(tmp_path):
    from dgn_tf.picture_workers import PictureWorkers
    from dgn_tf.predictor import HandMeshPredictor

    frame, intrinsics = blob_frame(), np.float32([300, 300, 160, 120])
    mesh = HandMeshPredictor(exported_model())(frame, intrinsics)
    with pytest.raises(OSError, match="No such file"), PictureWorkers(9, workers=1) as pictures:
        pictures.draw(tmp_path / "no" / "a.png", mesh, frame, intrinsics, "a")
    with pytest.raises(InputError, match="--pictures=none does without"):
        with PictureWorkers(9, workers=1) as pictures:
            pictures._workers[0].kill()
            pictures._workers[0].join()
            for number in range(3):
                pictures.draw(tmp_path / f"{number}.png", mesh, frame, intrinsics, "a")


def test_wrong_pictures_are_refused(tmp_path, recording):
    with pytest.raises(InputError, match="--pictures=some: wanted all, none or a number"):
        run(tmp_path / "out", f"--depth={recording}/frame_1.png", K, UNIT, "--pictures=some")


def test_arrays_in_metres_and_a_calibration_are_said_and_used(tmp_path, capsys):
    frame = blob_frame()
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", np.where(frame > 0, frame / 1000, np.nan))
    calibration = {"fx": 600, "fy": 600, "ppx": 320.5, "ppy": 240.5, "width": 640, "height": 480}
    (tmp_path / "camera.json").write_text(json.dumps(calibration))
    run(tmp_path / "out", f"--depth={tmp_path}/in", f"--intrinsics={tmp_path}/camera.json")
    said = capsys.readouterr().out
    assert "each file is a numpy array of float32, taken as metres" in said
    assert "camera.json, scaled from 640 x 480" in said
    run(tmp_path / "same", f"--depth={tmp_path}/in", K)
    one, other = (
        json.loads((tmp_path / name / "a.json").read_text())["centre_mm"]
        for name in ("out", "same")
    )
    np.testing.assert_allclose(one, other, atol=0.05)


def test_a_sensors_usual_camera_is_said_to_be_approximate(tmp_path, capsys):
    file = tmp_path / "a.png"
    frame = blob_frame(width=512, height=424, u=250, v=200, focal=364.7)
    Image.fromarray(np.rint(frame).astype(np.uint16)).save(file)
    run(tmp_path / "out", f"--depth={file}", "--camera=kinect2", "--hand=left")
    assert "the usual intrinsics of a Kinect v2, approximate" in capsys.readouterr().out
    with pytest.raises(InputError, match="--intrinsics is missing.*--camera="):
        run(tmp_path / "none", f"--depth={file}", UNIT)
    with pytest.raises(InputError, match="of other proportions"):
        run(tmp_path / "none", f"--depth={file}", "--camera=sr305")


def test_the_input_calibration_is_not_overwritten(tmp_path):
    save(tmp_path / "camera.png")
    calibration = {"fx": 300, "fy": 300, "cx": 160, "cy": 120}
    (tmp_path / "camera.json").write_text(json.dumps(calibration))
    with pytest.raises(InputError, match="is an input"):
        run(
            *(tmp_path, f"--depth={tmp_path}/camera.png", UNIT),
            f"--intrinsics={tmp_path}/camera.json",
        )


def test_warnings_are_in_the_line_and_in_the_json(tmp_path, capsys):
    save(tmp_path / "a.png")
    run(tmp_path / "out", f"--depth={tmp_path}/a.png", UNIT, "--intrinsics=300,250,160,120")
    said = capsys.readouterr().out
    (in_file, *_) = json.loads((tmp_path / "out" / "a.json").read_text())["warnings"]
    assert "fy / fx is 0.83" in in_file and f"WARNING: {in_file}" in said


def test_a_mirrored_recording_is_warned_of(tmp_path, capsys, monkeypatch):
    from dgn_tf.predictor import HandMeshPredictor

    save(tmp_path / "a.png")
    monkeypatch.setattr(HandMeshPredictor, "side_evidence", lambda self, *_, **__: -3.0)
    run(tmp_path / "out", f"--depth={tmp_path}/a.png", UNIT, K)
    line = "--hand=right, but the frames look like a left hand"
    assert line in capsys.readouterr().out
    assert line in json.loads((tmp_path / "out" / "a.json").read_text())["warnings"][0]
    run(tmp_path / "out", f"--depth={tmp_path}/a.png", UNIT, K, "--hand=left")
    assert "but the frames" not in capsys.readouterr().out


KILLED = """
import os, signal, sys
from dgn_tf.picture_workers import PictureWorkers

if __name__ == "__main__":
    with PictureWorkers(9, workers=2) as pictures:
        print(*[worker.pid for worker in pictures._workers], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_that_draw_end_with_a_killed_program(tmp_path, checkout):
    import os
    import subprocess
    import sys
    import time

    (tmp_path / "killed.py").write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "killed.py")], stdout=subprocess.PIPE, env=environment
    )
    assert done.returncode == -9
    workers = [pathlib.Path("/proc", pid.decode()) for pid in done.stdout.split()]
    end = time.monotonic() + 60
    while any(is_running(worker) for worker in workers):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert len(workers) == 2


def is_running(process: pathlib.Path) -> bool:
    """Whether a process is there and not only waits to be buried by a parent that doesn't."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_recording_is_held_steady_where_that_is_asked_for(checkout, tmp_path):
    rng = np.random.default_rng(4)
    depth = np.asarray(Image.open(checkout / "samples" / "00_flat.png")).astype(float)
    (tmp_path / "take").mkdir()
    for number in range(3):
        noisy = np.where(depth > 0, depth + rng.normal(0, 2.0, depth.shape), 0)
        Image.fromarray(noisy.round().astype(np.uint16)).save(tmp_path / f"take/{number}.png")
    moved, firsts = {}, []
    for name, asked in (("none", []), ("one_euro", ["--filter=one_euro", "--rate=30"])):
        programs.run(
            *("dgn_tf.predict", f"--saved_model={checkout / 'saved_models' / 'dgn'}", *asked),
            *(f"--depth={tmp_path}/take", "--intrinsics=475,475,319.5,239.5", "--depth_unit=1"),
            *("--pictures=none", f"--output_dir={tmp_path / name}"),
        )
        found = [json.loads((tmp_path / f"{name}/{n}.json").read_text()) for n in range(3)]
        points = np.array([list(one["keypoints_mm"].values()) for one in found])
        moved[name] = np.linalg.norm(np.diff(points, axis=0), axis=-1).mean()
        firsts.append(points[0])
    np.testing.assert_allclose(*firsts, atol=2e-3)  # there is nothing to filter the first by
    assert 0 < moved["one_euro"] < 0.6 * moved["none"]
    model = f"--saved_model={checkout / 'saved_models' / 'dgn'}"
    for arguments, line in (
        (["--rate=15"], "--rate has no effect without --filter=one_euro"),
        (["--filter=one_euro", "--max_hands=2"], "--filter is of one hand"),
    ):
        with pytest.raises(InputError, match=line):
            programs.run("dgn_tf.predict", model, "--depth=x", "--output_dir=y", *arguments)
