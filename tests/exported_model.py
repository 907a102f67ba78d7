"""A small hand model with random weights, exported once for all tests of a process."""

import atexit
import functools
import pathlib
import shutil
import tempfile

import numpy as np

from tests.tiny_template import tiny_template

SIZE = 32  # side of its crop


@functools.cache
def network():
    """An untrained `DualGridNet` on the tiny template, the same for all: nobody may train it."""
    return new_network()


def new_network():
    """Another one with the weights of `network()`."""
    import tensorflow as tf

    from dgn_tf.network import DualGridNet
    from dgn_tf.network_config import NetworkConfig

    tf.keras.utils.set_random_seed(7)
    config = NetworkConfig(image_size=SIZE, image_channels=(8, 8), mesh_channels=(8,), features=4)
    model = DualGridNet(tiny_template(), config)
    model(model.example_inputs())
    return model


@functools.cache
def exported_model() -> pathlib.Path:
    """The folder of a model whose version 1 is `network()`."""
    from dgn_tf.localize.finders import BlobFinder
    from dgn_tf.serving.saving import save_model

    folder = pathlib.Path(tempfile.mkdtemp(prefix="dgn_exported_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    save_model(network(), folder / "1", BlobFinder())
    return folder


@functools.cache
def signatures():
    """Signatures of `exported_model()`, loaded."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(exported_model() / "1"))
    atexit.register(signatures.cache_clear)  # before the interpreter takes TensorFlow apart
    return {**loaded.signatures, "keep": loaded}  # the loaded object owns the functions


def blob_frame(width=320, height=240, u=170, v=110, z=600.0, focal=300.0) -> np.ndarray:
    """A depth frame [height, width] mm with a lumpy disc of 75 mm radius before nothing."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = (columns - u) * z / focal, (rows - v) * z / focal
    surface = z + 10 * np.sin(x / 15) + 0.1 * y
    return np.where(x**2 + y**2 < 75**2, surface, 0).astype(np.float32)


INTRINSICS = np.float32([300, 300, 160, 120])  # of `blob_frame`
