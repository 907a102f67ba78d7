"""Layers between the image grid, the mesh grid and the mesh (Sec. 3.3)."""

import keras
import numpy as np
import tensorflow as tf

from dgn_tf.geometry import mesh_grid
from dgn_tf.template import HandTemplate


@keras.utils.register_keras_serializable("dgn_tf")
class Extension(keras.layers.Layer):
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
    Likewise the attribute `packed`: set, with `chunk` None and where TensorFlow sees no GPU, it
    computes as `geometry.mesh_grid.extend_packed`, twice as fast but without gradients.
    """

    def __init__(
        self,
        grid_size: int = 16,
        kernel: int = 8,
        sigma: float = 0.5,
        normalise: bool = True,
        chunk: int | None = None,
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.grid_size, self.kernel, self.sigma = grid_size, kernel, sigma
        self.normalise, self.chunk, self.packed = normalise, chunk, False

    def call(self, coords, features, mask):
        count = features.shape[-1]
        if coords.shape.rank == 4:
            pixels = tf.shape(coords)[1] * tf.shape(coords)[2]
            if None not in coords.shape[1:3]:
                pixels = coords.shape[1] * coords.shape[2]
            coords = tf.reshape(coords, [-1, pixels, 2])
            features = tf.reshape(features, [-1, pixels, count])
            mask = tf.reshape(mask, [-1, pixels])
        coords, features = tf.cast(coords, tf.float32), tf.cast(features, tf.float32)
        window = (self.grid_size, self.kernel, self.sigma)
        gpu = tf.config.list_logical_devices("GPU")
        if self.packed and self.chunk is None and not gpu:
            sums, occupancy = mesh_grid.extend_packed(coords, features, mask, *window)
        else:
            sums, occupancy = mesh_grid.extend(coords, features, mask, *window, self.chunk)
        occupancy = occupancy[..., tf.newaxis]
        if self.normalise:
            # 1e-3 is far below the 0.16 that a single pixel leaves in its own cell.
            sums, occupancy = sums / (occupancy + 1e-3), tf.math.log(1.0 + occupancy)
        return tf.concat([sums, occupancy], axis=-1)

    def get_config(self):
        return {
            **super().get_config(),
            "grid_size": self.grid_size,
            "kernel": self.kernel,
            "sigma": self.sigma,
            "normalise": self.normalise,
            "chunk": self.chunk,
        }


@keras.utils.register_keras_serializable("dgn_tf")
class Sampling(keras.layers.Layer):
    """Reads the vertices off the coordinate map J_o (Sec. 3.3), with the weights of Eq. (2).

    A template with L layers has L points in each cell: channels 3 l .. 3 l + 2 are those of
    layer l, and a vertex reads its own.

    Call arguments:
        coordinate_map: [B, G, G, 3 * L] J_o, rows first, any unit.

    Returns:
        [B, V, 3] in the same unit.
    """

    def __init__(
        self, template: HandTemplate | dict, kernel: int = 8, sigma: float = 0.5, **kwargs
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.template = HandTemplate.from_config(template)
        self.kernel, self.sigma = kernel, sigma
        self.layers_per_cell = int(self.template.num_layers)
        matrix = mesh_grid.sampling_matrix(
            self.template.mesh_coords, self.template.grid_size, kernel, sigma
        )  # [V, G*G]
        self._cells = np.ascontiguousarray(matrix.T)  # [G*G, V]
        layer = np.asarray(self.template.vertex_layer)
        # The vertices of each layer by themselves: one matrix for all is half zeros.
        of_layer = [np.flatnonzero(layer == own) for own in range(self.layers_per_cell)]
        self._matrices = [np.ascontiguousarray(self._cells[:, own]) for own in of_layer]
        self._place = np.argsort(np.concatenate(of_layer)).astype(np.int32)  # [V] among those

    def call(self, coordinate_map):
        coordinate_map = tf.cast(coordinate_map, tf.float32)
        cells, vertices = self._cells.shape
        points = tf.reshape(coordinate_map, [-1, cells, self.layers_per_cell, 3])
        points = tf.unstack(tf.transpose(points, [2, 0, 3, 1]))  # L times [B, 3, G*G]
        sampled = [
            tf.reshape(own, [-1, cells]) @ matrix  # [B*3, V of the layer]
            for own, matrix in zip(points, self._matrices, strict=True)
        ]
        sampled = tf.reshape(tf.concat(sampled, axis=1), [-1, 3, vertices])
        sampled = tf.linalg.matrix_transpose(sampled)  # [B, V, 3] by layers
        return tf.gather(sampled, self._place, axis=1)

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
        sampled = mesh_grid.sample(
            tf.cast(coordinate_map, tf.float32),
            tf.cast(coords, tf.float32),
            self.kernel,
            self.sigma,
        )
        if self.layers_per_cell == 1:
            return sampled
        if layer is None:
            raise ValueError("sample_at wants a layer for a template with two layers.")
        layer = tf.cast(layer, tf.float32)[..., tf.newaxis]
        return (1 - layer) * sampled[..., :3] + layer * sampled[..., 3:6]

    def get_config(self):
        return {
            **super().get_config(),
            "template": self.template.to_config(),
            "kernel": self.kernel,
            "sigma": self.sigma,
        }
