"""What finds hands in whole frames, for an exported model: a network, or blobs of a hand's size."""

import tensorflow as tf

from dgn_tf.localize import raster
from dgn_tf.localize.model_folder import load_localiser, weights_hash
from dgn_tf.localize.nearest_blob import blob_candidates
from dgn_tf.localize.network import Localiser
from dgn_tf.localize.votes import FOUND, best_hands
from dgn_tf.serving.freezing import frozen

BLOB = "blob"


class NetworkFinder:
    """Finds hands by a trained `Localiser`, whose weights become constants of the graph.

    Args:
        network: built, with its weights.
        words: what it is, for the exported model's description.

    Attributes:
        variables: what a saved model has to own, see `freezing.frozen`.

    Call arguments:
        depth: [B, H, W] mm, 0 = missing.
        intrinsics: [B, 4] of the frames.
        count: K, places to return.

    Returns:
        centre [B, K, 3] mm and score [B, K], see `votes.best_hands`.
    """

    least_score = FOUND

    def __init__(self, network: Localiser, words: str = "localiser"):
        self.words = words
        specs = {
            "depth": tf.TensorSpec([None, raster.HEIGHT, raster.WIDTH], tf.float32, name="depth"),
            "intrinsics": tf.TensorSpec([None, 4], tf.float32, name="intrinsics"),
        }
        names = ("hand", "left", "offset", "point", "pixels")

        def forward(**inputs):
            outputs = network(inputs, training=False)
            return {name: outputs[name] for name in names}

        self.variables: list = []
        self._forward = frozen(forward, specs, names, large=self.variables)

    def __call__(self, depth, intrinsics, count: int = 1):
        depth, intrinsics = raster.thin(depth, intrinsics)
        outputs = self._forward(depth=depth, intrinsics=intrinsics)
        places = best_hands(outputs, count)
        return {"centre": places["centre"], "score": places["score"]}


class BlobFinder:
    """Finds the nearest blobs of a hand's size, without a network."""

    least_score = 0.5
    words = BLOB
    variables: tuple = ()

    def __call__(self, depth, intrinsics, count: int = 1):
        centre, score = blob_candidates(depth, intrinsics, count)
        return {
            "centre": centre,
            "score": tf.cast(tf.math.is_finite(score), tf.float32),
        }


def load_finder(choice: str = ""):
    """The finder of --localiser: `blob`, a localiser's folder, or empty, the one that ships.

    Raises:
        InputError: no localiser in that folder, or a damaged one.
    """
    if choice == BLOB:
        return BlobFinder()
    words = f"localiser (weights of sha256 {weights_hash(choice)})"
    return NetworkFinder(load_localiser(choice), words)
