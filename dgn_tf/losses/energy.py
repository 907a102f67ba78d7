"""The self-supervised energy (Eq. 5 to 14) of single views or synchronised ones, without labels."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from dgn_tf.config import EnergyWeights
from dgn_tf.geometry import kinematics
from dgn_tf.losses import data_terms, multi_view
from dgn_tf.losses.multi_view import flat_views
from dgn_tf.losses.supervised import weighted_sum

# Terms against the rig's other views, beside those of a view alone.
MULTI_VIEW = ("vertex", "other_icp", "other_lifting", "other_free_space")
_ABOVE_ZERO = (
    "delta",
    "collision_distance",
    "free_space_margin",
    "pixels",
    "min_pixels",
    "wrist_margin",
)


@dataclasses.dataclass(frozen=True)
class EnergyConfig(EnergyWeights):
    """The weights of `config.EnergyWeights` and what has no flag; lengths in mm.

    Attributes:
        icp: factor of the ICP term, to which the paper gives no letter.
        delta: where smooth L1 goes from the square to the line, mm.
        collision_distance: t of Eq. 10, mm.
        free_space_margin: mm that a vertex may lie before the measured surface. With a weight
            `free_space` above 0, vertices that a camera sees past have no vote in the vertex term.
        pixels: at most so many of a crop's pixels are matched, see `thin_pixels`.
        min_pixels: a view with fewer measured pixels has no hand to fit: it counts for nothing,
            and its mesh for no median.
        wrist_margin: pixels farther than this beyond the estimated wrist are the forearm's, mm;
            infinity: all pixels of the crop are the hand's.

    Raises:
        ValueError: a weight is negative or not finite, a length or count not positive.
    """

    icp: float = 1.0
    delta: float = 5.0
    collision_distance: float = 5.0
    free_space_margin: float = 10.0
    pixels: int = 256
    min_pixels: int = 50
    wrist_margin: float = 10.0

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if name in _ABOVE_ZERO:
                if not value > 0:
                    raise ValueError(f"EnergyConfig wants {name} above 0, got {value}.")
            elif not (math.isfinite(value) and value >= 0):
                raise ValueError(f"EnergyConfig wants {name} finite and >= 0, got {value}.")

    def weights(self) -> dict[str, float]:
        """Each term's factor in Eq. 5, the nested ones multiplied out."""
        return {
            "icp": self.icp,
            "lifting": self.omega,
            "part_icp": self.part_icp,
            "free_space": self.free_space,
            "collision": self.lambda1 * self.collision,
            "arap": self.lambda1 * self.kappa1,
            "offset": self.lambda1 * self.kappa2,
            "vertex": self.lambda2 * self.vertex,
            "other_icp": self.lambda2 * self.eta1,
            "other_lifting": self.lambda2 * self.eta2,
            "other_free_space": self.lambda2 * self.free_space,
        }


