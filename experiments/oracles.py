"""Where a network's error comes from: the truth put in place of one stage after another."""

import functools
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from dgn_tf.geometry import mesh_grid, upright
from dgn_tf.geometry.kinematics import skinning_basis
from experiments.visibility import BEHIND, HIDDEN, SEEN, visibility

# Each in the order in which the network computes it; see `Oracles`.
OF_IMAGE = ("direction", "correspondence", "segmentation", "sensor")
OF_MAP = ("hidden", "behind", "mesh_network", "extension")
OF_MESH = ("embedding", "similarity", "skinning")
STEPS = (*OF_IMAGE, *OF_MAP, *OF_MESH)
MEASURES = ("keypoints14_mm", "keypoints36_mm", "vertices_ps_mm", "vertices_pr_mm")
KINDS = {"hidden": HIDDEN, "behind": BEHIND, "seen": SEEN}
_RIDGE = 1e-9  # relative to the largest squared singular value, as `build_template`'s floors have


class Oracles:
    """Runs a `DualGridNet` with true values in place of some of its own.

    What each step of `STEPS` puts in:
        direction: the palm's true direction, by which the crop is turned upright.
        correspondence: true mesh coordinates I_m at the hand's pixels off the embedding's seams.
        segmentation: the hand's pixels alone are extended to the mesh grid; forearm, occluder and
            background, as far as they are in the cube, are not.
        sensor: of each of the hand's pixels the true point of the surface is extended, not the
            measured one.
        hidden: vertices to whose cells no pixel leads (`visibility`) are read off the best
            coordinate map J_o that there is for the true vertices (least squares).
        behind: likewise those on the other side of what is seen.
        mesh_network: the others are read off the true points of the hand's pixels, extended by
            their true coordinates, each layer by itself: what a mesh network could pass on.
        extension: the others too are read off the best map. P_s is then the embedding's floor.
        embedding: what the best map loses of the true vertices is given back to P_s.
        similarity: what Eq. 3 loses on true vertices is given back to P_r and key points, as far
            as some affine transform of each part would get it by skinning.
        skinning: the rest of that, which is shape that no transforms of the template reach.
    With all of them nothing is left. The layer of a pixel (`mesh_layer`) is no step: nothing of
    what is measured depends on it. Networks without `upright` have no direction.

    The mesh network was trained on its own predecessors' errors, so a step among the first four
    shows what it makes of better inputs without being trained anew: a lower bound of their worth.
    """

    def __init__(self, network):
        self.network = network
        self.template = network.template
        self._floor = _FloorOfEmbedding(network)
        basis = skinning_basis(self.template.vertices, self.template.skinning_weights)  # [P*4, V]
        self._skinning = basis.astype(np.float64)
        self._keypoints = skinning_basis(
            self.template.keypoints, self.template.keypoint_weights
        ).astype(np.float64)
        self._unskin = _ridge_inverse(self._skinning)  # [V, P*4]
        self._lift = tf.function(self._lifted, reduce_retracing=True)
        self._refine = tf.function(network.refine, reduce_retracing=True)
        self._sample = {
            chosen: tf.function(
                functools.partial(self._sampled, chosen=chosen), reduce_retracing=True
            )
            for chosen in _subsets(OF_IMAGE)
        }

    def errors(self, batch: dict, sets: Iterable[frozenset]) -> dict[frozenset, dict]:
        """Errors of each frame under each of some sets of steps.

        Args:
            batch: crops with truth and targets, see `dgn_tf.records.reader`.
            sets: of names of `STEPS`.

        Returns:
            set -> name -> [B]: `MEASURES`, mm, means over a frame's points; and, for each of
            `KINDS`, `<name>_share` of the vertices and `<name>_ps_mm`, what these add to the mean
            error of P_s.
        """
        truth = _Truth(self, batch, self._lift(batch).numpy())
        sampled: dict[frozenset, np.ndarray] = {}
        result = {}
        for chosen in sets:
            unknown = set(chosen) - set(STEPS)
            if unknown:
                raise ValueError(f"steps are {', '.join(STEPS)}, not {', '.join(sorted(unknown))}.")
            before = chosen & frozenset(OF_IMAGE)
            if chosen >= {"hidden", "behind", "extension"}:  # nothing of P_s is left
                before = frozenset()
            if before not in sampled:
                sampled[before] = self._sample[before](batch).numpy().astype(np.float64)
            result[chosen] = truth.errors(sampled[before], chosen)
        return result

    def refit(self, sampled) -> tuple[np.ndarray, np.ndarray]:
        """P_r [B, V, 3] and key points [B, J, 3] of P_s [B, V, 3], mm: Eq. 3 and skinning."""
        outputs = self._refine(tf.constant(sampled, tf.float32))
        return outputs["vertices"].numpy(), outputs["keypoints"].numpy()

    def _sampled(self, batch, chosen):
        """P_s [B, V, 3] mm, camera frame, with the steps of `OF_IMAGE` that are chosen."""
        network = self.network
        _, seen, view_from_camera = network.pixel_inputs(batch)
        view = None
        if view_from_camera is not None and "direction" in chosen:
            axis = upright.rotate(batch["palm_axis"], view_from_camera)
            seen, view = network.canonical_view(seen, axis[:, :2], view_from_camera)
        else:
            seen, view = network.canonicalise(seen, view_from_camera, training=False)
        coords, features = network.image_network(seen, training=False)
        coords = coords[..., :2]
        true = self._true_pixels(batch, view)
        if "correspondence" in chosen:
            coords = tf.where(true["counted"], true["coords"], coords)
        if "sensor" in chosen:
            points = tf.where(true["hand"], true["points"], seen[..., :3])
            seen = tf.concat([points, seen[..., 3:]], axis=-1)
        if "segmentation" in chosen:
            mask = seen[..., 3:4] * tf.cast(true["hand"], tf.float32)
            seen = tf.concat([seen[..., :3], mask, seen[..., 4:]], axis=-1)
        extended = network.extend(coords, features, seen)
        sampled = network.sampling(network.mesh_network(extended, training=False))
        if view is not None:
            sampled = upright.rotate(sampled, view.camera_from_view)
        return sampled * _half_cube(batch) + batch["centre"][:, tf.newaxis]

    def _lifted(self, batch):
        """The true points of the pixels, extended and read at the vertices: [B, V, 3] mm."""
        config, grid = self.network.config, self.template.grid_size
        size = batch["depth"].shape[1]
        pixels = self._true_pixels(batch, None)
        flat = {
            name: tf.reshape(value, [-1, size * size, value.shape[-1]])
            for name, value in pixels.items()
        }
        layer = tf.reshape(batch["mesh_layer"], [-1, size * size])
        maps, weights = [], []
        for number in range(self.template.num_layers):
            mask = flat["counted"][..., 0] & (layer == number)
            sums, total = mesh_grid.extend(
                flat["coords"], flat["points"], mask, grid, config.kernel, config.sigma
            )
            total = total[..., tf.newaxis]
            maps.append(sums / (total + 1e-3))  # as `Extension` normalises
            weights.append(tf.repeat(total / (total + 1e-3), 3, axis=-1))
        # Cells that no pixel reaches have no say.
        weight = tf.maximum(self.network.sampling(tf.concat(weights, axis=-1)), 1e-6)
        lifted = self.network.sampling(tf.concat(maps, axis=-1)) / weight
        return lifted * _half_cube(batch) + batch["centre"][:, tf.newaxis]

    def _true_pixels(self, batch, view):
        """Truth of the pixels as the image network sees them, [B, S, S, ...]."""
        corners = tf.gather(
            tf.constant(self.template.faces), tf.maximum(tf.cast(batch["face"], tf.int32), 0)
        )  # [B, S, S, 3]
        points = tf.gather(batch["vertices"], corners, axis=1, batch_dims=1)  # [B, S, S, 3, 3]
        weights = batch["barycentric"]
        weights = tf.concat([1 - tf.reduce_sum(weights, -1, keepdims=True), weights], axis=-1)
        points = tf.reduce_sum(points * weights[..., tf.newaxis], axis=-2)
        centre = batch["centre"][:, tf.newaxis, tf.newaxis]
        points = (points - centre) / _half_cube(batch)[:, tf.newaxis]
        hand = (batch["face"] >= 0) & (batch["depth"] > 0)
        pixels = tf.concat(
            [
                points,
                batch["mesh_coords"],
                tf.cast(batch["correspondence_mask"], tf.float32)[..., tf.newaxis],
                tf.cast(hand, tf.float32)[..., tf.newaxis],
            ],
            axis=-1,
        )
        if view is not None:
            size = pixels.shape[1]
            turned_from_crop = tf.linalg.matrix_transpose(view.crop_from_turned)
            index, inside = upright.turned_lookup(turned_from_crop, size)
            pixels = upright.look_up(pixels, index)
            inside = tf.cast(tf.reshape(inside, [-1, size, size, 1]), tf.float32)
            points = upright.rotate(
                pixels[..., :3], tf.linalg.matrix_transpose(view.camera_from_view)
            )
            pixels = tf.concat([points, pixels[..., 3:5], pixels[..., 5:] * inside], axis=-1)
        return {
            "points": pixels[..., :3],
            "coords": pixels[..., 3:5],
            "counted": pixels[..., 5:6] > 0.5,
            "hand": pixels[..., 6:7] > 0.5,
        }


