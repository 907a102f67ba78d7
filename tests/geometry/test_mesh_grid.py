import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.geometry import mesh_grid

GRID, KERNEL, SIGMA = 16, 8, 0.5


def naive_weights(coords, kernel=KERNEL, sigma=SIGMA):
    """Eq. (2), cell by cell: {(row, column): weight}."""
    column, row = coords
    window = {}
    for n_row in range(int(np.floor(row)) - kernel // 2 + 1, int(np.floor(row)) + kernel // 2 + 1):
        for n_column in range(
            int(np.floor(column)) - kernel // 2 + 1, int(np.floor(column)) + kernel // 2 + 1
        ):
            if 0 <= n_row < GRID and 0 <= n_column < GRID:
                square = (n_row - row) ** 2 + (n_column - column) ** 2
                window[n_row, n_column] = np.exp(-sigma * square)
    total = sum(window.values())
    return {cell: weight / total for cell, weight in window.items()}


def _pixels(batch=2, count=60, channels=5, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    coords = rng.uniform(-3, GRID + 2, size=[batch, count, 2]).astype(dtype)
    features = rng.normal(size=[batch, count, channels]).astype(dtype)
    return coords, features, rng.random([batch, count]) < 0.6


@pytest.mark.parametrize("chunk", [0, 16, 256, "packed"])
@pytest.mark.parametrize("kernel", [8, 4])
def test_extension_is_the_naive_loop_of_eq_1_and_2(chunk, kernel):
    coords, features, mask = _pixels()
    coords[0, :4] = [[0, 0], [15, 15], [7, 3], [0, 15]]
    if kernel == 4:  # with a smaller window pixels further out lie in no window at all
        coords = np.clip(coords, -1.9, GRID + 0.9)
    sums, occupancy = (
        mesh_grid.extend_packed(coords, features, mask, GRID, kernel, SIGMA)
        if chunk == "packed"
        else mesh_grid.extend(coords, features, mask, GRID, kernel, SIGMA, chunk)
    )
    expected = np.zeros([2, GRID, GRID, 6])
    for b in range(2):
        for n in np.flatnonzero(mask[b]):
            for (row, column), weight in naive_weights(coords[b, n], kernel).items():
                expected[b, row, column] += weight * np.append(features[b, n], 1)
    np.testing.assert_allclose(sums, expected[..., :5], atol=1e-5)
    np.testing.assert_allclose(occupancy, expected[..., 5], atol=1e-5)


def test_sampling_is_the_naive_sum_of_eq_2():
    coords, _, _ = _pixels(seed=1)
    grid = np.float32(np.random.default_rng(2).normal(size=[2, GRID, GRID, 3]))
    got = mesh_grid.sample(grid, coords)
    for b in range(2):
        for n in range(coords.shape[1]):
            expected = sum(
                weight * grid[b, row, column]
                for (row, column), weight in naive_weights(coords[b, n]).items()
            )
            np.testing.assert_allclose(got[b, n], expected, atol=1e-5)


def test_sampling_matrix_is_sample_at_constant_coordinates():
    coords, _, _ = _pixels(batch=1, seed=3)
    grid = np.float32(np.random.default_rng(4).normal(size=[1, GRID, GRID, 3]))
    matrix = mesh_grid.sampling_matrix(coords[0], GRID)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(
        matrix @ grid.reshape(-1, 3), mesh_grid.sample(grid, coords)[0], atol=1e-5
    )


def test_sampling_a_constant_grid_gives_the_constant():
    coords, _, _ = _pixels(seed=5)
    np.testing.assert_allclose(
        mesh_grid.sample(tf.fill([2, GRID, GRID, 3], 2.5), coords), 2.5, atol=1e-5
    )


def test_extension_keeps_the_total_of_features_on_the_hand():
    coords, features, mask = _pixels(seed=6)
    sums, occupancy = mesh_grid.extend(coords, features, mask)
    np.testing.assert_allclose(tf.reduce_sum(occupancy, axis=[1, 2]), mask.sum(axis=1), atol=1e-4)
    np.testing.assert_allclose(
        tf.reduce_sum(sums, axis=[1, 2]), np.sum(features * mask[..., None], axis=1), atol=1e-4
    )


def test_order_of_pixels_does_not_matter():
    coords, features, mask = _pixels(seed=7)
    order = np.random.default_rng(8).permutation(coords.shape[1])
    sums, _ = mesh_grid.extend(coords, features, mask)
    shuffled, _ = mesh_grid.extend(coords[:, order], features[:, order], mask[:, order])
    np.testing.assert_allclose(sums, shuffled, atol=1e-5)


@pytest.mark.parametrize("chunk", [0, 4])
def test_extension_gradients_are_those_of_finite_differences(chunk):
    coords, features, mask = _pixels(batch=2, count=10, channels=3, dtype=np.float64, seed=9)
    mask[:, 0] = True
    direction = np.random.default_rng(10).normal(size=[2, GRID, GRID, 4])

    @tf.function
    def value(coords, features):
        sums, occupancy = mesh_grid.extend(coords, features, mask, chunk=chunk)
        return tf.reduce_sum(tf.concat([sums, occupancy[..., None]], axis=-1) * direction)

    inputs = [tf.constant(coords), tf.constant(features)]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        total = value(*inputs)
    for index, gradient in enumerate(tape.gradient(total, inputs)):
        expected = np.zeros(gradient.shape)
        for place in np.ndindex(*gradient.shape):
            step = np.zeros(gradient.shape)
            step[place] = 1e-6
            up, down = list(inputs), list(inputs)
            up[index], down[index] = inputs[index] + step, inputs[index] - step
            expected[place] = (value(*up) - value(*down)) / 2e-6
        np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_sampling_gradients_are_those_of_finite_differences():
    rng = np.random.default_rng(11)
    grid = tf.constant(rng.normal(size=[1, GRID, GRID, 2]))
    coords = tf.constant(rng.uniform(-2, GRID + 1, size=[1, 8, 2]))
    direction = rng.normal(size=[1, 8, 2])
    with tf.GradientTape() as tape:
        tape.watch([grid, coords])
        total = tf.reduce_sum(mesh_grid.sample(grid, coords) * direction)
    by_grid, by_coords = tape.gradient(total, [grid, coords])
    for place in np.ndindex(1, 8, 2):
        step = np.zeros([1, 8, 2])
        step[place] = 1e-6
        change = mesh_grid.sample(grid, coords + step) - mesh_grid.sample(grid, coords - step)
        np.testing.assert_allclose(by_coords[place], np.sum(change * direction) / 2e-6, atol=1e-7)
    # Sampling is linear in the grid.
    np.testing.assert_allclose(np.sum(by_grid * grid), total, atol=1e-10)


def test_far_outside_weights_and_gradients_stay_finite():
    coords = tf.constant([-1e30, -1e4, -4.0, -3.999, 17.999, 18.0, 500.0, 1e30])
    with tf.GradientTape() as tape:
        tape.watch(coords)
        weights = mesh_grid.axis_weights(coords, GRID)
        value = tf.reduce_sum(weights * tf.range(GRID, dtype=tf.float32))
    gradient = tape.gradient(value, coords).numpy()
    np.testing.assert_allclose(tf.reduce_sum(weights, axis=-1), 1, atol=1e-6)
    np.testing.assert_array_equal(tf.argmax(weights, axis=-1), [0] * 4 + [GRID - 1] * 4)
    assert np.isfinite(gradient).all()
    assert gradient[0] == gradient[-1] == 0


@pytest.mark.parametrize("empty", [[0], [1], [0, 1, 2]])
def test_packed_pixels_of_frames_without_any(empty):
    coords, features, mask = _pixels(batch=3)
    mask[empty] = False
    graph = tf.function(
        mesh_grid.extend_packed,
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, None, 2]),
            tf.TensorSpec([None, None, 5]),
            tf.TensorSpec([None, None], tf.bool),
        ],
    )
    for got, expected in zip(
        graph(coords, features, mask), mesh_grid.extend(coords, features, mask), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("chunk", [0, 16])
def test_masked_pixels_add_nothing_even_where_they_are_not_numbers(chunk):
    coords, features, mask = _pixels(seed=12)
    mask[1] = False
    broken = [
        tf.constant(np.where(mask[..., None], values, np.nan)) for values in (coords, features)
    ]
    with tf.GradientTape() as tape:
        tape.watch(broken)
        sums, occupancy = mesh_grid.extend(*broken, mask, chunk=chunk)
        total = tf.reduce_sum(sums**2) + tf.reduce_sum(occupancy**2)
    expected, _ = mesh_grid.extend(coords, features, mask, chunk=0)
    np.testing.assert_allclose(sums, expected, atol=1e-6)
    np.testing.assert_array_equal(sums[1], 0)
    for gradient in tape.gradient(total, broken):
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient.numpy()[~mask], 0)


