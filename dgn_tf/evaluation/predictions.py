"""Where predictions come from: a network from its weights, or an exported SavedModel."""

import numpy as np
import tensorflow as tf

from dgn_tf import errors
from dgn_tf.errors import InputError
from dgn_tf.model_folder import read_description
from dgn_tf.network_config import NETWORK_INPUTS

OUTPUTS = ("keypoints", "vertices", "vertices_sampled", "mesh_coords", "mesh_layer")


def crop_size(path) -> int:
    """Side in pixels of the crops that the model at `path` (or of the version there) reads."""
    return int(read_description(path)["network"]["image_size"])


class NetworkPredictions:
    """Predictions of a `DualGridNet` in memory.

    Calling it with a batch (a dict with `NETWORK_INPUTS`, and more that is ignored) gives a dict of
    numpy arrays named as in `OUTPUTS`, as far as the network has them.
    """

    def __init__(self, network):
        self.template = network.template

        @tf.function(reduce_retracing=True)
        def run(inputs):
            outputs = network(inputs, training=False)
            return {name: outputs[name] for name in OUTPUTS if name in outputs}

        self._run = run

    def __call__(self, batch) -> dict[str, np.ndarray]:
        inputs = {name: tf.convert_to_tensor(batch[name]) for name in NETWORK_INPUTS}
        return {name: value.numpy() for name, value in self._run(inputs).items()}


class SavedModelPredictions:
    """Predictions of a SavedModel's signature `crop`; called as `NetworkPredictions` is.

    Args:
        folder: a model folder or one version in it.
        template: HandTemplate that the model was trained with; outputs are checked against it.
    """

    def __init__(self, folder, template):
        from dgn_tf.serving.allow_list import find_version, load_checked, read_saved_model

        self.template = template
        self._folder = folder
        version = find_version(folder)
        read_saved_model(version)  # refuses ops that reach files before anything of it runs
        self._model = load_checked(version)  # the signature's weights die with it
        signature = self._model.signatures.get("crop")
        if signature is None:
            raise InputError(
                f"--saved_model={folder} has no signature `crop`; export it with dgn_tf.export."
            )
        self._run = signature

    def __call__(self, batch) -> dict[str, np.ndarray]:
        inputs = {name: tf.cast(batch[name], tf.float32) for name in NETWORK_INPUTS}
        try:
            outputs = self._run(**inputs, left=tf.zeros_like(inputs["cube"], tf.bool))
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
            first = errors.reason(error)
            raise InputError(
                f"--saved_model={self._folder} does not take the crops of --records: {first}"
            ) from None
        outputs = {name: outputs[name].numpy() for name in OUTPUTS if name in outputs}
        vertices = outputs["vertices"].shape[1]
        if vertices != len(self.template.vertices):
            raise InputError(
                f"--saved_model={self._folder} gives {vertices} vertices, its template has "
                f"{len(self.template.vertices)}; export it again."
            )
        wrong = [name for name, value in outputs.items() if not np.isfinite(value).all()]
        if wrong:
            raise InputError(
                f"--saved_model={self._folder}: its {wrong[0]} have NaN or infinite values; export "
                "it again."
            )
        return outputs
