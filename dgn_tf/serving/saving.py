"""Writes a trained network as a SavedModel, with its assets, checked against the network."""

import json
import pathlib

import numpy as np
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.geometry.mirror import mirror_faces
from dgn_tf.serving import allow_list, checks, warmup
from dgn_tf.serving.module import CUBE_MM, OUTPUTS, ServingModule
from dgn_tf.serving.thinning import thin_saved_model
from dgn_tf.writing import scratch_folder

AGREEMENT_MM = 0.05  # largest difference of a vertex between network and exported model
# Of the mean difference where weights are rounded: the palm's direction moves a little, and with it
# pixels by whole steps. This finds a broken model; accuracy is measured on records.
ROUNDED_AGREEMENT_MM = {"fp16": 5.0, "int8": 20.0}


def save_model(network, folder, finder, precision: str = "fp32", forward=None) -> None:
    """Saves the SavedModel of `network` as `folder`, which must not exist.

    Args:
        network: built `DualGridNet` with its weights.
        finder: of `dgn_tf.localize.finders`, finds the hand in whole frames.
        folder: written beside, checked (ops allowed, outputs agree with the network), renamed.
        precision: fp32, fp16 or int8, see `ServingModule`; of `forward` where that is given.
        forward: see `ServingModule`.

    Raises:
        InputError: a weight is NaN or infinite.
        RuntimeError: the saved model disagrees with the network.
    """
    _refuse_not_finite(network, finder)
    folder = pathlib.Path(folder)
    with scratch_folder(folder.parent) as scratch:
        stage, sources = scratch / "model", scratch / "assets"
        stored = "fp32" if forward is not None else precision
        module = ServingModule(network, finder, stored, forward)
        files = write_assets(network, sources, finder)
        module.assets = [tf.saved_model.Asset(str(file)) for file in files]
        # Without the gradient functions: the model is for inference, weights.h5 for training.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        signatures = {**module.signatures(), "hand": hand_signature(network, finder)}
        tf.saved_model.save(module, str(stage), signatures, options)
        thin_saved_model(stage)
        warmup.write_warmup(stage, example_crops(module.image_size, 1))
        allow_list.read_saved_model(stage)
        _check_agreement(network, stage, precision)
        stage.rename(folder)


def _refuse_not_finite(network, finder):
    for variable in [*network.variables, *finder.variables]:
        if variable.dtype.is_floating and not np.isfinite(variable.numpy()).all():
            raise InputError(
                f"the weights {variable.name} hold NaN or infinite values; export another run."
            )


def write_assets(network, folder, finder) -> list[pathlib.Path]:
    """Writes what a client needs beside the numbers: names, faces, licence. Returns the files."""
    template = network.template
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    hand = hand_description(network, finder)
    (folder / "hand.json").write_text(json.dumps(hand, indent=1) + "\n")
    np.savez_compressed(
        folder / "mesh.npz",
        faces=np.asarray(template.faces, np.int32),
        rest_vertices=template.vertices,
        mesh_coords=template.mesh_coords,
        vertex_layer=template.vertex_layer,
    )
    (folder / "LICENCE.txt").write_text(
        f"Hand template {template.name}: {template.licence}\nSource: {template.source}\n"
        "Weights and graph: Apache-2.0.\n"
    )
    return sorted(folder.iterdir())


def _check_agreement(network, folder, precision="fp32"):
    # Rounding can turn a pixel of an upright crop's nearest-neighbour lookup into the next, which
    # moves that crop's mesh; a graph that is wrong moves every crop's.
    inputs = example_crops(network.config.image_size, batch_size=9)
    expected = network({name: tf.constant(value) for name, value in inputs.items()}, training=False)
    exported = tf.saved_model.load(str(folder)).signatures["crop"]
    actual = exported(
        left=tf.zeros([len(inputs["cube"])], tf.bool),
        **{name: tf.constant(value) for name, value in inputs.items()},
    )
    for name in ("vertices", "vertices_sampled", "keypoints"):
        difference = np.abs(actual[name].numpy() - expected[name].numpy())
        by_crop = difference.max(axis=(1, 2))
        difference = np.median(by_crop) if precision == "fp32" else difference.mean()
        if not difference <= ROUNDED_AGREEMENT_MM.get(precision, AGREEMENT_MM):
            raise RuntimeError(
                f"the exported model's {name} differ by {difference:.3g} mm from "
                "the network's; nothing was written."
            )


def example_crops(size: int, batch_size: int = 2, seed: int = 0) -> dict:
    """Crops of a lumpy ball, numpy: inputs on which two models can be compared."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / (size - 1) * 2 - 1
    depth = np.zeros([batch_size, size, size], np.float32)
    for image in depth:
        a, b = rng.uniform(4, 9, 2)
        surface = 600 - 60 * np.sqrt(np.maximum(0.4 - rows**2 - columns**2, 0))
        surface += 12 * np.sin(a * columns) * np.cos(b * rows)
        image[:] = np.where(rows**2 + columns**2 < 0.4, surface, 0)
    middle = (size - 1) / 2
    return {
        "depth": depth,
        "intrinsics": np.full([batch_size, 4], [2 * size, 2 * size, middle, middle], np.float32),
        "centre": np.full([batch_size, 3], [0, 0, 590], np.float32),
        "cube": np.full([batch_size], 300, np.float32),
    }


# What a client needs beside the numbers (names, faces, licence), as a dict and as a signature.
#
# The same facts lie in the SavedModel's `assets`; a client of a server has no files, and asks the
# signature `hand` for them.


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
        "confidence": CALIBRATED if network.confidence_model is not None else UNCALIBRATED,
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
