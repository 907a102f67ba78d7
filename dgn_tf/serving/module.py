"""The serving module: a trained network as a `tf.Module` with four signatures.

Inputs (every signature: left [B] bool, true for left hands):

* serving_default: depth [B, H, W] float32 mm, intrinsics [B, 4] = fx, fy, cx, cy. Finds the hand.
* centred: the same and centre [B, 3] mm, camera frame.
* crop: depth [B, S, S] mm (0 = missing), intrinsics [B, 4] of the crop, centre [B, 3], cube [B] mm.
* png: png [B] encoded images, intrinsics [B, 4], depth_unit [B] mm (0 = NYU's G * 256 + B).

Outputs are named in `OUTPUTS`. Left hands are mirrored: the crop's columns are reversed, the
network sees a right hand, and x of what it returns is negated. With D = diag(-1, 1, 1, 1) a
left hand's transform is D T D, which poses the mirrored template D p; joint angles are those of
the mirrored hand, and mean the same bending.
"""

import functools

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from dgn_tf.conversion import graph_weights
from dgn_tf.geometry import crop as crop_geometry
from dgn_tf.localize.nearest_blob import nearest_blob
from dgn_tf.serving import checks
from dgn_tf.serving.png import decode_depth

CUBE_MM = 300.0
OUTPUTS = {
    "vertices": "[B, V, 3] refined mesh vertices P_r, mm, camera frame",
    "vertices_sampled": "[B, V, 3] vertices P_s as sampled from the coordinate map, mm",
    "keypoints": "[B, J, 3] key points, mm, camera frame",
    "transforms": "[B, P, 4, 4] camera_from_template of each part, mm; template mirrored for left",
    "joint_angles": "[B, P, 3] rad, about the bone frame's x, y, z",
    "confidence": "[B, V] 0..1, uncalibrated; 0 where no hand was found",
    "mesh_coords": "[B, S, S, 2] column and row of the mesh grid for each pixel of the crop",
    "mesh_layer": "[B, S, S] probability of the mesh grid's second layer (0 with one layer)",
    "valid": "[B, S, S] bool, pixels of the crop with depth inside the cube",
    "centre": "[B, 3] mm, camera frame, centre of the crop",
    "crop_intrinsics": "[B, 4] fx, fy, cx, cy of the crop, in its pixels",
    "found": "[B] bool, whether a hand-sized surface was found",
}

_graph = functools.partial(tf.function, autograph=False)  # no Python control flow on tensors here


class ServingModule(tf.Module):
    """What `dgn_tf.export` saves.

    The variables become constants: the runtime can then fuse and precompute (5 to 10 % less time
    for one frame on a CPU), and batch norms part of the convolutions. What stays trainable is
    `weights.h5`.

    Args:
        network: a built `DualGridNet` with its weights.
        precision: how the weights are stored, see `graph_weights.store_weights`.
        forward: a loaded SavedModel whose signature `serving_default` takes the place of
            `frozen_forward` (TF-TRT made it of that).
    """

    def __init__(self, network, precision: str = "fp32", forward=None):
        super().__init__(name="dual_grid_net")
        self.image_size = network.config.image_size
        self._loaded = forward  # owns what the function needs
        self._forward = (
            frozen_forward(network, precision)
            if forward is None
            else forward.signatures["serving_default"]
        )
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
        return {
            "serving_default": _graph(self.locate).get_concrete_function(frame, intrinsics, left),
            "centred": _graph(self.centred).get_concrete_function(frame, intrinsics, centre, left),
            "crop": _graph(self.crop).get_concrete_function(crop, intrinsics, centre, cube, left),
            "png": _graph(self.png).get_concrete_function(image, intrinsics, unit, left),
        }

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
        centre, found = nearest_blob(depth, intrinsics)
        return self._cut(depth, intrinsics, centre, left, found)

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
        outputs["confidence"] *= tf.cast(found, tf.float32)[:, tf.newaxis]
        return {**outputs, "centre": centre, "crop_intrinsics": intrinsics, "found": found}


OF_NETWORK = (
    "vertices", "vertices_sampled", "keypoints", "transforms", "joint_angles", "confidence",
    "mesh_coords", "mesh_layer", "valid",
)


def _picked(network, inputs):
    outputs = network(inputs, training=False)
    if "mesh_layer" not in outputs:
        outputs["mesh_layer"] = tf.zeros_like(inputs["depth"])
    return {name: outputs[name] for name in OF_NETWORK}


def frozen_forward(network, precision: str = "fp32"):
    """The network's forward pass as a concrete function of constants.

    Without its custom gradients, too: they can't be saved, and a loader would warn of each that
    is missing. Batch norms are folded.

    Args:
        network: a built `DualGridNet` with its weights.
        precision: see `graph_weights.store_weights`.

    Returns:
        Of depth, intrinsics, centre and cube (keywords) to the outputs of the network that a
        SavedModel gives.
    """
    specs = input_specs(network.config.image_size)
    forward = _graph(lambda **inputs: _picked(network, inputs)).get_concrete_function(**specs)
    constant = convert_variables_to_constants_v2(forward, lower_control_flow=False)
    graph_def = constant.graph.as_graph_def()
    for nodes in (graph_def.node, *(f.node_def for f in graph_def.library.function)):
        for node in nodes:
            node.attr.pop("_gradient_op_type", None)
    for function in graph_def.library.function:
        function.attr.pop("_GrapplerSpecializedFunc", None)  # Grappler's mark; loading refuses it
    names = sorted(specs)  # the order in which tf.function flattened the dict
    inputs = [tensor.name.split(":")[0] for tensor in constant.inputs]
    outputs = [tensor.name for tensor in constant.outputs]
    graph_weights.fold_batch_norms(graph_def)
    graph_weights.store_weights(graph_def, precision)
    graph_weights.prune(graph_def, [*inputs, *outputs])

    def imported(depth, intrinsics, centre, cube):
        given = {"depth": depth, "intrinsics": intrinsics, "centre": centre, "cube": cube}
        feeds = {node: given[name] for node, name in zip(inputs, names, strict=True)}
        results = tf.graph_util.import_graph_def(graph_def, feeds, outputs, name="")
        return dict(zip(sorted(OF_NETWORK), results, strict=True))

    return _graph(imported).get_concrete_function(**specs)


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
    for name in ("mesh_coords", "mesh_layer", "valid"):
        value = outputs[name]
        flags = tf.reshape(left, [-1] + [1] * (value.shape.rank - 1))
        outputs[name] = tf.where(flags, tf.reverse(value, [2]), value)
    return outputs