class _Truth:
    """A batch's true values, and the errors of what is made with some of them."""

    def __init__(self, oracles: Oracles, batch, lifted):
        self._oracles = oracles
        self._lifted = lifted.astype(np.float64)
        self.vertices = np.asarray(batch["vertices"], np.float64)
        self.keypoints = np.asarray(batch["keypoints"], np.float64)
        template = oracles.template
        pixels = (np.asarray(batch[name]) for name in ("depth", "face", "barycentric"))
        self._shown = np.stack(
            [visibility(template, *frame) for frame in zip(*pixels, strict=True)]
        )
        centre = np.asarray(batch["centre"], np.float64)[:, np.newaxis]
        self._best = oracles._floor(self.vertices - centre) + centre
        self._residuals = self._of_refit()

    def _of_refit(self):
        """What Eq. 3 and skinning lose on true vertices: step -> of vertices, of key points."""
        vertices, keypoints = self._oracles.refit(self.vertices)
        lost, lost_keypoints = self.vertices - vertices, self.keypoints - keypoints
        # Affine transforms of all parts that skin to what was lost, or as near as they come.
        rows = np.swapaxes(lost, 1, 2) @ self._oracles._unskin  # [B, 3, P*4]
        reached = np.swapaxes(rows @ self._oracles._skinning, 1, 2)
        reached_keypoints = np.swapaxes(rows @ self._oracles._keypoints, 1, 2)
        return {
            "similarity": (reached, reached_keypoints),
            "skinning": (lost - reached, lost_keypoints - reached_keypoints),
        }

    def errors(self, sampled, chosen):
        """[B] mm by `MEASURES`; `sampled` is P_s as the network has it."""
        shown = self._shown[..., np.newaxis]
        if "mesh_network" in chosen:
            sampled = np.where(shown == SEEN, self._lifted, sampled)
        for name, kind in (("hidden", HIDDEN), ("behind", BEHIND), ("extension", SEEN)):
            if name in chosen:
                sampled = np.where(shown == kind, self._best, sampled)
        if "embedding" in chosen:
            sampled = sampled + (self.vertices - self._best)
        vertices, keypoints = self._oracles.refit(sampled)
        for name, (of_vertices, of_keypoints) in self._residuals.items():
            if name in chosen:
                vertices, keypoints = vertices + of_vertices, keypoints + of_keypoints
        away = np.linalg.norm(keypoints - self.keypoints, axis=-1)
        before = np.linalg.norm(sampled - self.vertices, axis=-1)
        parts = {}
        for name, kind in KINDS.items():
            here = self._shown == kind
            parts[f"{name}_share"] = here.mean(axis=1)
            parts[f"{name}_ps_mm"] = (before * here).mean(axis=1)
        return {
            **parts,
            "keypoints14_mm": away[:, self._oracles.template.evaluated].mean(axis=1),
            "keypoints36_mm": away.mean(axis=1),
            "vertices_ps_mm": before.mean(axis=1),
            "vertices_pr_mm": np.linalg.norm(vertices - self.vertices, axis=-1).mean(axis=1),
        }


