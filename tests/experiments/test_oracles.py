"""The ladder of oracles: what it begins and ends with, and what each rung leaves alone."""

import numpy as np
import pytest

from tests.tiny_template import tiny_template
from tests.written_records import write_records


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An untrained network's oracles and a batch of frames with made-up truth."""
    from dgn_tf.records.batches import Batching
    from dgn_tf.records.reader import record_dataset
    from experiments.oracles import Oracles
    from tests.exported_model import network

    records = write_records(tmp_path_factory.mktemp("oracles") / "records", tiny_template())
    (batch,) = record_dataset(
        str(records), tiny_template(), batching=Batching(batch_size=6, shuffle=False, repeat=False)
    )
    return Oracles(network()), batch


def errors(world, *steps):
    oracles, batch = world
    chosen = frozenset(steps)
    return oracles.errors(batch, [chosen])[chosen]


def test_no_step_gives_the_networks_own_errors(world):
    from dgn_tf.evaluation.joints import joint_errors_mm

    oracles, batch = world
    outputs = oracles.network(batch, training=False)
    found = errors(world)
    keypoints = joint_errors_mm(outputs["keypoints"], batch["keypoints"])
    evaluated = keypoints[:, oracles.template.evaluated]
    np.testing.assert_allclose(found["keypoints14_mm"], evaluated.mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(found["keypoints36_mm"], keypoints.mean(axis=1), rtol=1e-4)
    pairs = {"vertices_ps_mm": "vertices_sampled", "vertices_pr_mm": "vertices"}
    for name, output in pairs.items():
        own = joint_errors_mm(outputs[output], batch["vertices"]).mean(axis=1)
        np.testing.assert_allclose(found[name], own, rtol=1e-4)


def test_all_steps_leave_nothing_and_without_skinning_its_floor_remains(world):
    from experiments.oracles import MEASURES, STEPS

    everything = errors(world, *STEPS)
    for name in MEASURES:
        np.testing.assert_allclose(everything[name], 0, atol=1e-3)  # mm
    # The truth is the template at rest, which skinning reaches but for float32.
    assert (errors(world, *STEPS[:-1])["vertices_pr_mm"] < 0.01).all()


def test_true_points_of_the_map_leave_the_embeddings_floor(world):
    from data_prep.embedding_floor import sampling_matrix

    oracles, batch = world
    found = errors(world, "hidden", "behind", "extension")
    rest = oracles.template.vertices.astype(np.float64)
    template = oracles.template
    matrix = sampling_matrix(template.mesh_coords, template.vertex_layer, template.grid_size, 2)
    best = matrix @ np.linalg.lstsq(matrix, rest, rcond=1e-7)[0]
    floor = np.linalg.norm(best - rest, axis=-1).mean()
    np.testing.assert_allclose(found["vertices_ps_mm"], floor, atol=0.02)
    # What the network has said before makes no difference any more.
    also = errors(world, "hidden", "behind", "extension", "correspondence", "sensor")
    np.testing.assert_allclose(also["vertices_ps_mm"], found["vertices_ps_mm"])


def test_parts_by_visibility_add_up_to_the_whole(world):
    found = errors(world)
    parts = [found[f"{name}_ps_mm"] for name in ("hidden", "behind", "seen")]
    np.testing.assert_allclose(sum(parts), found["vertices_ps_mm"])
    shares = [found[f"{name}_share"] for name in ("hidden", "behind", "seen")]
    np.testing.assert_allclose(sum(shares), 1)


def test_true_points_turned_as_the_network_turns_them_are_what_a_clean_crop_shows(world):
    """Where the depth is the true surface's, the oracle of the sensor changes nothing."""
    import tensorflow as tf

    from dgn_tf.geometry.raster import render_mesh

    oracles, batch = world
    template = oracles.template
    x, y, z = template.vertices.astype(np.float64).T
    vertices = np.stack([x, 70 - z, 600 + y], axis=-1) + [30.0, -20.0, 0.0]
    intrinsics = np.float32([64.0, 64.0, 15.5 - 64 * 30 / 600, 15.5 + 64 * 20 / 600])
    depth, face, barycentric = render_mesh(vertices, template.faces, intrinsics, 32, 32)
    one = {
        **{name: value[:1] for name, value in batch.items()},
        "depth": np.where(np.isfinite(depth), depth, 0)[None],
        "intrinsics": intrinsics[None],
        "centre": np.array([[30.0, -20.0, 600.0]]),
        "vertices": vertices[None],
        "palm_axis": np.array([[0.0, -1.0, 0.0]]),
        "barycentric": barycentric[None],
    }
    one = {name: tf.cast(value, tf.float32) for name, value in one.items()}
    one["face"] = tf.constant(face[None], tf.int32)
    plain = oracles._sample[frozenset()](one)
    clean = oracles._sample[frozenset(["sensor"])](one)
    np.testing.assert_allclose(plain, clean, atol=0.02)  # mm


def test_a_step_that_is_none_is_named(world):
    with pytest.raises(ValueError, match="steps are .*not luck"):
        errors(world, "luck")
