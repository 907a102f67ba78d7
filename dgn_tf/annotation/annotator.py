"""Labels for batches of time steps: crops, the network, fusion and refinement in turn."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from dgn_tf.annotation import fusion, schema
from dgn_tf.hand_fit.view_fit import Observed, Refinement
from dgn_tf.losses import data_terms, multi_view
from dgn_tf.losses.energy import EnergyConfig, wrist_of
from dgn_tf.losses.multi_view import flat_views
from dgn_tf.network_config import NETWORK_INPUTS
from dgn_tf.records import view_schema
from dgn_tf.records.view_crops import Motion, crop_window

# A crop's centre beyond these depths is no hand's, mm: the view keeps the centre that it had.
_NEAREST_MM, _FARTHEST_MM = 100.0, 6000.0
# Centre of a view that has none: nothing divides by 0.
_STAND_IN = np.array([0, 0, 1000], np.float32)


@dataclasses.dataclass(frozen=True)
class AnnotateConfig:
    """What the annotator does.

    Attributes:
        passes: how often the network sees each view: from the second time on, cropped around
            where the fused hand of the pass before is.
        refine_steps: steps of the refinement; 0 for none.
        energy: weights and lengths of the refinement's energy; with `free_space` above 0 the
            fusion, too, leaves out vertices that a camera sees past.
        min_confidence: frames below it keep no key points.
    """

    passes: int = 2
    refine_steps: int = 0
    energy: EnergyConfig = dataclasses.field(default_factory=EnergyConfig)
    min_confidence: float = 0.0


class Annotator:
    """Annotates time steps.

    Args:
        network: built `DualGridNet`.
        config: what to do.
        used: [C] bool: the cameras whose views are used.
        together: a step's views are one hand's, seen from known places; else each view is
            annotated on its own.
    """

    def __init__(self, network, config: AnnotateConfig, used, together: bool):
        self._network, self._config = network, config
        self._used, self._together = np.asarray(used, bool), together
        template = network.template
        self._faces = np.asarray(template.faces)
        self._around = data_terms.faces_of_vertices(self._faces, len(template.vertices))
        self._wrist = wrist_of(template)
        self._crop = _cropper(network.config.image_size)
        self._refinement = None
        if config.refine_steps:
            self._refinement = Refinement(template, config.energy, config.refine_steps)
        self._estimate = tf.function(self._estimated, reduce_retracing=True)
        self._finish = tf.function(self._finished, reduce_retracing=True)

    def __call__(self, steps: list[dict]) -> dict[str, np.ndarray]:
        """Annotates parsed records (`view_schema.parse_step`, as numpy arrays).

        Returns:
            What `schema.annotated_step` wants, each with an axis of the steps before it; and
            energy [B, C, 2] before and after the refinement, NaN where there was none.
        """
        count, cameras = len(steps), len(self._used)
        windows = [_windows(step) for step in steps]
        cube = np.stack([step["cube"] for step in steps])
        rig = np.stack([step["camera_from_rig"] for step in steps])
        valid = np.stack([step["view_valid"] for step in steps]) > 0
        recorded = np.stack([step["centre"] for step in steps])
        centre = np.where(valid[..., None], recorded, _STAND_IN)
        if not self._together:
            rig = np.tile(np.eye(4, dtype=np.float32), [count, cameras, 1, 1])
        for turn in range(self._config.passes):
            depth, intrinsics = _crops(self._crop, windows, steps, centre)
            batch = {
                "depth": depth,
                "intrinsics": intrinsics,
                "centre": centre,
                "cube": np.repeat(cube[:, None], cameras, 1),
                "camera_from_rig": rig,
                "valid": valid & self._used,
            }
            batch = {name: tf.constant(self._grouped(value)) for name, value in batch.items()}
            found = self._estimate(batch)
            if turn + 1 < self._config.passes:
                wanted = self._split(found["centre"].numpy(), cameras)
                centre = np.where(_can_move(wanted, valid)[..., None], wanted, centre)
        result = {name: value.numpy() for name, value in self._finish(batch, found).items()}
        result = {name: self._split(value, cameras) for name, value in result.items()}
        return self._labels(result, np.where(valid[..., None], centre, recorded))

    def _grouped(self, values):
        """[B, C, ...] as it is, or [B * C, 1, ...] of views that know nothing of each other."""
        return values if self._together else values.reshape(-1, 1, *values.shape[2:])

    def _split(self, values, cameras):
        """Back from `_grouped`."""
        return values if self._together else values.reshape(-1, cameras, *values.shape[2:])

    def _labels(self, found, centre):
        good = found["annotated"].copy()
        for name in ("keypoints", "transforms", "confidence"):
            good &= np.isfinite(found[name]).reshape(*good.shape, -1).all(axis=-1)
        good &= schema.can_hold(found["vertices"])
        sure = good & (found["confidence"] >= self._config.min_confidence)
        labels = {}
        for name in ("vertices", "transforms", "keypoints", "confidence"):
            keep = (sure if name == "keypoints" else good).reshape(
                good.shape + (1,) * (found[name].ndim - 2)
            )
            labels[name] = np.where(keep, found[name], 0)
        joints = found["keypoints"].shape[2]
        return {
            **labels,
            "keypoints_valid": np.repeat(sure[..., None], joints, axis=2).astype(np.int64),
            "annotated": good.astype(np.int64),
            **{
                name: np.where(found["usable"] & np.isfinite(found[name]), found[name], -1)
                for name in ("view_distance", "pixel_distance")
            },
            "energy": found["energy"],
            "centre": centre,
        }

    def _estimated(self, batch):
        """One pass: the network on every view of [B, C], and the views' fusion.

        Returns:
            The views' estimates [B, C, ...] in their cameras' frames, `sampled` P_s fused in the
            rig's frame, `centre` [B, C, 3] where the result says that crops should be.
        """
        config, rig = self._config.energy, batch["camera_from_rig"]
        cameras = rig.shape[1]
        flat = {name: flat_views(batch[name]) for name in NETWORK_INPUTS}
        outputs = dict(self._network(flat, training=False))
        finite = tf.reduce_all(tf.math.is_finite(outputs["vertices_sampled"]), axis=[1, 2])
        for name in ("vertices", "vertices_sampled", "confidence"):
            # Chosen, not multiplied: what is not finite has no place in a sum or a gradient.
            known = tf.reshape(finite, [-1] + [1] * (len(outputs[name].shape) - 1))
            outputs[name] = tf.where(known, outputs[name], tf.zeros_like(outputs[name]))
        pixels = data_terms.hand_pixels(outputs, flat["depth"], flat["intrinsics"], config.pixels)
        views = {
            "vertices": outputs["vertices"],
            "normals": self._normals(outputs["vertices"]),
            "sampled": outputs["vertices_sampled"],
            "confidence": outputs["confidence"],
            "points": pixels.points,
            "counted": pixels.counted,
            "correspondence": data_terms.corresponding_vertex(
                pixels.coords, pixels.layer, self._network.template
            ),
        }
        if config.free_space:
            sight = multi_view.sight(
                flat["depth"], outputs["valid"], flat["centre"], flat["intrinsics"]
            )
            views |= {f"sight_{name}": value for name, value in sight._asdict().items()}
        measured = tf.reduce_sum(tf.cast(outputs["valid"], tf.int32), axis=[1, 2])
        views["usable"] = finite & (measured >= config.min_pixels) & flat_views(batch["valid"])
        views = {
            name: tf.reshape(value, [-1, cameras, *value.shape[1:]])
            for name, value in views.items()
        }
        usable = views["usable"]
        explained = fusion.explanation(
            views["vertices"], views["normals"], views["points"], views["counted"], rig, usable
        )
        views["weights"] = fusion.view_weights(explained, usable)
        rig_from_camera = multi_view.rigid_inverse(rig)
        in_rig = multi_view.moved(views["sampled"], rig_from_camera)
        in_rig = tf.where(usable[..., tf.newaxis, tf.newaxis], in_rig, tf.zeros_like(in_rig))
        weights = fusion.vertex_weights(views["weights"], views["confidence"])
        views["votes"] = tf.ones(tf.shape(weights), tf.bool)
        if config.free_space:
            views["votes"] = fusion.votes(
                in_rig, rig, _sights(views), views["weights"], config.free_space_margin
            )
        fused = fusion.fuse(in_rig, tf.where(views["votes"], weights, tf.zeros_like(weights)))
        transforms = self._network.similarity_fit(fused)
        return {
            **views,
            "in_rig": in_rig,
            "fused": fused,
            "transforms": transforms,
            "centre": self._centres(self._network.skinning(transforms), rig),
        }

    def _finished(self, batch, found):
        """Refines the fused hand and brings it back to each camera."""
        rig, usable = batch["camera_from_rig"], found["usable"]
        rig_from_camera = multi_view.rigid_inverse(rig)
        points = multi_view.moved(found["points"], rig_from_camera)
        counted = self._of_hand(points, found["counted"], found["transforms"])
        transforms = found["transforms"]
        energy = tf.fill([tf.shape(rig)[0], 2], np.float32(np.nan))
        if self._refinement is not None:
            middle = tf.reduce_mean(found["fused"], axis=1)
            estimates = multi_view.moved(found["vertices"], rig_from_camera)
            there = middle[:, tf.newaxis, tf.newaxis]
            seen = Observed(
                points=points - there,
                counted=counted,
                vertex=found["correspondence"],
                cameras=rig_from_camera[..., :3, 3] - middle[:, tf.newaxis],
                estimates=estimates - there,
                fused=found["fused"] - middle[:, tf.newaxis],
                weights=found["weights"],
                votes=found["votes"],
            )
            if self._config.energy.free_space:
                seen = seen._replace(
                    sights=_sights(found), camera_from_seen=_from_middle(rig, middle)
                )
            refined, *energies = self._refinement(_shifted(transforms, -middle), seen)
            transforms, energy = _shifted(refined, middle), tf.stack(energies, axis=1)
        vertices = self._network.skinning(transforms)
        distance = fusion.median_distance(found["in_rig"], vertices)
        residual = self._residuals(vertices, points, counted, rig_from_camera[..., :3, 3])

        def of_views(values):
            return tf.repeat(values[:, tf.newaxis], rig.shape[1], axis=1)

        keypoints = self._network.skinning.keypoints(transforms)
        return {
            "transforms": _moved_transforms(transforms, rig),
            "vertices": multi_view.moved(vertices[:, tf.newaxis], rig),
            "keypoints": multi_view.moved(keypoints[:, tf.newaxis], rig),
            "confidence": of_views(fusion.frame_confidence(distance, residual, usable)),
            "annotated": of_views(tf.reduce_any(usable, axis=1)),
            "energy": of_views(energy),
            "usable": usable,
            "view_distance": distance,
            "pixel_distance": residual,
        }

    def _normals(self, vertices):
        return data_terms.vertex_normals(vertices, self._faces, self._around)

    def _centres(self, vertices, rig):
        """Middle of what each camera sees of a hand: where the network's crops are centred.

        `vertices` [B, V, 3] mm, rig frame. Returns [B, C, 3] mm, camera frames.
        """
        in_cameras = multi_view.moved(vertices[:, tf.newaxis], rig)
        seen = data_terms.facing(flat_views(in_cameras), self._normals(flat_views(in_cameras)))
        seen = tf.reshape(tf.cast(seen, tf.float32), tf.shape(in_cameras)[:3])[..., tf.newaxis]
        count = tf.maximum(tf.reduce_sum(seen, axis=2), 1.0)
        return tf.reduce_sum(seen * in_cameras, axis=2) / count

    def _of_hand(self, points, counted, transforms):
        """`counted` without the pixels of the forearm: [B, C, K], points in the rig's frame."""
        margin = self._config.energy.wrist_margin
        if not math.isfinite(margin):
            return counted
        shape = tf.shape(counted)
        every = tf.reshape(points, [shape[0], -1, 3])
        before = data_terms.before_wrist(every, transforms[:, 0], *self._wrist, margin)
        return counted & tf.reshape(before, shape)

    def _residuals(self, vertices, points, counted, cameras):
        """Distance of each view's pixels from the hand, [B, C] mm; all in the rig's frame."""
        normals = self._normals(vertices)
        found = [
            fusion.pixel_distance(
                vertices, normals, points[:, view], counted[:, view], cameras[:, view]
            )
            for view in range(points.shape[1])
        ]
        return tf.stack(found, axis=1)


