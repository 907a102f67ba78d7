"""The serving module: a trained network as a `tf.Module` with five signatures.

Inputs (every signature that predicts: left [B] bool, true for left hands):

* serving_default: depth [B, H, W] float32 mm, intrinsics [B, 4] = fx, fy, cx, cy. Finds the hand.
* centred: the same and centre [B, 3] mm, camera frame.
* crop: depth [B, S, S] mm (0 = missing), intrinsics [B, 4] of the crop, centre [B, 3], cube [B] mm.
* png: png [B] encoded images, intrinsics [B, 4], depth_unit [B] mm (0 = NYU's G * 256 + B).
* locate: depth [B, H, W] mm, intrinsics [B, 4]. Only finds hands; see `LOCATED`.

Outputs are named in `OUTPUTS`. Left hands are mirrored (`dgn_tf.geometry.mirror`): the network
sees a right hand, and what it returns is mirrored back. A left hand's transform D T D poses the
mirrored template D p; joint angles are those of the mirrored hand, and mean the same bending.
"""

import tensorflow as tf

from dgn_tf.geometry import camera as crop_geometry
from dgn_tf.geometry import mirror
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
    "left": "[B] bool, as it was asked: the hand is a left one, its mesh has the left hand's faces",
}

LOCATED = {
    "centre": "[B, K, 3] mm, camera frame, of the most likely hands, best first",
    "score": "[B, K] 0..1, probability that a hand is there; 0 where there is no K-th hand",
}
PLACES = 2  # K of the signature `locate`


