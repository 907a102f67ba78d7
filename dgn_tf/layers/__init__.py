"""Keras layers of the Dual Grid Net; they stand on `dgn_tf.geometry`."""

from dgn_tf.layers.dual_grid import Extension, Sampling
from dgn_tf.layers.hourglass import ConvNorm, DepthToSpace, Hourglass, ResidualBlock, SpaceToDepth
from dgn_tf.layers.palm_direction import PalmDirection
from dgn_tf.layers.posed_template import SimilarityFit, Skinning

__all__ = [
    "ConvNorm",
    "DepthToSpace",
    "Extension",
    "Hourglass",
    "PalmDirection",
    "ResidualBlock",
    "Sampling",
    "SimilarityFit",
    "Skinning",
    "SpaceToDepth",
]
