"""Multi-view records as frames to measure: which folder, which camera, whose truth."""

import json

import numpy as np
import pytest

from dgn_tf.errors import InputError
from dgn_tf.evaluation.frame_errors import frame_errors
from dgn_tf.evaluation.mesh_truth import MeshTruth
from dgn_tf.evaluation.prediction_files import read_labels, score_file
from dgn_tf.evaluation.report import report
from dgn_tf.evaluation.view_records import KeptPredictions, ViewFrames, find_view_records
from tests.evaluated_views import CORNERS, write_split, write_truth
from tests.tiny_template import tiny_template
from tests.view_records import INTRINSICS

SIZE = 16


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    write_split(folder / "records" / "test")
    write_truth(folder)
    return folder


def frames(world, camera=1, truth=False):
    known = MeshTruth(world / "truth.npz", world / "truth_template.npz") if truth else None
    return ViewFrames(world / "records" / "test", camera, tiny_template(), known)


def noisy(batch, scale=1.0):
    """Predictions that err by what the frame's number says, in every key point another way."""
    rng = np.random.default_rng(int(batch["index"][0]))
    noise = rng.normal(size=batch["keypoints"].shape) * 6 * scale
    vertices = np.tile(tiny_template().vertices, [len(noise), 1, 1]) + batch["centre"][:, None]
    return {"keypoints": batch["keypoints"] + noise, "vertices": vertices}


def test_records_of_a_split_are_found_from_above_and_from_inside(world):
    folder = world / "records" / "test"
    assert find_view_records(str(world / "records"), "test", False) == folder
    assert find_view_records(str(folder), "test", True) == folder
    assert find_view_records(str(folder), "train", False) == folder
    assert find_view_records(str(world), "test", False) is None


def test_a_split_that_is_not_there_is_named_with_those_that_are(world, tmp_path):
    with pytest.raises(InputError, match="has no split train; it has test"):
        find_view_records(str(world / "records"), "train", False)
    with pytest.raises(InputError, match="is the split test, --split=train is wanted"):
        find_view_records(str(world / "records" / "test"), "train", True)
    with pytest.raises(InputError, match="has no split test; it has none"):
        find_view_records(str(tmp_path), "test", True)
    with pytest.raises(InputError, match="named by their folder"):
        find_view_records(str(world / "records" / "test" / "*.tfrecord"), "test", False)
    (tmp_path / "test").mkdir()
    with pytest.raises(InputError, match="let data_prep.nyu_to_tfrecord finish"):
        find_view_records(str(tmp_path), "test", False)


def test_a_camera_the_records_lack_and_foreign_key_points_are_refused(world, tmp_path):
    with pytest.raises(InputError, match="no camera 4; --camera is one of 1, 2, 3"):
        frames(world, camera=4)
    write_split(tmp_path / "test", keypoints=["thumb"])
    with pytest.raises(InputError, match="labels none of the key points that are evaluated"):
        ViewFrames(tmp_path / "test", 1, tiny_template())


def test_true_meshes_stand_where_the_cameras_key_points_are(world):
    # The truth's vertices are, by construction, the first key points as camera 1 sees them.
    for camera in (1, 2, 3):
        seen = 0
        for batch in frames(world, camera, truth=True).batches(4, SIZE):
            found = batch["other_vertices"]
            known = np.isfinite(found).all(axis=(1, 2))
            points = batch["keypoints"][:, :CORNERS]
            both = known[:, np.newaxis] & (batch["keypoints_valid"][:, :CORNERS] > 0)
            np.testing.assert_allclose(found[both], points[both], atol=0.1)  # mm; float16
            seen += int(known.sum())
        assert seen >= 3


def test_truth_of_a_camera_whose_place_is_not_known_is_refused(world, tmp_path):
    write_split(tmp_path / "test", extrinsics="none")
    truth = MeshTruth(world / "truth.npz", world / "truth_template.npz")
    with pytest.raises(InputError, match="where camera 2 stood is not known"):
        ViewFrames(tmp_path / "test", 2, tiny_template(), truth)
    ViewFrames(tmp_path / "test", 1, tiny_template(), truth)


