"""The compiled forms of terms, against those in TensorFlow."""

import numpy as np
import tensorflow as tf

from dgn_tf.losses import data_terms
from tests.tiny_template import tiny_template


def test_the_distance_and_its_slope():
    square = np.array([0.0, 0.3, 24.9, 25.1, 900.0])
    given = tf.constant(square)
    with tf.GradientTape() as tape:
        tape.watch(given)
        wanted = data_terms.smooth_l1(given, 5.0)
    slope = tape.gradient(wanted, given)
    found = np.array([data_terms.smooth_l1_and_slope(value, 5.0) for value in square])
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-12)
    np.testing.assert_allclose(found[:, 1] / 2, slope, rtol=1e-12)


def test_normals_facing_and_the_nearest_vertex():
    rng, template = np.random.default_rng(0), tiny_template()
    faces = np.asarray(template.faces, np.int32)
    vertices = template.vertices.astype(np.float64) + [0, 700, 0]
    around = data_terms.faces_of_vertices(faces, len(vertices))
    normals = data_terms.vertex_normals(tf.constant(vertices[None]), faces, around)
    wanted = data_terms.facing(tf.constant(vertices[None]), normals)[0].numpy()
    facing, unit = data_terms.facing_and_normals(vertices, faces)
    np.testing.assert_array_equal(facing, wanted)
    assert 0 < facing.sum() < len(facing)
    np.testing.assert_allclose(unit, tf.linalg.normalize(normals[0], axis=-1)[0], atol=1e-6)
    points = vertices[rng.integers(0, len(vertices), 40)] + rng.normal(scale=5, size=[40, 3])
    nearest = data_terms.nearest_vertex(points[None], vertices[None], wanted[None])[0]
    found = [data_terms.nearest_allowed(point, vertices, facing) for point in points]
    np.testing.assert_array_equal(found, nearest)
