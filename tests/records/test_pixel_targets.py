"""Per-pixel targets: the template's own coordinates at the surface point that a pixel shows."""

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.records.batches import Batching, targets
from dgn_tf.synthesis.batches import synthesize_batch
from dgn_tf.synthesis.online import online_dataset
from dgn_tf.synthesis.settings import SynthesisConfig
from dgn_tf.template import load_template


@pytest.fixture(scope="module")
def template():
    return load_template()


def test_targets_interpolate_the_face_of_each_pixel(template):
    for embedding in template.embeddings:
        chosen = template.with_embedding(embedding)
        batch = synthesize_batch(chosen, SynthesisConfig(), 1, 0, 3, 1)
        result = {
            name: value.numpy()
            for name, value in targets(
                {name: tf.constant(value) for name, value in batch.items()}, chosen
            ).items()
        }
        sample, row, column = np.nonzero(batch["face"] >= 0)
        face = batch["face"][sample, row, column]
        beta, gamma = batch["barycentric"][sample, row, column].T
        corners = chosen.face_coords[face]
        expected = (
            (1 - beta - gamma)[:, None] * corners[:, 0]
            + beta[:, None] * corners[:, 1]
            + gamma[:, None] * corners[:, 2]
        )
        np.testing.assert_allclose(result["mesh_coords"][sample, row, column], expected, atol=1e-4)
        np.testing.assert_array_equal(
            result["mesh_layer"][sample, row, column], chosen.face_layer[face]
        )
        np.testing.assert_array_equal(result["part"][sample, row, column], chosen.face_part[face])
        mask = (batch["face"] >= 0) & (batch["depth"] > 0)
        mask[sample, row, column] &= ~chosen.face_is_seam[face]
        np.testing.assert_array_equal(result["correspondence_mask"], mask)
        away = batch["face"] < 0
        assert (result["mesh_coords"][away] == 0).all() and (result["part"][away] == -1).all()


def test_mesh_coordinates_lie_on_the_grid(template):
    batch = synthesize_batch(template, SynthesisConfig(), 2, 0, 4, 1)
    coords = targets({k: tf.constant(v) for k, v in batch.items()}, template)["mesh_coords"]
    assert 0 <= coords.numpy().min() and coords.numpy().max() <= template.grid_size - 1


def test_online_batches_are_those_of_synthesis_and_resume_where_they_stopped(template):
    config = SynthesisConfig()
    dataset = online_dataset(template, config, batching=Batching(seed=4, batch_size=3, threads=1))
    batches = list(dataset.take(4).as_numpy_iterator())
    expected = synthesize_batch(template, config, 4, 9, 3, 1)
    for name, array in expected.items():
        np.testing.assert_array_equal(batches[3][name], array, name)
    resumed = online_dataset(
        template, config, batching=Batching(seed=4, batch_size=3, start_step=2, threads=1)
    )
    for name, array in next(resumed.as_numpy_iterator()).items():
        np.testing.assert_array_equal(array, batches[2][name], name)


def test_online_batches_have_static_shapes(template):
    spec = online_dataset(
        template, SynthesisConfig(), batching=Batching(seed=0, batch_size=5)
    ).element_spec
    assert spec["depth"].shape == (5, 64, 64)
    assert spec["vertices"].shape == (5, len(template.vertices), 3)
    assert spec["mesh_coords"].shape == (5, 64, 64, 2)
    assert spec["correspondence_mask"].dtype == tf.bool
