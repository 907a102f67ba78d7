import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.geometry import mesh_grid
from dgn_tf.layers import Extension, Sampling
from tests.tiny_template import GRID, tiny_template


def _image(batch=2, size=8, channels=5, seed=0):
    rng = np.random.default_rng(seed)
    coords = np.float32(rng.uniform(-1, GRID, [batch, size, size, 2]))
    features = np.float32(rng.normal(size=[batch, size, size, channels]))
    return coords, features, rng.random([batch, size, size]) < 0.6


def _flat(values):
    return np.reshape(values, [values.shape[0], -1, *values.shape[3:]])


def test_raw_extension_is_the_sum_of_eq_1_and_the_occupancy():
    image = _image()
    got = Extension(GRID, normalise=False)(*image)
    sums, occupancy = mesh_grid.extend(*(_flat(values) for values in image), GRID)
    np.testing.assert_allclose(got[..., :-1], sums, atol=1e-5)
    np.testing.assert_allclose(got[..., -1], occupancy, atol=1e-5)
    flat = Extension(GRID, normalise=False)(*(_flat(values) for values in image))
    np.testing.assert_array_equal(got, flat)
    np.testing.assert_allclose(Extension(GRID, normalise=False, chunk=0)(*image), got, atol=1e-5)


def test_normalised_extension_of_a_constant_is_the_constant_where_pixels_are_near():
    coords, features, mask = _image(size=16)
    got = Extension(GRID)(coords, np.full_like(features, 3), np.ones_like(mask)).numpy()
    np.testing.assert_allclose(got[..., :-1], 3, rtol=2e-2)
    raw = Extension(GRID, normalise=False)(coords, features, np.ones_like(mask)).numpy()
    np.testing.assert_allclose(np.expm1(got[..., -1]), raw[..., -1], rtol=1e-4)


def test_extension_of_no_pixel_is_zero():
    coords, features, mask = _image()
    np.testing.assert_array_equal(Extension(GRID)(coords, features, np.zeros_like(mask)), 0)


def test_extension_stays_float32_under_mixed_precision():
    coords, features, mask = _image()
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        got = Extension(GRID)(coords, tf.constant(features, tf.float16), mask)
        sampled = Sampling(tiny_template())(tf.zeros([2, GRID, GRID, 6], tf.float16))
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert got.dtype == sampled.dtype == tf.float32
    np.testing.assert_allclose(got, Extension(GRID)(coords, features, mask), atol=1e-2)


@pytest.mark.parametrize("embedding", ["layered", "atlas", "mds"])
def test_sampling_reads_every_vertex_in_its_own_layer(embedding):
    template = tiny_template(embedding)
    layers = template.num_layers
    coordinate_map = tf.constant(
        np.random.default_rng(1).normal(size=[2, GRID, GRID, 3 * layers]), tf.float32
    )
    layer = Sampling(template)
    got = layer(coordinate_map)
    assert got.shape == [2, len(template.vertices), 3]
    coords = np.tile(template.mesh_coords, [2, 1, 1])
    own = np.tile(template.vertex_layer, [2, 1]) if layers > 1 else None
    np.testing.assert_allclose(got, layer.sample_at(coordinate_map, coords, own), atol=1e-5)
    both = mesh_grid.sample(coordinate_map, coords).numpy()
    expected = np.where(template.vertex_layer[:, None] == 1, both[..., -3:], both[..., :3])
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_sampled_layers_mix_by_their_probability():
    layer = Sampling(tiny_template())
    coordinate_map = tf.constant(
        np.random.default_rng(2).normal(size=[1, GRID, GRID, 6]), tf.float32
    )
    coords = np.float32([[[3.2, 4.7]]])
    front, back, half = (
        layer.sample_at(coordinate_map, coords, np.float32([[value]])) for value in (0, 1, 0.5)
    )
    np.testing.assert_allclose(half, (front + back) / 2, atol=1e-6)
    with pytest.raises(ValueError, match="two layers"):
        layer.sample_at(coordinate_map, coords)


def test_occupancy_at_the_vertices_of_a_full_grid_is_full():
    full = Sampling(tiny_template()).occupancy(tf.fill([2, GRID, GRID], 0.7))
    np.testing.assert_allclose(full, 0.7, atol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_graph_of_unknown_batch_agrees_with_eager_and_has_gradients(jit):
    extension, sampling = Extension(GRID), Sampling(tiny_template())

    def run(coords, features, mask):
        with tf.GradientTape() as tape:
            tape.watch([coords, features])
            extended = extension(coords, features, mask)
            sampled = sampling(extended)
            total = tf.reduce_sum(sampled**2)
        return [extended, sampled, *tape.gradient(total, [coords, features])]

    graph = tf.function(
        run,
        jit_compile=jit,
        input_signature=[
            tf.TensorSpec([None, 8, 8, 2]),
            tf.TensorSpec([None, 8, 8, 5]),
            tf.TensorSpec([None, 8, 8], tf.bool),
        ],
    )
    for batch in (1, 2):
        image = [tf.constant(values) for values in _image(batch)]
        for got, expected in zip(graph(*image), run(*image), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
            assert np.any(expected != 0)


@pytest.mark.parametrize("name", ["Extension", "Sampling"])
def test_layers_are_restored_from_their_config(name):
    if name == "Extension":
        layer = Extension(GRID, kernel=4, sigma=0.7, normalise=False, chunk=32)
        arguments = _image()
    else:
        layer = Sampling(tiny_template(), kernel=4, sigma=0.7)
        arguments = [tf.random.stateless_normal([2, GRID, GRID, 6], [1, 2])]
    restored = tf.keras.layers.deserialize(tf.keras.layers.serialize(layer))
    assert type(restored) is type(layer)
    np.testing.assert_array_equal(restored(*arguments), layer(*arguments))