def test_chunks_and_the_whole_agree_at_the_size_of_the_paper():
    coords, features, mask = _pixels(batch=2, count=4096, channels=8, seed=13)
    whole = mesh_grid.extend(coords, features, mask, chunk=0)
    for chunk in (256, 1000, 9999):
        for got, expected in zip(
            mesh_grid.extend(coords, features, mask, chunk=chunk), whole, strict=True
        ):
            np.testing.assert_allclose(got, expected, atol=1e-4)  # sums of 2400 pixels


@pytest.mark.parametrize("chunk", [0, 16])
@pytest.mark.parametrize("jit", [False, True])
def test_graph_of_unknown_batch_agrees_with_eager(jit, chunk):
    def run(coords, features, mask):
        with tf.GradientTape() as tape:
            tape.watch([coords, features])
            sums, occupancy = mesh_grid.extend(coords, features, mask, chunk=chunk)
            read = mesh_grid.sample(sums, coords)
            total = tf.reduce_sum(read**2) + tf.reduce_sum(occupancy**2)
        return [sums, occupancy, read, *tape.gradient(total, [coords, features])]

    count = _pixels()[0].shape[1]
    graph = tf.function(
        run,
        jit_compile=jit,
        input_signature=[
            tf.TensorSpec([None, count, 2]),
            tf.TensorSpec([None, count, 5]),
            tf.TensorSpec([None, count], tf.bool),
        ],
    )
    for batch in (1, 2):
        arguments = [tf.constant(value) for value in _pixels(batch)]
        for got, expected in zip(graph(*arguments), run(*arguments), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", [0, 7, -2])
def test_kernels_that_are_not_even_are_refused(kernel):
    coords, features, mask = _pixels()
    with pytest.raises(ValueError, match="even number"):
        mesh_grid.extend(coords, features, mask, kernel=kernel)
    with pytest.raises(ValueError, match="even number"):
        mesh_grid.axis_weights(coords, GRID, kernel=kernel)