class _FloorOfEmbedding:
    """Vertices [B, V, 3] to those read off the best coordinate map for them."""

    def __init__(self, network):
        grid, layers = network.template.grid_size, network.template.num_layers
        # Reading maps of a single 1 gives the sampling's matrix, whatever the embedding.
        maps = np.eye(grid * grid * layers, dtype=np.float32)
        maps = np.repeat(maps.reshape(-1, grid, grid, layers), 3, axis=-1)
        matrix = network.sampling(maps).numpy()[..., 0].T.astype(np.float64)  # [V, G*G*L]
        left, sizes, _ = np.linalg.svd(matrix, full_matrices=False)
        self._kept = left * (sizes**2 / (sizes**2 + _RIDGE * sizes[0] ** 2))
        self._left = left

    def __call__(self, points):
        return self._kept @ (self._left.T @ points)


def _ridge_inverse(matrix):
    """The inverse [n, m] of [m, n] that leaves out directions which carry next to nothing."""
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    return right.T * (sizes / (sizes**2 + _RIDGE * sizes[0] ** 2)) @ left.T


def _half_cube(batch):
    return tf.cast(batch["cube"], tf.float32)[:, tf.newaxis, tf.newaxis] / 2


def _subsets(names):
    for number in range(2 ** len(names)):
        yield frozenset(name for bit, name in enumerate(names) if number >> bit & 1)
