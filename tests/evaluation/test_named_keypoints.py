"""Key points meet by name, in whatever order the labels have them."""

import dataclasses

import numpy as np
import pytest

from dgn_tf.errors import InputError
from dgn_tf.evaluation.frame_errors import frame_errors
from dgn_tf.evaluation.mesh_truth import columns_by_name, in_order, of_other_template
from dgn_tf.model_folder import load_weights, save_model_folder
from dgn_tf.network import DualGridNet
from dgn_tf.network_config import NetworkConfig
from tests.tiny_template import tiny_template


def test_labels_in_another_order_score_as_in_the_models_own():
    template, rng = tiny_template(), np.random.default_rng(0)
    keypoints = rng.normal(size=[3, 36, 3])
    order = rng.permutation(36)
    names = [template.keypoint_names[i] for i in order]
    columns = columns_by_name(names, template, "records")
    batch = in_order({"keypoints": keypoints[:, order]}, columns)
    np.testing.assert_array_equal(batch["keypoints"], keypoints)
    assert (batch["keypoints_valid"] == 1).all()


def test_key_points_without_label_count_nowhere():
    template, rng = tiny_template(), np.random.default_rng(1)
    predicted = rng.normal(size=[2, 36, 3]) * 50
    names = [template.keypoint_names[i] for i in (3, 0)]
    columns = columns_by_name([*names, "nose"], template, "records")
    labels = np.concatenate([predicted[:, [3, 0]] + [3.0, 0, 4], np.zeros([2, 1, 3])], axis=1)
    found = frame_errors(
        lambda _: {"keypoints": predicted},
        [in_order({"keypoints": labels}, columns)],
        template,
        surface=False,
    )
    known = np.isin(template.evaluated, (0, 3))
    np.testing.assert_allclose(found["joints"][:, known], 5.0)
    assert np.isnan(found["joints"][:, ~known]).all()
    with pytest.raises(InputError, match="records: labels none of the key points.*tiny"):
        columns_by_name(["nose"], template, "records")


def test_records_of_another_template_are_truth_for_key_points_and_surface():
    template = tiny_template()
    mesh = template.vertices[None].astype(np.float64)
    batch = {
        "keypoints": template.keypoints[None],
        "vertices": mesh + [0, 2.0, 0],
        "face": 0,
        "barycentric": 0,
        "correspondence_mask": 0,
    }
    columns = columns_by_name(template.keypoint_names, template, "records")
    outputs = {"keypoints": template.keypoints[None], "vertices": mesh, "vertices_sampled": mesh}
    found = frame_errors(
        lambda _: outputs,
        of_other_template([batch], columns),
        template,
        true_mesh=(template.faces, template.wrist_loop),
    )
    assert found["joints"].max() == 0 and "vertices_pr_mm" not in found
    assert 0.3 < found["surface_mm"][0] <= 2.0  # mm.


def test_weights_of_another_template_are_refused_with_both_hashes(tmp_path):
    config = NetworkConfig(image_channels=(8, 8), mesh_channels=(8, 8), features=4)
    template = tiny_template()
    other = dataclasses.replace(template, vertices=template.vertices * 1.01, name="other")
    networks = [DualGridNet(hand, config) for hand in (template, other)]
    for network in networks:
        network(network.example_inputs())
    save_model_folder(networks[0], tmp_path / "model")
    hashes = f"{template.hash[:12]}.*other, {other.hash[:12]}"
    with pytest.raises(InputError, match=f"{hashes}.*--template="):
        load_weights(networks[1], tmp_path / "model")
    load_weights(networks[1], tmp_path / "model", other_template=True)
    load_weights(networks[0], tmp_path / "model" / "weights.h5")