def _shifted(transforms, offset):
    """Transforms [B, P, 4, 4] moved by offset [B, 3]."""
    column = offset[:, tf.newaxis, :, tf.newaxis]  # [B, 1, 3, 1]
    return transforms + tf.pad(column, [[0, 0], [0, 0], [0, 1], [3, 0]])


def _from_middle(transforms, middle):
    """Transforms [B, C, 4, 4] of points that are given relative to `middle` [B, 3]."""
    place = multi_view.moved(middle[:, tf.newaxis, tf.newaxis], transforms)  # [B, C, 1, 3]
    upper = tf.concat([transforms[..., :3, :3], tf.linalg.matrix_transpose(place)], axis=-1)
    return tf.concat([upper, transforms[..., 3:, :]], axis=-2)


def _sights(views):
    """The `Sight` of [B, C, ...] that `_estimated` put among its results."""
    return multi_view.Sight(views["sight_surface"], views["sight_intrinsics"])


def _moved_transforms(transforms, camera_from_rig):
    """[B, C, P, 4, 4] camera_from_template of rig_from_template [B, P, 4, 4].

    Written as sums, which a GPU does not round to TF32.
    """
    shape = tf.shape(camera_from_rig)
    columns = tf.transpose(transforms, [0, 2, 1, 3])  # [B, 4, P, 4]
    columns = tf.reshape(columns, [shape[0], 1, 1, 4, -1])
    moved = tf.reduce_sum(camera_from_rig[..., tf.newaxis] * columns, axis=3)  # [B, C, 4, P * 4]
    moved = tf.reshape(moved, [shape[0], shape[1], 4, -1, 4])
    return tf.transpose(moved, [0, 1, 3, 2, 4])


