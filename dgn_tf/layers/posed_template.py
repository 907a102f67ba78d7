"""Layers that fit and pose the template (Sec. 3.4)."""

import keras
import tensorflow as tf

from dgn_tf.geometry import kinematics, similarity
from dgn_tf.template import HandTemplate


@keras.utils.register_keras_serializable("dgn_tf")
class SimilarityFit(keras.layers.Layer):
    """Fits each part of the template to the sampled vertices (Eq. 3).

    Always float32, also under mixed precision. `solver` (`svd` or `horn`) is that of a training
    step; otherwise it is `horn`, which every converter of an exported graph knows.

    Call arguments:
        points_mm: [B, V, 3] P_s, mm, camera frame.
        training: whether in a training step; a model that calls the layer says it by itself.

    Returns:
        [B, P, 4, 4] camera_from_template of each part, mm. See `geometry.similarity`.
    """

    def __init__(
        self, template: HandTemplate | dict, scale: str = "umeyama", solver: str = "svd", **kwargs
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.template = HandTemplate.from_config(template)
        self.scale, self.solver = scale, solver
        self._basis = similarity.similarity_basis(
            self.template.vertices, self.template.skinning_weights
        )

    def call(self, points_mm, training=None):
        solver = self.solver if training else "horn"
        return similarity.fit_similarity_by_basis(points_mm, self._basis, self.scale, solver)

    def get_config(self):
        return {
            **super().get_config(),
            "template": self.template.to_config(),
            "scale": self.scale,
            "solver": self.solver,
        }


@keras.utils.register_keras_serializable("dgn_tf")
class Skinning(keras.layers.Layer):
    """Poses the template by linear blend skinning (Sec. 3.4). Always float32.

    Call arguments:
        transforms: [B, P, 4, 4] camera_from_template of each part, mm.

    Returns:
        [B, V, 3] vertices P_r, camera frame, mm. Gradients reach `transforms`.
    """

    def __init__(self, template: HandTemplate | dict, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.template = HandTemplate.from_config(template)
        self._vertices = kinematics.skinning_basis(
            self.template.vertices, self.template.skinning_weights
        )
        self._keypoints = kinematics.skinning_basis(
            self.template.keypoints, self.template.keypoint_weights
        )

    def call(self, transforms):
        return kinematics.skin_by_basis(tf.cast(transforms, tf.float32), self._vertices)

    def keypoints(self, transforms):
        """Poses the key points: [B, P, 4, 4] -> [B, J, 3] mm, camera frame."""
        return kinematics.skin_by_basis(tf.cast(transforms, tf.float32), self._keypoints)

    def get_config(self):
        return {**super().get_config(), "template": self.template.to_config()}
