"""Refines a fused hand by minimising the energy of Eq. 5 over its own pose, without the network.

The hand is one for all views, so the terms take the forms that they have for it:

- ICP (Eq. 7): the pixels of every view against the mesh; what is own and what is other (Eq. 14) is
  one sum, with the weights of both.
- Lifting (Eq. 8): J_o is no longer the network's but the mesh itself, so a pixel's correspondence
  is the vertex nearest to it in mesh coordinates I_m. I_m stays as estimated.
- Vertex (Eq. 14): the mesh against each view's estimate P_r.
- arap (Eq. 11): the mesh against the fused P_s; collision and offset (Eq. 10, 13) as they are.
- Free space (`losses.free_space`, where it has a weight): the mesh in every view.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dgn_tf.geometry import kinematics
from dgn_tf.losses import data_terms, energy, multi_view
from dgn_tf.losses.energy import EnergyConfig
from dgn_tf.losses.multi_view import flat_views

# Adam's step: radians of a joint, and of lengths the same share of a finger bone, mm.
_RATE, _BONE_MM = 0.01, 30.0
_BETA1, _BETA2 = 0.9, 0.99
_HELD = 5  # steps for which what lies nearest is held


class Observed(NamedTuple):
    """What C views saw of a hand, in one frame (the rig's, moved near the hand), mm.

    points: [B, C, K, 3] their pixels.
    counted: [B, C, K] bool: those that count.
    vertex: [B, C, K] int32: each pixel's correspondence, see `data_terms.corresponding_vertex`.
    cameras: [B, C, 3] where the cameras stand.
    estimates: [B, C, V, 3] P_r of the views.
    fused: [B, V, 3] their fused P_s.
    weights: [B, C] of the views, >= 0.
    votes: [B, C, V] bool: which vertices of `estimates` count.
    sights: `Sight` of [B, C, S, S] and [B, C, 4]; None without the free-space term.
    camera_from_seen: [B, C, 4, 4] to the frames of `sights`; None likewise.
    """

    points: tf.Tensor
    counted: tf.Tensor
    vertex: tf.Tensor
    cameras: tf.Tensor
    estimates: tf.Tensor
    fused: tf.Tensor
    weights: tf.Tensor
    votes: tf.Tensor
    sights: multi_view.Sight | None = None
    camera_from_seen: tf.Tensor | None = None


class HandEnergy:
    """Eq. 5 of a hand that all views share.

    Args:
        template: HandTemplate.
        config: weights and lengths.
    """

    def __init__(self, template, config: EnergyConfig):
        self.template, self.config = template, config
        self._vertices = kinematics.skinning_basis(template.vertices, template.skinning_weights)
        self._keypoints = kinematics.skinning_basis(template.keypoints, template.keypoint_weights)
        self._faces = np.asarray(template.faces)
        self._around = data_terms.faces_of_vertices(self._faces, len(template.vertices))

    def vertices(self, transforms):
        """P_r [B, V, 3] mm of transforms [B, P, 4, 4]."""
        return kinematics.skin_by_basis(transforms, self._vertices)

    def nearest(self, vertices, seen: Observed) -> dict[str, tf.Tensor]:
        """What is held while the hand moves, of P_r = `vertices` [B, V, 3] mm.

        Returns:
            vertex: [B * C, K] int32: the nearest vertex that faces the camera, for each pixel
                (Eq. 7). With the free-space term also free: [B * C, V] bool: vertices where the
                view looks past the hand; and pixel: [B * C, V, 3] mm, the view's nearest to each.
        """
        points, counted = flat_views(seen.points), flat_views(seen.counted)
        normals = data_terms.vertex_normals(vertices, self._faces, self._around)
        vertices, normals = _of_each_view(vertices, seen), _of_each_view(normals, seen)
        allowed = data_terms.facing(vertices, normals, flat_views(seen.cameras))
        nearest = {"vertex": data_terms.nearest_vertex(points, vertices, allowed)}
        if self.config.free_space and seen.sights is not None:
            there = multi_view.moved(vertices, flat_views(seen.camera_from_seen))
            sight = multi_view.Sight(*(flat_views(values) for values in seen.sights))
            past = multi_view.in_free_space(there, sight, self.config.free_space_margin)
            nearest["free"] = past & tf.reduce_any(counted, axis=1, keepdims=True)
            nearest["pixel"] = multi_view.nearest_measured(vertices, points, counted)
        return nearest

    def terms(self, transforms, nearest, seen: Observed) -> dict[str, tf.Tensor]:
        """The terms, unweighted: name -> [B]; gradients reach `transforms`.

        Args:
            transforms: [B, P, 4, 4] of the hand, in the frame of `seen`.
            nearest: of the method `nearest`, held.
        """
        config, template = self.config, self.template
        vertices = self.vertices(transforms)
        of_each = _of_each_view(vertices, seen)
        share = seen.weights / tf.maximum(tf.reduce_sum(seen.weights, axis=1, keepdims=True), 1e-6)

        def of_views(term):
            term = tf.reshape(term, tf.shape(share))
            return tf.reduce_sum(tf.where(share > 0, share * term, 0.0), axis=1)

        def matched(index):
            corresponding = tf.gather(of_each, index, axis=1, batch_dims=1)
            points, counted = flat_views(seen.points), flat_views(seen.counted)
            return of_views(data_terms.lifting_loss(points, corresponding, counted, config.delta))

        apart = tf.reduce_sum((vertices[:, tf.newaxis] - seen.estimates) ** 2, axis=-1)
        apart = tf.where(seen.votes, data_terms.smooth_l1(apart, config.delta), 0.0)
        terms = {
            "icp": matched(nearest["vertex"]),
            "lifting": matched(flat_views(seen.vertex)),
            "collision": energy.collision_loss(
                kinematics.skin_by_basis(transforms, self._keypoints), config.collision_distance
            ),
            "arap": energy.arap_loss(vertices, seen.fused),
            "offset": energy.offset_loss(transforms, template.bone_from_template, template.parents),
            "vertex": of_views(tf.reduce_mean(apart, axis=-1)),
        }
        if config.free_space:
            terms["free_space"] = of_views(
                multi_view.pull(of_each, nearest["free"], nearest["pixel"], config.delta)
            )
        return terms

    def total(self, terms, several) -> tf.Tensor:
        """Eq. 5: [B] of terms [B]; `several` [B] bool says where other views add their terms."""
        weights, other = self.config.weights(), tf.cast(several, tf.float32)
        factors = {name: weights[name] for name in ("collision", "arap", "offset")}
        factors["icp"] = weights["icp"] + weights["other_icp"] * other
        factors["lifting"] = weights["lifting"] + weights["other_lifting"] * other
        factors["vertex"] = weights["vertex"] * other
        factors["free_space"] = weights["free_space"] + weights["other_free_space"] * other
        return tf.add_n([factors[name] * term for name, term in terms.items()])


def _of_each_view(values, seen):
    """[B * C, ...] of what is one hand's [B, ...]."""
    return tf.repeat(values, seen.points.shape[1], axis=0)


class Refinement:
    """Minimises `HandEnergy` from a given pose, by Adam over the joints' turns and places.

    Each part may turn about its joint and slip off it (the offset term pulls it back); the hand
    as a whole may also grow. The parts' relative sizes stay as they were fused.

    Args:
        template: HandTemplate.
        config: weights and lengths of the energy.
        steps: of Adam, >= 1.
    """

    def __init__(self, template, config: EnergyConfig, steps: int):
        if steps < 1:
            raise ValueError(f"Refinement wants steps >= 1, got {steps}.")
        self.energy = HandEnergy(template, config)
        self._bones, self._parents = template.bone_from_template, template.parents
        self._steps = steps

    def __call__(self, transforms, seen: Observed):
        """Refines the hands of a batch.

        Args:
            transforms: [B, P, 4, 4] where to begin, in the frame of `seen`, mm.
            seen: what the views saw.

        Returns:
            transforms [B, P, 4, 4]; the energy [B] where it began and [B] where it ended, never
            above it: a frame whose energy did not fall is given back as it came.
        """
        local = kinematics.local_from_global(transforms, self._bones, self._parents)
        # [B, P, 7]: turn in radians, slip in bones, and (the root's alone) logarithm of the scale.
        free = np.ones([local.shape[1], 7], np.float32)
        free[1:, 6] = 0
        change = tf.zeros([tf.shape(local)[0], *free.shape])
        first, second = tf.zeros_like(change), tf.zeros_like(change)
        several = tf.reduce_sum(tf.cast(seen.weights > 0, tf.int32), axis=1) > 1

        def energy_of(posed, nearest):
            return self.energy.total(self.energy.terms(posed, nearest, seen), several)

        nearest = self.energy.nearest(self.energy.vertices(transforms), seen)
        begun = best = energy_of(transforms, nearest)
        kept = tf.zeros_like(change)
        for step in tf.range(1, self._steps + 1):
            with tf.GradientTape() as tape:
                tape.watch(change)
                total = energy_of(self._posed(local, change), nearest)
            gradient = tape.gradient(total, change) * free
            first = _BETA1 * first + (1 - _BETA1) * gradient
            second = _BETA2 * second + (1 - _BETA2) * gradient**2
            number = tf.cast(step, tf.float32)
            mean, spread = first / (1 - _BETA1**number), second / (1 - _BETA2**number)
            change -= _RATE * mean / (tf.sqrt(spread) + 1e-8)
            if step % _HELD == 0 or step == self._steps:
                # With its own nearest vertices, a pose's energy is that of Eq. 5 and compares.
                posed = self._posed(local, change)
                nearest = self.energy.nearest(self.energy.vertices(posed), seen)
                now = energy_of(posed, nearest)
                fell = now < best  # false for NaN
                kept = tf.where(fell[:, tf.newaxis, tf.newaxis], change, kept)
                best = tf.where(fell, now, best)
        refined = self._posed(local, kept)
        fell = (best < begun)[:, tf.newaxis, tf.newaxis, tf.newaxis]
        return tf.where(fell, refined, transforms), begun, best

    def _posed(self, local, change):
        turn = kinematics.rotation_from_angles(change[..., :3])
        turn *= tf.exp(change[..., 6:])[..., tf.newaxis]
        slip = change[..., 3:6, tf.newaxis] * _BONE_MM
        moved = local @ kinematics.affine(turn, slip)
        return kinematics.global_from_local(moved, self._bones, self._parents)
