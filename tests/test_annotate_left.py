"""`python -m dgn_tf.annotate` of a left hand: what it writes beside the records is the camera's."""

import json
import shutil

import numpy as np
import pytest
from absl import flags

from dgn_tf import annotate
from dgn_tf.geometry import mirror
from tests.data_prep import nyu_folder

STEPS = 3


@pytest.fixture(scope="module")
def convert():
    # Modules with flags are forgotten before each test: imported here, kept by the closure.
    from data_prep.nyu_to_tfrecord import convert_split
    from tests.view_records import grouped

    def convert(nyu, output, **settings):
        settings = {"workers": 1, "steps_per_shard": 2, **settings}
        return convert_split(
            nyu, output, "train", **grouped({"progress": False, "hand": "left", **settings})
        )

    return convert


@pytest.fixture(scope="module")
def world(convert, tmp_path_factory):
    """A left hand in NYU's layout, its records and an untrained model."""
    from dgn_tf.model_folder import save_model_folder
    from tests.exported_model import network

    folder = tmp_path_factory.mktemp("annotate_left")
    nyu = nyu_folder.write_nyu(folder / "nyu", STEPS, ("train",))
    camera = {"fx": 588.036865, "fy": 587.075073, "cx": 315.5, "cy": 240.0}
    rig = {"intrinsics": camera, "camera_from_camera1": nyu_folder.rig().tolist()}
    (folder / "rig.json").write_text(json.dumps(rig))
    convert(nyu, folder / "records", use_labels="extrinsics", calibration=str(folder / "rig.json"))
    save_model_folder(network(), folder / "model")
    return folder


@pytest.fixture
def annotated(world, flags_of_this_file):
    """The annotation's folder: made for the first test that wants it."""
    folder = world / "annotated"
    if not folder.exists():
        flags.FLAGS.unparse_flags()
        flags.FLAGS(
            [
                "annotate",
                f"--records={world / 'records' / 'train'}",
                f"--weights={world / 'model'}",
                f"--output_dir={folder}",
            ]
        )
        annotate.main([])
    return folder


def labels_of(annotated):
    from dgn_tf.annotation import records, schema

    described = json.loads((annotated / "description.json").read_text())
    names = [file["name"] for file in described["files"]]
    return [schema.parse_labels(record, 36) for record in records.read_annotated(annotated, names)]


def test_the_annotation_says_that_the_hand_is_a_left_one(annotated):
    description = json.loads((annotated / "description.json").read_text())
    assert description["hand"] == "left" and description["annotated"]["views_annotated"] > 0
    for labels in labels_of(annotated):
        assert labels["left"] == 1 and labels["frame_width"] == 640
        np.testing.assert_allclose(labels["intrinsics"][:, 2], 639 - 315.5)


def test_key_points_and_centres_are_written_in_the_cameras_frame(annotated):
    from data_prep.multi_view.centres import read_centres
    from data_prep.nyu.labels import read_labels

    written = read_labels(annotated / "joint_data.mat", (1, 2, 3)).xyz
    true = nyu_folder.points(STEPS)[:, :, 32]
    for labels in labels_of(annotated):
        row = int(labels["index"]) - 1
        np.testing.assert_allclose(
            written[:, row], mirror.mirror_points(labels["keypoints"]), atol=1e-3
        )  # mm
    for view in range(3):
        centres, _ = read_centres(annotated / f"centres_{view + 1}.txt")
        found = np.stack([labels["centre"][view] for labels in labels_of(annotated)])
        np.testing.assert_allclose(centres, mirror.mirror_points(found), atol=1e-3)
        # Untrained or not, it stays at the hand, which a forgotten mirror would not.
        assert np.linalg.norm(centres - true[view], axis=-1).max() < 200


def test_labels_in_the_camera_pose_the_mirrored_template(annotated):
    from dgn_tf.annotation import schema
    from tests.exported_model import network

    template = network().template
    rest = np.pad(template.rest_mesh("left")[0], [(0, 0), (0, 1)], constant_values=1)
    for labels in labels_of(annotated):
        seen = schema.in_camera(labels)
        posed = np.einsum("vp,cpij,vj->cvi", template.skinning_weights, seen["transforms"], rest)
        np.testing.assert_allclose(posed[..., :3], seen["vertices"], atol=0.05)  # mm
        for name in ("keypoints", "vertices", "transforms"):
            np.testing.assert_array_equal(schema.in_camera(seen)[name], labels[name])


@pytest.mark.parametrize("centred", [False, True])
def test_the_converter_reads_them_back_to_the_same_records(
    annotated, world, convert, tmp_path, centred
):
    nyu = shutil.copytree(world / "nyu", tmp_path / "nyu")
    shutil.copyfile(annotated / "joint_data.mat", nyu / "train" / "joint_data.mat")
    pattern = str(annotated / "centres_{camera}.txt")
    centre = {"center": "file", "center_file": pattern} if centred else {"center": "com"}
    convert(nyu, tmp_path / "out", calibration=str(world / "rig.json"), **centre)
    before = nyu_folder.read_records(annotated)
    after = nyu_folder.read_records(tmp_path / "out" / "train")
    for one, other in zip(before, after, strict=True):
        assert one["left"] == other["left"] == 1
        np.testing.assert_allclose(one["keypoints"], other["keypoints"], atol=1e-3)  # mm
        np.testing.assert_array_equal(one["intrinsics"], other["intrinsics"])
        if centred:
            np.testing.assert_allclose(one["centre"], other["centre"], atol=1e-3)
