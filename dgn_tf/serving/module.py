"""The serving module: a trained network as a `tf.Module` with five signatures.

Inputs (every signature that predicts: left [B] bool, true for left hands):

* serving_default: depth [B, H, W] float32 mm, intrinsics [B, 4] = fx, fy, cx, cy. Finds the hand.
* centred: the same and centre [B, 3] mm, camera frame.
* crop: depth [B, S, S] mm (0 = missing), intrinsics [B, 4] of the crop, centre [B, 3], cube [B] mm.
* png: png [B] encoded images, intrinsics [B, 4], depth_unit [B] mm (0 = NYU's G * 256 + B).
* locate: depth [B, H, W] mm, intrinsics [B, 4]. Only finds hands; see `LOCATED`.

Outputs are named in `OUTPUTS`. Left hands are mirrored: the crop's columns are reversed, the
network sees a right hand, and x of what it returns is negated. With D = diag(-1, 1, 1, 1) a
left hand's transform is D T D, which poses the mirrored template D p; joint angles are those of
the mirrored hand, and mean the same bending.
"""

import tensorflow as tf

from dgn_tf.geometry import crop as crop_geometry
from dgn_tf.serving import checks
from dgn_tf.serving.freezing import frozen, graph_function
from dgn_tf.serving.png import decode_depth

CUBE_MM = 300.0
OUTPUTS = {
    "vertices": "[B, V, 3] refined mesh vertices P_r, mm, camera frame",
    "vertices_sampled": "[B, V, 3] vertices P_s as sampled from the coordinate map, mm",
    "keypoints": "[B, J, 3] key points, mm, camera frame",
    "transforms": "[B, P, 4, 4] camera_from_template of each part, mm; template mirrored for left",
    "joint_angles": "[B, P, 3] rad, about the bone frame's x, y, z",
    "confidence": "[B, V] 0..1, see the description's `confidence`; 0 where no hand was found",
    "keypoint_confidence": "[B, J] 0..1, likewise",
    "mesh_coords": "[B, S, S, 2] column and row of the mesh grid for each pixel of the crop",
    "mesh_layer": "[B, S, S] probability of the mesh grid's second layer (0 with one layer)",
    "valid": "[B, S, S] bool, pixels of the crop with depth inside the cube",
    "centre": "[B, 3] mm, camera frame, centre of the crop",
    "crop_intrinsics": "[B, 4] fx, fy, cx, cy of the crop, in its pixels",
    "found": "[B] bool, whether a hand was found",
}

LOCATED = {
    "centre": "[B, K, 3] mm, camera frame, of the most likely hands, best first",
    "score": "[B, K] 0..1, probability that a hand is there; 0 where there is no K-th hand",
}
PLACES = 2  # K of the signature `locate`


class ServingModule(tf.Module):
    """What `dgn_tf.export` saves.

    The variables become constants. What stays trainable is `weights.h5`.

    Args:
        network: a built `DualGridNet` with its weights.
        finder: finds the hand in whole frames, of `dgn_tf.localize.finders`.
        precision: how the weights are stored, see `graph_weights.store_weights`.
        forward: a loaded SavedModel whose signature `serving_default` takes the place of
            `frozen_forward` (TF-TRT made it of that).
    """

    def __init__(self, network, finder, precision: str = "fp32", forward=None):
        super().__init__(name="dual_grid_net")
        self.image_size = network.config.image_size
        self._loaded = forward  # owns what the function needs
        self._forward = (
            frozen_forward(network, precision)
            if forward is None
            else forward.signatures["serving_default"]
        )
        self._finder = finder
        self._left_sign = tf.constant([-1.0, 1.0, 1.0])

    def signatures(self) -> dict:
        """Concrete functions by signature name, for `tf.saved_model.save`.

        Not attributes: those would be saved a second time, beside the signatures.
        """
        frame = tf.TensorSpec([None, None, None], tf.float32, name="depth")
        crop = tf.TensorSpec([None, self.image_size, self.image_size], tf.float32, name="depth")
        intrinsics = tf.TensorSpec([None, 4], tf.float32, name="intrinsics")
        centre = tf.TensorSpec([None, 3], tf.float32, name="centre")
        cube = tf.TensorSpec([None], tf.float32, name="cube")
        unit = tf.TensorSpec([None], tf.float32, name="depth_unit")
        image = tf.TensorSpec([None], tf.string, name="png")
        left = tf.TensorSpec([None], tf.bool, name="left")
        signatures = {
            "serving_default": (self.locate, (frame, intrinsics, left)),
            "centred": (self.centred, (frame, intrinsics, centre, left)),
            "crop": (self.crop, (crop, intrinsics, centre, cube, left)),
            "png": (self.png, (image, intrinsics, unit, left)),
            "locate": (self.find, (frame, intrinsics)),
        }
        return {
            name: graph_function(function).get_concrete_function(*specs)
            for name, (function, specs) in signatures.items()
        }

    def find(self, depth, intrinsics):
        """Signature `locate`."""
        either = tf.zeros(tf.shape(depth)[:1], tf.bool)
        depth, intrinsics, _ = checks.frames(depth, intrinsics, either)
        places = self._finder(depth, intrinsics, PLACES)
        return {"centre": places["centre"], "score": places["score"]}

    def locate(self, depth, intrinsics, left):
        """Signature `serving_default`."""
        return self._locate(*checks.frames(depth, intrinsics, left))

    def centred(self, depth, intrinsics, centre, left):
        """Signature `centred`."""
        depth, intrinsics, left = checks.frames(depth, intrinsics, left)
        return self._cut(depth, intrinsics, checks.centres(centre, depth), left)

    def crop(self, depth, intrinsics, centre, cube, left):
        """Signature `crop`."""
        return self._predict(*checks.crops(depth, intrinsics, centre, cube, left))

    def png(self, png, intrinsics, depth_unit, left):
        """Signature `png`."""
        depth = decode_depth(png, depth_unit)
        return self._locate(*checks.frames(depth, intrinsics, left))

    def _locate(self, depth, intrinsics, left):
        places = self._finder(depth, intrinsics, 1)
        found = places["score"][:, 0] >= self._finder.least_score
        return self._cut(depth, intrinsics, places["centre"][:, 0], left, found)

    def _cut(self, depth, intrinsics, centre, left, found=None):
        cube = tf.fill(tf.shape(centre)[:1], CUBE_MM)
        depth, intrinsics = crop_geometry.crop_depth(
            depth, intrinsics, centre, cube, self.image_size
        )
        return self._predict(depth, intrinsics, centre, cube, left, found)

    def _predict(self, depth, intrinsics, centre, cube, left, found=None):
        seen_depth, seen_intrinsics, seen_centre = _mirror_crop(
            depth, intrinsics, centre, left, self._left_sign
        )
        outputs = self._forward(
            depth=seen_depth, intrinsics=seen_intrinsics, centre=seen_centre, cube=cube
        )
        outputs = _mirror_outputs(outputs, left, self._left_sign)
        seen = tf.reduce_any(outputs["valid"], axis=[1, 2])
        found = seen if found is None else found & seen
        for name in ("confidence", "keypoint_confidence"):
            outputs[name] *= tf.cast(found, tf.float32)[:, tf.newaxis]
        return {**outputs, "centre": centre, "crop_intrinsics": intrinsics, "found": found}


