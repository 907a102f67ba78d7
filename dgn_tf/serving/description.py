"""What a client needs beside the numbers (names, faces, licence), as a dict and as a signature.

The same facts lie in the SavedModel's `assets`; a client of a server has no files, and asks the
signature `hand` for them.
"""

import json

import numpy as np
import tensorflow as tf

from dgn_tf.geometry.mirror import mirror_faces
from dgn_tf.serving import checks
from dgn_tf.serving.module import CUBE_MM, OUTPUTS

CALIBRATED = "probability that the point lies within 10 mm of the truth, calibrated on synthesis"
UNCALIBRATED = "uncalibrated: cell occupancy * exp(-|P_s - P_r| / 10 mm)"


def hand_description(network, finder) -> dict:
    """What `assets/hand.json` holds: names, conventions, sizes and licence; JSON-able."""
    template = network.template
    return {
        "format": 1,
        "handedness": "right",  # what the network sees: left hands are mirrored for it
        "unit": "mm",
        "frame": "camera: x right, y down, z forward",
        "keypoint_names": list(template.keypoint_names),
        "evaluated": [int(index) for index in template.evaluated],
        "part_names": list(template.part_names),
        "parents": [int(parent) for parent in template.parents],
        "image_size": network.config.image_size,
        "cube_mm": CUBE_MM,
        "grid_size": int(template.grid_size),
        "num_layers": int(template.num_layers),
        "embedding": template.embedding,
        "template": template.name,
        "template_hash": template.hash,
        "template_licence": template.licence,
        "template_source": template.source,
        "template_handedness": template.handedness,
        "confidence": CALIBRATED if network.calibration is not None else UNCALIBRATED,
        "localiser": finder.words,
        "outputs": OUTPUTS,
    }


def hand_signature(network, finder):
    """The signature `hand`: left [B] bool to `description` [B], JSON, and `faces` [B, F, 3] int32.

    Faces are wound for the hand that is asked for. Everything has the batch's length, as a server
    that batches requests wants it.
    """
    text = json.dumps(hand_description(network, finder))
    right = np.asarray(network.template.faces, np.int32)
    left_faces = mirror_faces(right)

    def hand(left):
        left = tf.ensure_shape(left, [None])
        with tf.control_dependencies(checks.batch_size("left", tf.shape(left, tf.int64)[0])):
            left = tf.identity(left)
        faces = tf.where(left[:, tf.newaxis, tf.newaxis], left_faces, right)
        return {"description": tf.fill(tf.shape(left), text), "faces": faces}

    return tf.function(hand, autograph=False).get_concrete_function(
        tf.TensorSpec([None], tf.bool, name="left")
    )
