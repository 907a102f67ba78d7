"""`python -m dgn_tf.evaluate` on multi-view records, and the round trip of its predictions."""

import json

import numpy as np
import pytest
from absl import flags

from dgn_tf import evaluate
from dgn_tf.errors import InputError
from dgn_tf.evaluation.nyu import read_uvd
from dgn_tf.evaluation.report import KEYS
from tests.evaluated_views import write_split, write_truth

TRUTH = ["--truth=truth.npz", "--truth_template=truth_template.npz"]
MODEL = ["--records=records", "--weights=model"]
COMMON = {"left_out", "keypoints_missing"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Records of one split, true meshes, records of no camera's place, an untrained model."""
    from dgn_tf.model_folder import save_model_folder
    from tests.exported_model import exported_model, network

    folder = tmp_path_factory.mktemp("evaluate_views")
    write_split(folder / "records" / "test")
    write_split(folder / "no_rig" / "test", extrinsics="none")
    write_truth(folder)
    save_model_folder(network(), folder / "model")
    (folder / "model" / "1").symlink_to(exported_model() / "1")
    return folder


@pytest.fixture(autouse=True)
def inside(world, monkeypatch):
    monkeypatch.chdir(world)


def run(*arguments):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["evaluate", *arguments])
    evaluate.main([])


def figures_of(file):
    with open(file, encoding="utf-8") as text:
        return json.load(text)


def test_predictions_scored_as_a_file_give_the_direct_figures(capsys):
    run(
        *MODEL,
        "--split=test",
        "--camera=2",
        "--predictions_out=p/ours.txt.gz",
        "--labels_out=p/labels.txt",
        "--json=p/direct.json",
        "--subject1_frames=4",
        "--nosurface",
        "--batch_size=4",
    )
    assert "centres of the crops: joint (oracle" in capsys.readouterr().out
    run(
        "--predictions=p/ours.txt.gz",
        "--labels=p/labels.txt",
        "--intrinsics=588,587,320,240",
        "--json=p/file.json",
        "--subject1_frames=4",
    )
    direct, scored = figures_of("p/direct.json"), figures_of("p/file.json")
    assert set(scored) == set(KEYS) | COMMON
    assert set(direct) == set(KEYS) | COMMON | {"split", "camera", "hand", "centre"}
    assert direct["frames"] == 5 and direct["left_out"] == 1 and direct["keypoints_missing"] == 2
    assert direct["centre"].startswith("joint (oracle")
    for part in (None, "subject1", "subject2"):
        one, other = (figures[part] if part else figures for figures in (direct, scored))
        for key in ("frames", "success_20", "success_30"):
            assert one[key] == other[key], (part, key)
        for key in ("mean_mm", "auc_0_50"):
            assert one[key] == pytest.approx(other[key], abs=1e-4), (part, key)
        assert one["per_joint_mm"] == pytest.approx(other["per_joint_mm"], abs=1e-4)  # mm
    assert direct["left_out"] == scored["left_out"]
    assert direct["keypoints_missing"] == scored["keypoints_missing"]
    assert direct["subject1"]["frames"] == 3 and direct["subject2"]["frames"] == 2


def test_saved_model_agrees_with_the_weights_and_true_meshes_give_the_surface(capsys):
    run(*MODEL, *TRUTH, "--json=weights.json", "--plot=views.png")
    run("--records=records/test", "--saved_model=model", *TRUTH, "--json=saved.json")
    weights, saved = figures_of("weights.json"), figures_of("saved.json")
    assert weights["frames"] == 6 and weights["left_out"] == 0 and weights["camera"] == 1
    assert weights["surface_mm"] > 0 and weights["vertices_pr_mm"] is None
    for key in ("mean_mm", "keypoints36_mm", "surface_mm"):
        assert saved[key] == pytest.approx(weights[key], abs=0.1), key  # mm
    assert "surface, P_r" in capsys.readouterr().out


def test_a_left_hands_figures_are_the_mirrored_ones_and_its_files_are_not_mirrored(tmp_path):
    write_split(tmp_path / "test", left=True)
    write_truth(tmp_path, left=True)
    truth = [f"--truth={tmp_path}/truth.npz", f"--truth_template={tmp_path}/truth_template.npz"]
    for records, name, true in (("records", "right", TRUTH), (str(tmp_path), "left", truth)):
        run(
            f"--records={records}",
            "--weights=model",
            "--camera=2",
            f"--json=p/{name}.json",
            f"--predictions_out=p/{name}.txt",
            f"--labels_out=p/{name}_labels.txt",
            *true,
        )
    right, left = figures_of("p/right.json"), figures_of("p/left.json")
    assert right.pop("hand") == "right" and left.pop("hand") == "left"
    assert left.pop("surface_mm") == pytest.approx(right.pop("surface_mm"), abs=1e-3)  # mm
    assert left == right
    for suffix in ("", "_labels"):
        one, other = (read_uvd(f"p/{name}{suffix}.txt") for name in ("left", "right"))
        np.testing.assert_allclose(one * [-1, 1, 1] + [639, 0, 0], other, atol=2e-4)  # px, mm


def test_every_camera_in_turn_counts_each_usable_view():
    run(*MODEL, "--camera=0", "--json=each.json", "--nosurface")
    figures = figures_of("each.json")
    assert figures["frames"] == 17 and figures["left_out"] == 1  # 6 x 3, one without a frame


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([*MODEL, "--split=train"], "has no split train; it has test"),
        ([*MODEL, "--camera=4"], "--camera is one of 1, 2, 3"),
        ([*MODEL, "--truth=truth.npz"], "--truth and --truth_template are wanted together"),
        ([*MODEL, "--truth=none.npz", TRUTH[1]], "--truth=none.npz does not exist"),
        ([*MODEL, "--camera=0", "--predictions_out=p.txt"], "name one --camera"),
        ([*MODEL, "--predictions_out=records"], "--predictions_out=records is a folder"),
        (["--records=no_rig", "--weights=model", "--camera=2", *TRUTH], "where camera 2 stood"),
        (["--records=none", "--weights=model", "--split=test"], "--records=none has no split"),
    ],
)
def test_bad_input_is_one_error_that_names_its_flag_or_file(arguments, message):
    with pytest.raises(InputError) as caught:
        run(*arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)