def _windows(step) -> list[np.ndarray]:
    """Each view's window, [h, w] float32 mm."""
    unit = step["depth_unit"]
    return [view_schema.decode_window(png).numpy() * unit for png in step["depth"]]


def _cropper(size):
    """A function that cuts a crop of side `size` out of one view's window, see `crop_window`."""
    kinds = [(None, None), (2,), (4,), (3,), ()]
    signature = [tf.TensorSpec(shape) for shape in kinds]

    @tf.function(input_signature=signature)
    def crop(window, left_top, intrinsics, centre, cube):
        still = Motion(tf.constant(0.0), tf.constant(1.0), tf.zeros([3]))
        return crop_window(window, left_top, intrinsics, centre, cube, still, size)

    return crop


def _crops(crop, windows, steps, centre):
    """Crops around centres [B, C, 3]: depth [B, C, S, S] mm and their intrinsics [B, C, 4]."""
    found = []
    for step, views, centres in zip(steps, windows, centre, strict=True):
        for view, window in enumerate(views):
            found.append(
                crop(
                    window,
                    step["window"][view, :2].astype(np.float32),
                    step["intrinsics"][view],
                    centres[view].astype(np.float32),
                    step["cube"],
                )
            )
    depth, intrinsics = (
        np.stack([values.numpy() for values in part]) for part in zip(*found, strict=True)
    )
    shape = centre.shape[:2]
    return depth.reshape(*shape, *depth.shape[1:]), intrinsics.reshape(*shape, 4)


def _can_move(centre, valid):
    """[B, C] bool: views that may be cropped anew around `centre` [B, C, 3]."""
    depth = centre[..., 2]
    return valid & np.isfinite(centre).all(axis=-1) & (depth > _NEAREST_MM) & (depth < _FARTHEST_MM)