class Energy:
    """The terms of Eq. 5 for estimates of `DualGridNet`; terms of weight 0 are not computed.

    Args:
        template: `HandTemplate` of the estimates.
        config: weights and lengths.
    """

    def __init__(self, template, config: EnergyConfig):
        self.config = config
        self._faces = np.asarray(template.faces)
        self._around = data_terms.faces_of_vertices(self._faces, len(template.vertices))
        self._template = template
        self._parts = np.argmax(template.skinning_weights, axis=1).astype(np.int32)
        self._bones, self._parents = template.bone_from_template, template.parents
        self._wrist, self._axis = wrist_of(template)

    def view_terms(self, outputs, batch, sampling, seed=None) -> dict[str, tf.Tensor]:
        """Terms of single views: Eq. 5 without its last.

        Args:
            outputs: of `DualGridNet` on `batch`.
            batch: depth [N, S, S] mm, intrinsics [N, 4] of the crop, centre [N, 3] mm.
            sampling: the network's `Sampling` layer.
            seed: [2] integers of the stateless draw of pixels; None: always the same ones.

        Returns:
            name -> [N], unweighted, and `usable` [N] bool: the views that have a hand to fit. All
            terms of the others are 0, and so is what they add to a gradient.
        """
        usable = self._enough(outputs)
        prepared = self._prepare(outputs, batch, seed)
        return self._own_terms(outputs, sampling, prepared, usable)

    def step_terms(self, outputs, batch, sampling, seed=None) -> dict[str, tf.Tensor]:
        """Terms of time steps with C synchronised views: all of Eq. 5.

        Args:
            outputs: of `DualGridNet` on the B * C views of `batch`, time step by time step.
            batch: of `dgn_tf.records.views.step_dataset`: depth [B, C, S, S], intrinsics [B, C, 4],
                centre [B, C, 3], view_valid [B, C], camera_from_rig [B, C, 4, 4] mm and rig_known
                [B]. C is known statically.
            sampling, seed: as in `view_terms`.

        Returns:
            As `view_terms`, [B * C]. Terms against other views are 0 where the rig is not known
            or no other view is usable.
        """
        rig = batch["camera_from_rig"]
        cameras = rig.shape[1]
        flat = {name: flat_views(batch[name]) for name in ("depth", "intrinsics", "centre")}
        usable = self._enough(outputs) & (tf.reshape(batch["view_valid"], [-1]) > 0)
        prepared = self._prepare(outputs, flat, seed)
        terms = self._own_terms(outputs, sampling, prepared, usable)
        weights = self.config.weights()
        wanted = [name for name in MULTI_VIEW if weights[name]]
        if cameras == 1 or not wanted:
            return terms
        valid = tf.reshape(usable, [-1, cameras]) & (batch["rig_known"][:, tf.newaxis] > 0)
        vertices = tf.reshape(outputs["vertices"], [-1, cameras, *outputs["vertices"].shape[1:]])
        if "vertex" in wanted:
            votes = self._votes(vertices, prepared, rig, valid) if weights["free_space"] else None
            term = multi_view.vertex_loss(vertices, rig, valid, self.config.delta, votes)
            terms["vertex"] = tf.reshape(term, [-1])
        pairs = [
            self._against_other(outputs, sampling, prepared, rig, shift, wanted)
            for shift in range(1, cameras)
        ]
        for name in pairs[0]:
            term = multi_view.mean_over_others([pair[name] for pair in pairs], valid)
            terms[name] = tf.reshape(term, [-1])
        return terms

    def total(self, terms) -> tf.Tensor:
        """The weighted sum of `view_terms` or `step_terms`, [N]."""
        return weighted_sum(terms, self.config.weights())

    def _enough(self, outputs):
        measured = tf.reduce_sum(tf.cast(outputs["valid"], tf.int32), axis=[1, 2])
        return measured >= self.config.min_pixels

    def _prepare(self, outputs, batch, seed):
        """The pixels to match, and what to match them with.

        Returns:
            points [N, K, 3] mm, their I_m coords [N, K, 2] and layer [N, K] (None for templates
            of one layer), counted [N, K] bool, centre [N, 3], and the mesh's normals [N, V, 3].
        """
        margin, root = self.config.wrist_margin, outputs["transforms"][:, 0]

        def before_wrist(points):
            return data_terms.before_wrist(points, root, self._wrist, self._axis, margin)

        pixels = data_terms.hand_pixels(
            outputs,
            batch["depth"],
            batch["intrinsics"],
            self.config.pixels,
            before_wrist if math.isfinite(margin) else None,
            seed,
        )
        return {
            **pixels._asdict(),
            "centre": batch["centre"],
            "normals": data_terms.vertex_normals(outputs["vertices"], self._faces, self._around),
            "sight": multi_view.sight(
                batch["depth"], outputs["valid"], batch["centre"], batch["intrinsics"]
            ),
        }

    def _own_terms(self, outputs, sampling, prepared, usable):
        config, weights = self.config, self.config.weights()
        vertices = outputs["vertices"]
        points, counted = prepared["points"], prepared["counted"]
        terms = {}
        if weights["icp"] or weights["part_icp"]:
            allowed = data_terms.facing(vertices, prepared["normals"])
        if weights["part_icp"]:
            on = data_terms.corresponding_vertex(
                prepared["coords"], prepared["layer"], self._template
            )
            terms["part_icp"] = data_terms.part_icp_loss(
                points,
                tf.gather(self._parts, on),
                vertices,
                self._parts,
                allowed,
                counted,
                config.delta,
            )
        if weights["icp"]:
            terms["icp"] = data_terms.icp_loss(points, vertices, allowed, counted, config.delta)
        if weights["lifting"]:
            lifted = sampling.sample_at(
                outputs["coordinate_map"], prepared["coords"], prepared["layer"]
            )
            lifted += prepared["centre"][:, tf.newaxis]
            terms["lifting"] = data_terms.lifting_loss(points, lifted, counted, config.delta)
        if weights["free_space"]:
            free = multi_view.in_free_space(vertices, prepared["sight"], config.free_space_margin)
            terms["free_space"] = multi_view.free_space_loss(
                vertices, free, points, counted, config.delta
            )
        if weights["collision"]:
            terms["collision"] = collision_loss(outputs["keypoints"], config.collision_distance)
        if weights["arap"]:
            terms["arap"] = arap_loss(vertices, outputs["vertices_sampled"])
        if weights["offset"]:
            terms["offset"] = offset_loss(outputs["transforms"], self._bones, self._parents)
        # Chosen, not multiplied, and before any mean: a view without a hand may give anything.
        kept = {name: tf.where(usable, term, tf.zeros_like(term)) for name, term in terms.items()}
        return {**kept, "usable": usable}

    def _votes(self, vertices, prepared, rig, valid):
        """[B, C, V] bool: vertices [B, C, V, 3] that no valid camera proves not to be there.

        Two views that take a finger for another would outvote the third, which sees it.
        """
        votes = tf.ones(tf.shape(vertices)[:3], tf.bool)
        for shift in range(rig.shape[1]):
            free = self._free(flat_views(vertices), prepared, rig, shift)
            witness = multi_view.other_view(valid, shift)[..., tf.newaxis]
            votes &= ~(tf.reshape(free, tf.shape(votes)) & witness)
        return votes

    def _free(self, vertices, prepared, rig, shift):
        """[B * C, V] bool: which vertices of view c lie in free space of view (c + shift) mod C."""
        other_from_source = multi_view.rigid_inverse(multi_view.source_from_other(rig, shift))
        there = multi_view.moved(vertices, flat_views(other_from_source))
        sight = (
            flat_views(
                multi_view.other_view(
                    tf.reshape(values, [-1, rig.shape[1], *values.shape[1:]]), shift
                )
            )
            for values in prepared["sight"]
        )
        return multi_view.in_free_space(
            there, multi_view.Sight(*sight), self.config.free_space_margin
        )

    def _against_other(self, outputs, sampling, prepared, rig, shift, wanted):
        """Each view's mesh against the pixels of view (c + shift) mod C: name -> [B, C].

        The pixels are brought to the mesh's camera instead of the mesh to theirs, which is the
        same distance and spares its normals a second turn.
        """
        cameras = rig.shape[1]

        def of_other(values):
            by_step = tf.reshape(values, [-1, cameras, *values.shape[1:]])
            return flat_views(multi_view.other_view(by_step, shift))

        source_from_other = flat_views(multi_view.source_from_other(rig, shift))
        points = multi_view.moved(of_other(prepared["points"]), source_from_other)
        counted = of_other(prepared["counted"])
        terms = {}
        if "other_icp" in wanted:
            vertices = outputs["vertices"]
            place = source_from_other[:, :3, 3]  # of the other camera
            allowed = data_terms.facing(vertices, prepared["normals"], place)
            terms["other_icp"] = data_terms.icp_loss(
                points, vertices, allowed, counted, self.config.delta
            )
        if "other_lifting" in wanted:
            layer = prepared["layer"]
            lifted = sampling.sample_at(
                outputs["coordinate_map"],
                of_other(prepared["coords"]),
                None if layer is None else of_other(layer),
            )
            lifted += prepared["centre"][:, tf.newaxis]
            terms["other_lifting"] = data_terms.lifting_loss(
                points, lifted, counted, self.config.delta
            )
        if "other_free_space" in wanted:
            vertices = outputs["vertices"]
            free = self._free(vertices, prepared, rig, shift)
            terms["other_free_space"] = multi_view.free_space_loss(
                vertices, free, points, counted, self.config.delta
            )
        return {name: tf.reshape(term, [-1, cameras]) for name, term in terms.items()}