OF_NETWORK = (
    "vertices", "vertices_sampled", "keypoints", "transforms", "joint_angles", "confidence",
    "keypoint_confidence", "mesh_coords", "mesh_layer", "valid",
)


def _picked(network, inputs):
    outputs = network(inputs, training=False)
    if "mesh_layer" not in outputs:
        outputs["mesh_layer"] = tf.zeros_like(inputs["depth"])
    return {name: outputs[name] for name in OF_NETWORK}


def frozen_forward(network, precision: str = "fp32"):
    """The network's forward pass as a concrete function of constants.

    Args:
        network: a built `DualGridNet` with its weights.
        precision: see `graph_weights.store_weights`.

    Returns:
        Of depth, intrinsics, centre and cube (keywords) to the outputs of the network that a
        SavedModel gives.
    """
    specs = input_specs(network.config.image_size)
    network.extension.packed = True  # nobody asks a frozen graph for gradients
    try:
        return frozen(lambda **inputs: _picked(network, inputs), specs, OF_NETWORK, precision)
    finally:
        network.extension.packed = False


def input_specs(size: int, batch: int | None = None) -> dict:
    """TensorSpecs of the network's inputs, crops of `size` pixels."""
    return {
        "depth": tf.TensorSpec([batch, size, size], tf.float32, name="depth"),
        "intrinsics": tf.TensorSpec([batch, 4], tf.float32, name="intrinsics"),
        "centre": tf.TensorSpec([batch, 3], tf.float32, name="centre"),
        "cube": tf.TensorSpec([batch], tf.float32, name="cube"),
    }


def _mirror_crop(depth, intrinsics, centre, left, sign):
    """Reverses the columns of left hands' crops, with their camera and centre."""
    size = depth.shape[2]
    depth = tf.where(left[:, tf.newaxis, tf.newaxis], tf.reverse(depth, [2]), depth)
    flipped = tf.stack(
        [intrinsics[:, 0], intrinsics[:, 1], size - 1.0 - intrinsics[:, 2], intrinsics[:, 3]], 1
    )
    left = left[:, tf.newaxis]
    return depth, tf.where(left, flipped, intrinsics), tf.where(left, centre * sign, centre)


def _mirror_outputs(outputs, left, sign):
    """Turns what the network says of a mirrored left hand back."""
    outputs = dict(outputs)
    point_sign = tf.where(left[:, tf.newaxis], sign, tf.ones_like(sign))  # [B, 3]
    for name in ("vertices", "vertices_sampled", "keypoints"):
        outputs[name] *= point_sign[:, tf.newaxis]
    ends = tf.pad(point_sign, [[0, 0], [0, 1]], constant_values=1.0)  # [B, 4]: D's diagonal
    outputs["transforms"] *= (ends[:, :, tf.newaxis] * ends[:, tf.newaxis])[:, tf.newaxis]
    names = ("mesh_coords", "mesh_layer", "valid")
    images = [outputs[name] for name in names]

    def mirrored():
        return [
            tf.where(
                tf.reshape(left, [-1] + [1] * (image.shape.rank - 1)), tf.reverse(image, [2]), image
            )
            for image in images
        ]

    # Right hands alone, the usual case, skip what costs as much as a convolution.
    images = tf.cond(tf.reduce_any(left), mirrored, lambda: images)
    return outputs | dict(zip(names, images, strict=True))
