"""Layers between the image grid, the mesh grid and the mesh (Sec. 3.3)."""

import numpy as np
import tensorflow as tf

from dgn_tf.geometry import mesh_grid
from dgn_tf.template import HandTemplate


@tf.keras.utils.register_keras_serializable("dgn_tf")
class Extension(tf.keras.layers.Layer):
    """Carries pixels' features to the mesh grid by their mesh coordinates (Eq. 1, 2).

    Always float32, also under mixed precision: the sums run over thousands of pixels.

    Call arguments:
        coords: [B, H, W, 2] or [B, N, 2] mesh coordinates I_m (column, row), in cells.
        features: [B, H, W, F] or [B, N, F] features I_f.
        mask: [B, H, W] or [B, N]; True (or 1) on the hand.

    Returns:
        [B, G, G, F + 1], rows first; the last channel is the occupancy (the sum of weights).
        With `normalise` features are the weighted mean of the pixels in reach and the occupancy
        is log(1 + sum); without, both are the sums of Eq. (1).

    `chunk` says how it is computed, not what: see `geometry.mesh_grid.extend`. What is exported
    on a host without a GPU for one with a GPU (or for TensorRT) wants 0, which has no loops.
    """

    def __init__(self, grid_size: int = 16, kernel: int = 8, sigma: float = 0.5,
                 normalise: bool = True, chunk: int | None = None, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.grid_size, self.kernel, self.sigma = grid_size, kernel, sigma
        self.normalise, self.chunk = normalise, chunk

    def call(self, coords, features, mask):
        count = features.shape[-1]
        if coords.shape.rank == 4:
            pixels = tf.shape(coords)[1] * tf.shape(coords)[2]
            if None not in coords.shape[1:3]:
                pixels = coords.shape[1] * coords.shape[2]
            coords = tf.reshape(coords, [-1, pixels, 2])
            features = tf.reshape(features, [-1, pixels, count])
            mask = tf.reshape(mask, [-1, pixels])
        sums, occupancy = mesh_grid.extend(
            tf.cast(coords, tf.float32), tf.cast(features, tf.float32), mask, self.grid_size,
            self.kernel, self.sigma, self.chunk)
        occupancy = occupancy[..., tf.newaxis]
        if self.normalise:
            # 1e-3 is far below the 0.16 that a single pixel leaves in its own cell.
            sums, occupancy = sums / (occupancy + 1e-3), tf.math.log(1.0 + occupancy)
        return tf.concat([sums, occupancy], axis=-1)

    def get_config(self):
        return {**super().get_config(), "grid_size": self.grid_size, "kernel": self.kernel,
                "sigma": self.sigma, "normalise": self.normalise, "chunk": self.chunk}


@tf.keras.utils.register_keras_serializable("dgn_tf")
class Sampling(tf.keras.layers.Layer):
    """Reads the vertices off the coordinate map J_o (Sec. 3.3), with the weights of Eq. (2).

    A template with L layers has L points in each cell: channels 3 l .. 3 l + 2 are those of
    layer l, and a vertex reads its own.

    Call arguments:
        coordinate_map: [B, G, G, 3 * L] J_o, rows first, any unit.

    Returns:
        [B, V, 3] in the same unit.
    """

    def __init__(self, template: HandTemplate | dict, kernel: int = 8, sigma: float = 0.5,
                 **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.template = HandTemplate.from_config(template)
        self.kernel, self.sigma = kernel, sigma
        self.layers_per_cell = int(self.template.num_layers)
        matrix = mesh_grid.sampling_matrix(self.template.mesh_coords, self.template.grid_size,
                                           kernel, sigma)  # [V, G*G]
        layer = np.asarray(self.template.vertex_layer) if self.layers_per_cell > 1 else 0
        own = np.arange(self.layers_per_cell) == np.reshape(layer, [-1, 1])  # [V, L] or [1, L]
        by_layer = matrix[:, :, None] * own[:, None]  # [V, G*G, L]
        self._matrix = by_layer.reshape(len(matrix), -1).T.astype(np.float32)  # [G*G*L, V]
        self._cells = np.ascontiguousarray(matrix.T)  # [G*G, V]

    def call(self, coordinate_map):
        coordinate_map = tf.cast(coordinate_map, tf.float32)
        cells, vertices = self._matrix.shape
        points = tf.reshape(coordinate_map, [-1, cells, 3])  # [B, G*G*L, 3]
        points = tf.reshape(tf.linalg.matrix_transpose(points), [-1, cells])  # [B*3, G*G*L]
        sampled = tf.reshape(points @ self._matrix, [-1, 3, vertices])
        return tf.linalg.matrix_transpose(sampled)  # [B, V, 3]

    def occupancy(self, occupancy):
        """Reads an occupancy [B, G, G] at the vertices: [B, V]."""
        occupancy = tf.cast(occupancy, tf.float32)
        return tf.reshape(occupancy, [-1, self._cells.shape[0]]) @ self._cells

    def sample_at(self, coordinate_map, coords, layer=None):
        """Reads J_o at any mesh coordinates (Sec. 4.1, lifting).

        Args:
            coordinate_map: [B, G, G, 3 * L].
            coords: [B, N, 2] (column, row) in cells.
            layer: [B, N] for L = 2: 0 or 1, or the probability of layer 1, which mixes both.

        Returns:
            [B, N, 3] in the map's unit. Gradients reach all three.
        """
        sampled = mesh_grid.sample(tf.cast(coordinate_map, tf.float32),
                                   tf.cast(coords, tf.float32), self.kernel, self.sigma)
        if self.layers_per_cell == 1:
            return sampled
        if layer is None:
            raise ValueError("sample_at wants a layer for a template with two layers.")
        layer = tf.cast(layer, tf.float32)[..., tf.newaxis]
        return (1 - layer) * sampled[..., :3] + layer * sampled[..., 3:6]

    def get_config(self):
        return {**super().get_config(), "template": self.template.to_config(),
                "kernel": self.kernel, "sigma": self.sigma}