class ServingModule(tf.Module):
    """What `dgn_tf.export` saves.

    Nothing of it can be trained: see `freezing.frozen`. What stays trainable is `weights.h5`.

    Args:
        network: a built `DualGridNet` with its weights.
        finder: finds the hand in whole frames, of `dgn_tf.localize.finders`.
        precision: how the weights are stored, see `graph_weights.store_weights`.
        forward: a loaded SavedModel whose signature `serving_default` takes the place of
            `frozen_forward` (TF-TRT made it of that).
        branches: right hands alone skip what mirrors, and what is wrong is refused in words;
            False: for runtimes that know neither conditionals nor assertions: what is wrong is a
            frame in which no hand is found.
    """

    def __init__(
        self, network, finder, precision: str = "fp32", forward=None, branches: bool = True
    ):
        super().__init__(name="dual_grid_net")
        self._branches = branches
        self.image_size = network.config.image_size
        self._loaded = forward  # owns what the function needs
        large: list = []
        self._forward = (
            frozen_forward(network, precision, large)
            if forward is None
            else forward.signatures["serving_default"]
        )
        self._finder = finder
        self._kept = [*large, *finder.variables]  # for the functions above, which capture them

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
        usable, (depth, intrinsics) = self._usable(depth, intrinsics)
        places = self._finder(depth, intrinsics, PLACES)
        score = places["score"]
        if usable is not None:
            score = tf.where(usable[:, tf.newaxis], score, 0.0)
        return {"centre": places["centre"], "score": score}

    def locate(self, depth, intrinsics, left):
        """Signature `serving_default`."""
        return self._locate(*checks.frames(depth, intrinsics, left))

    def centred(self, depth, intrinsics, centre, left):
        """Signature `centred`."""
        depth, intrinsics, left = checks.frames(depth, intrinsics, left)
        centre = checks.centres(centre, depth)
        usable, (depth, intrinsics, centre) = self._usable(depth, intrinsics, centre)
        seen, camera = self._mirror_frames(depth, intrinsics, left)
        centre = self._mirror_where(left, {"centre": centre})["centre"]
        return self._as_asked(self._cut(seen, camera, centre, usable), left)

    def crop(self, depth, intrinsics, centre, cube, left):
        """Signature `crop`."""
        depth, intrinsics, centre, cube, left = checks.crops(depth, intrinsics, centre, cube, left)
        usable, values = self._usable(depth, intrinsics, centre, cube)
        depth, intrinsics, centre, cube = values
        seen, camera = self._mirror_frames(depth, intrinsics, left)
        mirrored = self._mirror_where(left, {"centre": centre})["centre"]
        outputs = self._as_asked(self._predict(seen, camera, mirrored, cube, usable), left)
        return {**outputs, "crop_intrinsics": intrinsics}  # cx is not rounded twice

    def png(self, png, intrinsics, depth_unit, left):
        """Signature `png`."""
        depth = decode_depth(png, depth_unit)
        return self._locate(*checks.frames(depth, intrinsics, left))

    def _usable(self, *values):
        """Which requests can be used [B], and safe values for the others; or None, as they are."""
        if self._branches:
            return None, values
        usable = checks.usable(*values)
        safe = (0.0, checks.SAFE_INTRINSICS, checks.SAFE_CENTRE, CUBE_MM)
        return usable, [
            _where(usable, value, tf.zeros_like(value) + other)
            for value, other in zip(values, safe, strict=False)
        ]

    def _locate(self, depth, intrinsics, left):
        usable, (depth, intrinsics) = self._usable(depth, intrinsics)
        seen, camera = self._mirror_frames(depth, intrinsics, left)
        places = self._finder(seen, camera, 1)
        found = places["score"][:, 0] >= self._finder.least_score
        found = found if usable is None else found & usable
        return self._as_asked(self._cut(seen, camera, places["centre"][:, 0], found), left)

    def _cut(self, depth, intrinsics, centre, found=None):
        cube = tf.fill(tf.shape(centre)[:1], CUBE_MM)
        depth, intrinsics = crop_geometry.crop_depth(
            depth, intrinsics, centre, cube, self.image_size
        )
        return self._predict(depth, intrinsics, centre, cube, found)

    def _predict(self, depth, intrinsics, centre, cube, found=None):
        """Outputs of right hands, and of left ones as the mirror shows them."""
        outputs = dict(self._forward(depth=depth, intrinsics=intrinsics, centre=centre, cube=cube))
        seen = tf.reduce_any(outputs["valid"], axis=[1, 2])
        found = seen if found is None else found & seen
        for name in ("confidence", "keypoint_confidence"):
            outputs[name] *= tf.cast(found, tf.float32)[:, tf.newaxis]
        return {**outputs, "centre": centre, "crop_intrinsics": intrinsics, "found": found}

    def _as_asked(self, outputs, left):
        """Mirrors what was found of left hands back."""
        camera = outputs["crop_intrinsics"]
        flipped = mirror.mirror_intrinsics(camera, self.image_size)
        camera = tf.where(left[:, tf.newaxis], flipped, camera)
        return {**self._mirror_where(left, outputs), "crop_intrinsics": camera, "left": left}

    def _mirror_frames(self, depth, intrinsics, left):
        """Whole frames (or crops) and their cameras, of which left hands' are mirrored.

        Before anything is looked up in them: so a left hand's answer is the mirrored answer to the
        mirrored frame, to the bit. Frames of right hands alone cost nothing.
        """
        seen = self._if_any(
            left,
            lambda: _where(left, mirror.mirror_image(depth), depth),
            lambda: tf.identity(depth),
        )
        width = tf.cast(tf.shape(depth)[2], tf.float32)
        flipped = mirror.mirror_intrinsics(intrinsics, width)
        return tf.ensure_shape(seen, depth.shape), tf.where(
            left[:, tf.newaxis], flipped, intrinsics
        )

    def _mirror_where(self, left, values):
        """Mirrors left hands' arrays [B, ...] by their names; the others' pass through."""
        names = [name for name in values if name in mirror.NAMED]

        def mirrored():
            found = mirror.mirror_named({name: values[name] for name in names})
            return [_where(left, found[name], values[name]) for name in names]

        # Right hands alone, the usual case, skip what costs as much as a convolution.
        chosen = self._if_any(left, mirrored, lambda: [tf.identity(values[name]) for name in names])
        return values | dict(zip(names, chosen, strict=True))

    def _if_any(self, left, mirrored, as_they_are):
        """`mirrored()` where a hand is a left one, else `as_they_are()`, which is the same."""
        if not self._branches:
            return mirrored()
        return tf.cond(tf.reduce_any(left), mirrored, as_they_are)


OF_NETWORK = (
    "vertices",
    "vertices_sampled",
    "keypoints",
    "transforms",
    "joint_angles",
    "confidence",
    "keypoint_confidence",
    "mesh_coords",
    "mesh_layer",
    "valid",
)


def _picked(network, inputs):
    outputs = network(inputs, training=False)
    if "mesh_layer" not in outputs:
        outputs["mesh_layer"] = tf.zeros_like(inputs["depth"])
    return {name: outputs[name] for name in OF_NETWORK}


def frozen_forward(network, precision: str = "fp32", large: list | None = None):
    """The network's forward pass as a concrete function of constants.

    Args:
        network: a built `DualGridNet` with its weights.
        precision: see `graph_weights.store_weights`.
        large: see `freezing.frozen`; None: everything is a constant.

    Returns:
        Of depth, intrinsics, centre and cube (keywords) to the outputs of the network that a
        SavedModel gives.
    """
    specs = input_specs(network.config.image_size)
    network.extension.packed = True  # nobody asks a frozen graph for gradients
    try:
        return frozen(
            lambda **inputs: _picked(network, inputs), specs, OF_NETWORK, precision, large
        )
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


def _where(chosen, values, others):
    """`tf.where` by example: chosen [B], values and others [B, ...]."""
    return tf.where(tf.reshape(chosen, [-1] + [1] * (values.shape.rank - 1)), values, others)
