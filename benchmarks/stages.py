"""The way from a frame to a mesh cut into stages, each frozen as the export freezes the whole."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from benchmarks import machine, timing
from benchmarks.flops import count_bytes, count_flops
from dgn_tf.geometry import camera as crop_geometry
from dgn_tf.geometry import kinematics, upright
from dgn_tf.network_config import NETWORK_INPUTS
from dgn_tf.serving.freezing import frozen
from dgn_tf.serving.module import CUBE_MM

WHOLE = "whole"


class Stage(NamedTuple):
    """A concrete function of static shapes and what it is called with."""

    function: Any
    inputs: dict[str, tf.Tensor]

    def run(self):
        """Waits for one of the results, as a caller would."""
        return next(iter(self.function(**self.inputs).values())).numpy()

    def bound(self) -> machine.Bound:
        """Operations and bytes of its graph."""
        return machine.Bound(count_flops(self.function), count_bytes(self.function))


def inference_stages(network, finder, depth, intrinsics) -> dict[str, Stage]:
    """Stages by name, in order, and last the `whole` of them as one graph.

    Each gets what the one before gives on these frames: empty crops would take other branches.

    Args:
        network: built `DualGridNet`.
        finder: of `dgn_tf.localize.finders`.
        depth: [B, H, W] float32 mm, frames.
        intrinsics: [B, 4] of them.
    """
    functions = _Functions(network, finder)
    known = {"frame": tf.constant(depth, tf.float32), "camera": tf.constant(intrinsics, tf.float32)}
    stages = {}
    for name, (function, inputs, outputs) in functions.table().items():
        given = {key: known[key] for key in inputs}
        specs = {
            key: tf.TensorSpec(value.shape, value.dtype, name=key) for key, value in given.items()
        }
        stages[name] = Stage(frozen(_picked(function, outputs), specs, outputs), given)
        if name != WHOLE:
            known |= stages[name].function(**given)
        if name == "crop":
            # What the confidence judges: of some of it no other stage is the source.
            known |= network({key: known[key] for key in NETWORK_INPUTS}, training=False)
    return stages


def measure_model(saved_model, inputs, sizes, rounds: int) -> dict:
    """`measure_stages` of a model folder's weights with the localiser that ships.

    Args:
        saved_model: folder (or version in one) with its weights.
        inputs: `inputs.Inputs` of at least the largest batch.
        sizes: batch sizes.
        rounds: R.

    Returns:
        `batch_1` and so on -> figures.
    """
    from dgn_tf.localize.finders import load_finder
    from dgn_tf.model_folder import load_network

    network, finder = load_network(saved_model), load_finder()
    result = {}
    for size in sizes:
        frames = inputs.frame_batch(size)
        result[f"batch_{size}"] = measure_stages(
            network,
            finder,
            frames["depth"],
            frames["intrinsics"],
            rounds,
            repeats=max(1, 8 // size),
        )
    return result


def measure_stages(network, finder, depth, intrinsics, rounds: int, repeats: int = 1) -> dict:
    """Times the stages apart, in alternation with their whole and the machine's rates.

    Args:
        network, finder, depth, intrinsics: see `inference_stages`.
        rounds: R.
        repeats: how often a stage runs in a round; figures are of one run.

    Returns:
        stage -> {`ms`, `share_of_whole`, and its `machine.bound_figures`}, all of one frame;
        `unaccounted` is what they leave of the whole (less than nothing where calling them apart
        costs more than they do); and the machine's rates.
    """
    stages = inference_stages(network, finder, depth, intrinsics)
    probes = machine.Probes()
    jobs = {name: timing.repeated(stage.run, repeats) for name, stage in stages.items()}
    seconds = timing.alternate({**probes.jobs, **jobs}, rounds)
    rates = probes.rates(seconds)
    count = len(depth)
    taken = {name: seconds[name] / repeats for name in stages}
    result: dict = {"batch_size": count, **machine.rate_figures(rates)}
    for name, stage in stages.items():
        result[name] = {
            "ms": 1e3 * float(np.median(taken[name])) / count,
            "share_of_whole": timing.ratio(taken[name], taken[WHOLE]),
            **machine.bound_figures(stage.bound(), taken[name], rates, count),
        }
    rest = taken[WHOLE] - sum(taken[name] for name in stages if name != WHOLE)
    result["unaccounted"] = {
        "ms": 1e3 * float(np.median(rest)) / count,
        "share_of_whole": timing.ratio(rest, taken[WHOLE]),
    }
    return result


def _picked(function, outputs):
    def run(**inputs):
        found = function(**inputs)
        return {name: found[name] for name in outputs}

    return run


class _Functions:
    """The stages as functions of keyword arguments to dicts of what later stages take."""

    def __init__(self, network, finder):
        self.network, self.finder = network, finder

    def table(self) -> dict:
        """name -> (function, names of inputs, names of outputs)."""
        turned = ("palm_direction", "camera_from_view") if self.network.config.upright else ()
        refined = ("vertices_sampled", "transforms", "vertices")
        layers = ("layer_logits",) if self.network.template.num_layers > 1 else ()
        judged = ("valid", "occupancy", *layers, *turned[:1], *refined)
        last = ("joint_angles", "confidence", "keypoint_confidence")
        return {
            "locate": (self.locate, ("frame", "camera"), ("centre",)),
            "crop": (self.crop, ("frame", "camera", "centre"), NETWORK_INPUTS),
            "view": (self.view, NETWORK_INPUTS, ("seen", *turned)),
            "image_network": (self.image_network, ("seen",), ("correspondences", "features")),
            "extension": (self.extension, ("correspondences", "features", "seen"), ("extended",)),
            "mesh_network": (self.mesh_network, ("extended",), ("coordinate_map",)),
            "sampling": (
                self.sampling,
                ("coordinate_map", "extended", *NETWORK_INPUTS[2:], *turned[1:]),
                ("vertices_sampled", "occupancy"),
            ),
            "similarity_fit": (self.fit, ("vertices_sampled",), ("transforms",)),
            "skinning": (self.skinning, ("transforms",), ("vertices", "keypoints")),
            "confidence": (self.confidence, (*NETWORK_INPUTS, *judged), last),
            WHOLE: (self.whole, ("frame", "camera"), (*refined, "keypoints", *last)),
        }

    def locate(self, frame, camera):
        return {"centre": self.finder(frame, camera, 1)["centre"][:, 0]}

    def crop(self, frame, camera, centre):
        cube = tf.fill(tf.shape(centre)[:1], CUBE_MM)
        size = self.network.config.image_size
        depth, intrinsics = crop_geometry.crop_depth(frame, camera, centre, cube, size)
        return {"depth": depth, "intrinsics": intrinsics, "centre": centre, "cube": cube}

    def view(self, **inputs):
        _, seen, view_from_camera = self.network.pixel_inputs(inputs)
        seen, view = self.network.canonicalise(seen, view_from_camera, False)
        return {"seen": seen, **(view._asdict() if view else {})}

    def image_network(self, seen):
        correspondences, features = self.network.image_network(seen, False)
        return {"correspondences": correspondences, "features": features}

    def extension(self, correspondences, features, seen):
        return {"extended": self.network.extend(correspondences[..., :2], features, seen)}

    def mesh_network(self, extended):
        return {"coordinate_map": self.network.mesh_network(extended, False)}

    def sampling(self, coordinate_map, extended, centre, cube, camera_from_view=None):
        sampled = self.network.sampling(coordinate_map)
        if camera_from_view is not None:
            sampled = upright.rotate(sampled, camera_from_view)
        sampled = sampled * cube[:, tf.newaxis, tf.newaxis] / 2 + centre[:, tf.newaxis]
        occupancy = self.network.sampling.occupancy(extended[..., -1])
        return {"vertices_sampled": sampled, "occupancy": occupancy}

    def fit(self, vertices_sampled):
        return {"transforms": self.network.similarity_fit(vertices_sampled)}

    def skinning(self, transforms):
        return {
            "vertices": self.network.skinning(transforms),
            "keypoints": self.network.skinning.keypoints(transforms),
        }

    def confidence(self, **known):
        """Joint angles and confidence, from what the stages before have left."""
        template = self.network.template
        angles = kinematics.joint_angles(
            known["transforms"], template.bone_from_template, template.parents
        )
        return {"joint_angles": angles, **self.network.confidence(known, known)}

    def whole(self, frame, camera):
        crop = self.crop(frame, camera, **self.locate(frame, camera))
        return self.network(crop, training=False)
