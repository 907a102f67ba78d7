"""Extension and sampling between the image grid and the mesh grid (Eq. 1 and 2).

A point with mesh coordinates m = (column, row), in cells with cell centres at 0 .. G-1, belongs
softly to the cells of a window around it: floor(m) - K/2 + 1 .. floor(m) + K/2 on each axis
(K = kernel), cut at the border, with the softmax of -sigma (n - m)^2 over the cells n that
remain. Over a rectangle that softmax is the outer product of two one-dimensional ones, so
everything here is built of weights [..., G] per axis.
"""

import numpy as np
import tensorflow as tf


def axis_weights(
    coords: tf.Tensor, grid_size: int, kernel: int = 8, sigma: float = 0.5
) -> tf.Tensor:
    """The softmax of Eq. (2) along one axis.

    Args:
        coords: [...] coordinate along the axis, in cells.
        grid_size: number of cells G.
        kernel: window in cells, even.
        sigma: factor of the squared distance, 1 / cells^2.

    Returns:
        [..., G] weights that sum to 1. A coordinate so far outside that its window holds no cell
        belongs to the cell at the border. The gradient reaches `coords` and is zero there.

    Raises:
        ValueError: `kernel` is odd or not positive.
    """
    if kernel < 2 or kernel % 2:
        raise ValueError(f"The kernel wants a positive even number of cells, got {kernel}.")

    @tf.custom_gradient
    def weigh(coords):
        weights = _axis_weights(coords, grid_size, kernel, sigma)

        def gradient(upstream):
            return tf.reduce_sum(upstream * _axis_slope(weights, sigma), axis=-1)

        return weights, gradient

    return weigh(coords)


def _axis_slope(weights, sigma):
    """Derivative of each weight [..., G] by the coordinate."""
    cells = tf.range(weights.shape[-1], dtype=weights.dtype)
    mean = tf.reduce_sum(weights * cells, axis=-1, keepdims=True)
    return weights * (cells - mean) * (2 * sigma)


def _axis_weights(coords, grid_size, kernel, sigma):
    cells = tf.range(grid_size, dtype=coords.dtype)
    half, last = kernel // 2, grid_size - 1
    # Beyond these bounds the window would be empty; at them it holds the border cell alone.
    coords = tf.clip_by_value(coords, -half, last + half - 1)[..., tf.newaxis]
    first = tf.floor(coords) - (half - 1)
    inside = (cells >= first) & (cells <= first + (2 * half - 1))
    distance = (cells - coords) ** 2
    # Relative to the nearest cell, so that the largest exponential is 1.
    nearest = (coords - tf.clip_by_value(tf.round(coords), 0, last)) ** 2
    weights = tf.where(inside, tf.exp(sigma * (nearest - distance)), tf.zeros_like(distance))
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)