def test_surface_of_another_mesh_is_measured_where_there_is_truth_alone(world):
    views = frames(world, truth=True)
    truth = MeshTruth(world / "truth.npz", world / "truth_template.npz")
    found = frame_errors(
        noisy,
        views.batches(3, SIZE),
        tiny_template(),
        true_mesh=(truth.faces, truth.wrist_loop),
    )
    known = np.isin(found["index"], [1, 2, 4, 5])
    assert np.isfinite(found["surface_mm"][known]).all()
    assert np.isnan(found["surface_mm"][~known]).all() and len(truth) == 4
    assert "vertices_pr_mm" not in found
    figures = report(found, [str(i) for i in range(14)])
    assert figures["surface_mm"] == pytest.approx(found["surface_mm"][known].mean())


def test_a_key_point_without_truth_counts_nowhere(world):
    def predict(batch):
        wrong = np.where(batch["keypoints_valid"][..., None] > 0, 3.0, 900.0)
        offsets = wrong * np.float32([0, 0, 1])
        return {**noisy(batch), "keypoints": batch["keypoints"] + offsets}

    found = frame_errors(predict, frames(world).batches(4, SIZE), tiny_template())
    assert np.isnan(found["joints"]).sum() == 2  # what `write_split` leaves out
    known = found["joints"][~np.isnan(found["joints"])]
    np.testing.assert_allclose(known, 3.0, atol=1e-3)
    np.testing.assert_allclose(found["keypoints36_mm"], 3.0, atol=1e-3)


@pytest.mark.parametrize("ending", [".txt", ".txt.gz"])
def test_a_predictions_file_scores_as_the_direct_evaluation(world, tmp_path, ending):
    names = [str(i) for i in range(14)]
    for camera, left_out in ((1, 0), (2, 1)):
        views = frames(world, camera)
        kept = KeptPredictions(noisy, tiny_template())
        direct = frame_errors(kept, views.batches(4, SIZE), tiny_template())
        kept.write(tmp_path / f"p{ending}", views.last_frame)
        kept.write_labels(tmp_path / f"l{ending}", views.last_frame)
        labels = read_labels(tmp_path / f"l{ending}")
        again = score_file(tmp_path / f"p{ending}", labels, tuple(INTRINSICS))
        assert len(labels) == 6 and again.left_out == left_out
        assert again.labels_missing == np.isnan(direct["joints"]).sum()
        np.testing.assert_array_equal(again.errors["index"], direct["index"])
        np.testing.assert_allclose(again.errors["joints"], direct["joints"], atol=1e-3)  # mm
        first, second = (report(e, names, 3) for e in (direct, again.errors))
        for part in ("subject1", "subject2"):
            assert first[part]["mean_mm"] == pytest.approx(second[part]["mean_mm"], abs=1e-4)
            assert first[part]["success_20"] == second[part]["success_20"]


def test_lines_of_the_file_are_the_frames_numbers(world, tmp_path):
    views = frames(world, camera=2)
    kept = KeptPredictions(noisy, tiny_template())
    for batch in views.batches(2, SIZE):
        kept(batch)
    kept.write(tmp_path / "p.txt", views.last_frame, limit=3)
    lines = [line.split() for line in (tmp_path / "p.txt").read_text().splitlines()]
    assert [len(line) for line in lines] == [42] * 6
    missing = [set(line) == {"nan"} for line in lines]
    assert missing == [False, False, True, False, True, True]  # no view 3; 3 predictions of 5


def test_a_bad_prediction_is_no_missing_one(world, tmp_path):
    def predict(batch):
        return {"keypoints": np.full_like(batch["keypoints"], np.nan)}

    kept = KeptPredictions(predict, tiny_template())
    for batch in frames(world).batches(6, SIZE):
        kept(batch)
    kept.write(tmp_path / "p.txt", 6)
    kept.write_labels(tmp_path / "l.txt", 6)
    scored = score_file(tmp_path / "p.txt", read_labels(tmp_path / "l.txt"))
    assert scored.left_out == 0
    figures = report(scored.errors, [str(i) for i in range(14)])
    assert figures["mean_mm"] is None and figures["success_30"] == 0


def test_skipped_frames_at_the_end_have_their_lines(tmp_path):
    write_split(tmp_path / "test")
    file = tmp_path / "test" / "description.json"
    description = json.loads(file.read_text())
    description["skipped"] = [
        {"file": "test/depth_2_0000009.png", "why": "no such file, but a label"},
        {"file": "test/depth_2_0000012.png", "why": "a frame without label: there are 9"},
    ]
    file.write_text(json.dumps(description))
    views = ViewFrames(tmp_path / "test", 1, tiny_template())
    assert views.last_frame == 9 and views.views == 9
