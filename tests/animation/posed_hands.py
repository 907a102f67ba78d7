"""What the project itself makes of the hands of `tests.test_parameter_file`."""

import numpy as np
import tensorflow as tf

from dgn_tf.geometry import kinematics, mirror
from tests.test_parameter_file import TEMPLATE


def skinned(transforms, hand="right"):
    """[V, 3] mm, y up: the template skinned by the project's own function."""
    rest = TEMPLATE.vertices if hand == "right" else mirror.mirror_points(TEMPLATE.vertices)
    posed = kinematics.skin(
        tf.constant(np.asarray(transforms)[np.newaxis]), rest, TEMPLATE.skinning_weights
    )
    return posed[0].numpy() * [1, -1, -1]


def joints(transforms, hand="right"):
    """[P, 3] mm, y up: where the parts' joints are."""
    at_rest = np.linalg.inv(TEMPLATE.bone_from_template.astype(np.float64))[:, :3, 3]
    at_rest = at_rest if hand == "right" else mirror.mirror_points(at_rest)
    placed = np.einsum("pij,pj->pi", transforms[:, :3, :3], at_rest) + transforms[:, :3, 3]
    return placed * [1, -1, -1]