def extend(
    coords: tf.Tensor,
    features: tf.Tensor,
    mask: tf.Tensor,
    grid_size: int = 16,
    kernel: int = 8,
    sigma: float = 0.5,
    chunk: int | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Extension (Eq. 1): spreads pixels' features over the mesh grid and sums them up.

    Args:
        coords: [B, N, 2] mesh coordinates (column, row) of the pixels, in cells.
        features: [B, N, F].
        mask: [B, N] bool or 0 / 1; a pixel that is not on the hand adds nothing and gets no
            gradient, whatever its coordinates and features (NaN too).
        grid_size, kernel, sigma: see `axis_weights`.
        chunk: pixels on the hand to take at a time, example by example; 0 takes all pixels of
            the batch at once. Both give the same. Without a GPU the weights of a batch
            ([B, N, G*G]) don't fit the cache, and most pixels are not on the hand; with one,
            loops are slow. None picks 256 where TensorFlow sees no GPU and N is known, else 0.

    Returns:
        sums: [B, G, G, F] sum over the pixels of weight times feature; rows first.
        occupancy: [B, G, G] sum of the weights.
    """
    if kernel < 2 or kernel % 2:
        raise ValueError(f"The kernel wants a positive even number of cells, got {kernel}.")
    pixels, count = features.shape[1], features.shape[2]
    if chunk is None:
        chunk = 256 if pixels and not tf.config.list_logical_devices("GPU") else 0
    window = _Window(grid_size, kernel, sigma)
    mask = tf.cast(mask, tf.bool)
    if chunk:
        sums = _extend_by_chunks(window, coords, features, mask, min(chunk, pixels))
    else:
        sums = _extend_at_once(window, coords, features, mask)
    sums = tf.reshape(tf.linalg.matrix_transpose(sums), [-1, grid_size, grid_size, count + 1])
    return sums[..., :-1], sums[..., -1]


def extend_packed(
    coords: tf.Tensor,
    features: tf.Tensor,
    mask: tf.Tensor,
    grid_size: int = 16,
    kernel: int = 8,
    sigma: float = 0.5,
) -> tuple[tf.Tensor, tf.Tensor]:
    """`extend` at twice the speed on a CPU, without gradients and not for XLA.

    The pixels on the hand are picked out of the whole batch first, in numbers that depend on the
    data; only the product of weights and features runs example by example.

    Args, Returns: as of `extend`.
    """
    count = features.shape[2] + 1
    window = _Window(grid_size, kernel, sigma)
    mask = tf.cast(mask, tf.bool)
    last = tf.cumsum(tf.reduce_sum(tf.cast(mask, tf.int32), axis=1))  # [B]
    first = tf.concat([[0], last[:-1]], axis=0)
    packed = tf.gather_nd(tf.concat([coords, features], axis=-1), tf.where(mask))  # [M, 2 + F]
    axes = _axis_weights(packed[:, :2], grid_size, kernel, sigma)  # [M, 2, G]
    columns, rows = axes[:, 0], axes[:, 1]
    values = tf.concat([packed[:, 2:], tf.ones_like(packed[:, :1])], axis=-1)

    def spread(bounds):
        part = slice(*bounds)
        weights = window.product(columns[part], rows[part])  # [m, G*G]
        # This order of the factors is twice as fast as the transposed one.
        return tf.matmul(values[part], weights, transpose_a=True)

    sums = tf.map_fn(
        spread,
        (first, last),
        fn_output_signature=tf.TensorSpec([count, grid_size**2], values.dtype),
    )
    sums = tf.reshape(tf.linalg.matrix_transpose(sums), [-1, grid_size, grid_size, count])
    return sums[..., :-1], sums[..., -1]


class _Window:
    """The weights of Eq. (2) as [..., n, G*G], and what is summed with them."""

    def __init__(self, grid_size, kernel, sigma):
        self.size, self.kernel, self.sigma = grid_size, kernel, sigma

    def spread(self, coords, features, mask):
        """[..., n, 2], [..., n, F], [..., n] -> [..., F + 1, G*G], the occupancy last."""
        _, _, _, window, values = self._expand(coords, features, mask)
        # This order of the factors is twice as fast as the transposed one.
        return tf.matmul(values, window, transpose_a=True)

    def spread_gradient(self, coords, features, mask, upstream):
        """Gradient [..., n, 2 + F] of `spread` by coords and features."""
        axes, columns, rows, window, values = self._expand(coords, features, mask)
        by_features = tf.matmul(window, upstream[..., :-1, :], transpose_b=True)
        by_window = tf.reshape(tf.matmul(values, upstream), self._shape(coords, self.size))
        by_columns = tf.reduce_sum(by_window * rows[..., tf.newaxis], axis=-2)  # [..., n, G]
        by_rows = tf.reduce_sum(by_window * columns[..., tf.newaxis, :], axis=-1)
        slope = _axis_slope(axes, self.sigma)  # [..., n, 2, G]
        valid = tf.cast(mask, coords.dtype)[..., tf.newaxis]
        by_coords = tf.reduce_sum(tf.stack([by_columns, by_rows * valid], axis=-2) * slope, -1)
        return tf.concat([by_coords, by_features], axis=-1)

    def _expand(self, coords, features, mask):
        valid = mask[..., tf.newaxis]
        # Chosen, not multiplied: what is not on the hand may be NaN.
        coords = tf.where(valid, coords, tf.zeros_like(coords))
        features = tf.where(valid, features, tf.zeros_like(features))
        axes = _axis_weights(coords, self.size, self.kernel, self.sigma)  # [..., n, 2, G]
        columns, rows = axes[..., 0, :], axes[..., 1, :] * tf.cast(valid, coords.dtype)
        window = tf.reshape(self.product(columns, rows), self._shape(coords))
        values = tf.concat([features, tf.ones_like(features[..., :1])], axis=-1)
        return axes, columns, rows, window, values

    def product(self, columns, rows):
        """The outer products [N, G*G] of [..., G] weights per axis."""
        # [N, G, 1] times [N, 1, G]: fewer dimensions broadcast faster.
        window = tf.reshape(rows, [-1, self.size, 1]) * tf.reshape(columns, [-1, 1, self.size])
        return tf.reshape(window, [-1, self.size**2])

    def _shape(self, coords, *split):
        last = [self.size, self.size] if split else [self.size * self.size]
        return tf.concat([tf.shape(coords)[:-1], last], axis=0)


def _extend_at_once(window, coords, features, mask):
    @tf.custom_gradient
    def run(coords, features):
        def gradient(upstream):
            by_both = window.spread_gradient(coords, features, mask, upstream)
            return by_both[..., :2], by_both[..., 2:]

        return window.spread(coords, features, mask), gradient

    return run(coords, features)


def _extend_by_chunks(window, coords, features, mask, chunk):
    """[B, F + 1, G*G]: of each example the pixels on the hand, `chunk` at a time."""
    pixels, count = features.shape[1], features.shape[2]
    chunks = -(-pixels // chunk)
    total = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)  # [B]
    place = tf.cumsum(tf.cast(mask, tf.int32), axis=1, exclusive=True)  # [B, N] among the valid
    # order[b, place] = pixel, by scattering; the others land in a last column that is dropped.
    slots = tf.where(mask, place, chunks * chunk)
    examples = tf.broadcast_to(tf.range(tf.shape(mask)[0])[:, tf.newaxis], tf.shape(mask))
    numbers = tf.where(mask, tf.range(pixels), 0)
    order = tf.scatter_nd(
        tf.stack([examples, slots], axis=-1), numbers, [tf.shape(mask)[0], chunks * chunk + 1]
    )

    def pick(both, order, total, step):
        chosen = tf.gather(both, tf.slice(order, [step * chunk], [chunk]))  # [chunk, 2 + F]
        return chosen[:, :2], chosen[:, 2:], step * chunk + tf.range(chunk) < total

    def loop(total, body, state):
        return tf.while_loop(
            lambda step, _: step * chunk < total, body, (0, state), maximum_iterations=chunks
        )[1]

    @tf.custom_gradient
    def run(coords, features):
        both = tf.concat([coords, features], axis=-1)

        def spread(inputs):
            both, order, total = inputs

            def body(step, sums):
                return step + 1, sums + window.spread(*pick(both, order, total, step))

            return loop(total, body, tf.zeros([count + 1, window.size**2], both.dtype))

        def gradient(upstream):
            def spread_gradient(inputs):
                both, order, total, upstream = inputs

                def body(step, parts):
                    part = window.spread_gradient(*pick(both, order, total, step), upstream)
                    return step + 1, parts.write(step, part)

                parts = tf.TensorArray(both.dtype, chunks, element_shape=[chunk, count + 2])
                return tf.reshape(loop(total, body, parts).stack(), [-1, count + 2])

            by_place = tf.map_fn(
                spread_gradient,
                (both, order, total, upstream),
                fn_output_signature=tf.TensorSpec([chunks * chunk, count + 2], both.dtype),
            )
            by_both = tf.gather(by_place, tf.minimum(place, pixels - 1), axis=1, batch_dims=1)
            by_both = tf.where(mask[..., tf.newaxis], by_both, tf.zeros_like(by_both))
            return by_both[..., :2], by_both[..., 2:]

        sums = tf.map_fn(
            spread,
            (both, order, total),
            fn_output_signature=tf.TensorSpec([count + 1, window.size**2], both.dtype),
        )
        return sums, gradient

    return run(coords, features)


def sample(grid: tf.Tensor, coords: tf.Tensor, kernel: int = 8, sigma: float = 0.5) -> tf.Tensor:
    """Sampling (Sec. 3.3): reads the mesh grid at mesh coordinates with the weights of Eq. (2).

    Args:
        grid: [B, G, G, C], rows first.
        coords: [B, N, 2] (column, row) in cells.
        kernel, sigma: see `axis_weights`.

    Returns:
        [B, N, C]. Gradients reach `grid` and `coords`.
    """
    size, channels = grid.shape[1], grid.shape[3]
    weights = axis_weights(coords, size, kernel, sigma)  # [B, N, 2, G]
    lines = tf.matmul(weights[..., 1, :], tf.reshape(grid, [-1, size, size * channels]))
    lines = tf.reshape(lines, [-1, tf.shape(coords)[1], size, channels])  # [B, N, G, C]
    return tf.reduce_sum(lines * weights[..., 0, :, tf.newaxis], axis=2)


def sampling_matrix(
    coords: np.ndarray, grid_size: int, kernel: int = 8, sigma: float = 0.5
) -> np.ndarray:
    """The weights of `sample` at constant coordinates.

    Args:
        coords: [V, 2] (column, row) in cells, constant.
        grid_size, kernel, sigma: see `axis_weights`.

    Returns:
        [V, G*G] float32, rows sum to 1; cell (row, column) is entry row * G + column.
    """
    coords = tf.constant(np.asarray(coords), tf.float64)
    weights = _axis_weights(coords, grid_size, kernel, sigma).numpy()  # [V, 2, G]
    matrix = weights[:, 1, :, None] * weights[:, 0, None, :]  # [V, G, G]
    return matrix.reshape(len(matrix), -1).astype(np.float32)
