"""The hand template: mesh, skinning, bone frames, key points and mesh coordinates (Fig. 3)."""

from dgn_tf.template.checks import HANDS
from dgn_tf.template.hand_template import (
    DEFAULT_TEMPLATE_PATH,
    EMBEDDINGS,
    EVALUATED,
    Embedding,
    HandTemplate,
    load_template,
    nyu_keypoint_names,
)

__all__ = [
    "DEFAULT_TEMPLATE_PATH",
    "EMBEDDINGS",
    "EVALUATED",
    "HANDS",
    "Embedding",
    "HandTemplate",
    "load_template",
    "nyu_keypoint_names",
]