def mean_terms(terms) -> dict[str, tf.Tensor]:
    """Means of the terms over the usable views, name -> []; 0 where there is none."""
    usable = tf.cast(terms["usable"], tf.float32)
    count = tf.maximum(tf.reduce_sum(usable), 1.0)
    return {name: tf.reduce_sum(term) / count for name, term in terms.items() if name != "usable"}


def wrist_of(template) -> tuple[np.ndarray, np.ndarray]:
    """Middle of the wrist [3] and the unit axis [3] from there to the joints next to the root, mm.

    Both in the template's frame, for `data_terms.before_wrist`.
    """
    parents = np.asarray(template.parents)
    joints = np.linalg.inv(np.asarray(template.bone_from_template, np.float64))[:, :3, 3]
    hanging = (parents == 0) & (np.arange(len(parents)) > 0)
    wrist = np.asarray(template.vertices, np.float64)[template.wrist_loop].mean(axis=0)
    axis = joints[hanging].mean(axis=0) - wrist
    return wrist.astype(np.float32), (axis / np.linalg.norm(axis)).astype(np.float32)


# Kinematic priors (Sec. 4.2): what no hand does; one value per example, unweighted.


def collision_loss(joints_mm, threshold=5.0):
    """Collision term, Eq. 10: no two joints come nearer than `threshold`.

    Args:
        joints_mm: [B, J, 3].
        threshold: t, mm.

    Returns:
        [B] mm, sum over the pairs i < j of what they lack of the threshold. The gradient of two
        joints in the very same place is 0: nothing says which way they are to part.
    """
    first, second = np.triu_indices(joints_mm.shape[1], 1)
    between = tf.gather(joints_mm, first, axis=1) - tf.gather(joints_mm, second, axis=1)
    # The offset keeps the gradient of sqrt finite at 0.
    distance = tf.sqrt(tf.reduce_sum(between**2, axis=-1) + 1e-12)
    return tf.reduce_sum(tf.maximum(threshold - distance, 0), axis=1)


def arap_loss(vertices, vertices_sampled):
    """As rigid as possible, Eq. 11: P_s against P_r, whose parts are rigid.

    `vertices` P_r and `vertices_sampled` P_s, [B, V, 3] mm. Returns [B] mm^2, the mean over the
    vertices (the paper sums them up); gradients reach both.
    """
    return tf.reduce_mean(tf.reduce_sum((vertices - vertices_sampled) ** 2, axis=-1), axis=1)


def offset_loss(transforms, bone_from_template, parents):
    """Offset term, Eq. 12 and 13: bones turn about their joints and don't leave them.

    Args:
        transforms: [B, P, 4, 4] T, camera_from_template, similarities, mm.
        bone_from_template: [P, 4, 4] constant B, mm.
        parents: [P] constant; the root is its own parent and comes first.

    Returns:
        [B] mm^2 of the rest template: sum over all parts but the root, which the wrist lets go
        anywhere, of the squared translation of L.
    """
    local = kinematics.local_from_global(transforms, bone_from_template, parents)
    return tf.reduce_sum(local[:, 1:, :3, 3] ** 2, axis=[1, 2])
