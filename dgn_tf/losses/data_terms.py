"""Data terms (Sec. 4.1): depth pixels against the mesh; one value per example, unweighted.

Both terms are sums over pixels in the paper and means here, as in `supervised`: a hand near the
camera then weighs no more than one far away. What the fits of `hand_fit` need of them has compiled
forms at the end, held to these by a test.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dgn_tf.compiled import kernel
from dgn_tf.geometry import camera
from dgn_tf.losses.supervised import masked_mean

# Added to the squared distance (mm^2) of a vertex that may not be matched: beyond any hand.
_FORBIDDEN = 1e7
_PARTS_APART_MM = 300.0  # farther than two vertices of one hand are from each other


def smooth_l1(square, delta):
    """The distance d of Eq. 7 and 8.

    Of the Euclidean distance r, not of each coordinate: the nearest vertex by r is then the
    nearest by d, and neither depends on how the camera is turned.

    Args:
        square: [...] r^2, mm^2.
        delta: mm, where the square goes over into the line.

    Returns:
        [...] mm: r^2 / (2 delta) up to delta, r - delta / 2 beyond. Its gradient is finite, and
        0 at r = 0.
    """
    far = square > delta**2
    # The root never sees 0, where its gradient is infinite.
    distance = tf.sqrt(tf.where(far, square, tf.ones_like(square) * delta**2))
    return tf.where(far, distance - delta / 2, square / (2 * delta))


def thin_pixels(mask, count, seed=None):
    """Picks up to `count` pixels of each mask, evenly spread over its rows.

    All pixels against all vertices are 7 million distances a crop; neighbouring pixels tell
    nearly the same. Every n-th pixel of the mask in reading order, from a drawn start, covers
    the hand more evenly than independent draws do, costs a cumulative sum, and still gives every
    pixel the same chance.

    Args:
        mask: [B, N] bool.
        count: K, at most.
        seed: [2] integers of a stateless draw of the start; None: the middle.

    Returns:
        index: [B, K] int32 into N.
        counted: [B, K] bool: False for those beyond the mask's own number of pixels. A mask with
            K pixels or fewer gives each of them once.
    """
    batch = tf.shape(mask)[0]
    reached = tf.cumsum(tf.cast(mask, tf.int32), axis=1)  # [B, N]
    total = reached[:, -1:]  # [B, 1]
    taken = tf.minimum(total, count)
    if seed is None:
        start = tf.fill([batch, 1], 0.5)
    else:
        start = tf.random.stateless_uniform([batch, 1], seed)
    place = tf.range(count)[tf.newaxis]  # [1, K]
    step = tf.cast(total, tf.float32) / tf.cast(tf.maximum(taken, 1), tf.float32)
    rank = tf.cast((tf.cast(place, tf.float32) + start) * step, tf.int32)  # from 0, among the mask
    # Rounding must neither skip a pixel of a small mask nor leave a large one.
    rank = tf.where(total <= count, tf.broadcast_to(place, tf.shape(rank)), rank)
    rank = tf.minimum(rank, tf.maximum(total - 1, 0))
    index = tf.searchsorted(reached, rank + 1)
    return tf.minimum(index, mask.shape[1] - 1), place < taken


class Pixels(NamedTuple):
    """Up to K measured pixels of N views.

    points: [N, K, 3] mm, camera frame; counted: [N, K] bool, see `thin_pixels`.
    coords: [N, K, 2] their I_m, cells; layer: [N, K] probability of layer 1, None for templates of
        one layer.
    """

    points: tf.Tensor
    counted: tf.Tensor
    coords: tf.Tensor
    layer: tf.Tensor | None


def hand_pixels(outputs, depth, intrinsics, count, allowed=None, seed=None) -> Pixels:
    """The pixels of crops that the data terms match.

    Args:
        outputs: of `DualGridNet`: valid and mesh_coords [N, S, S, ..] and, with two layers,
            mesh_layer.
        depth: [N, S, S] mm; intrinsics: [N, 4] of the crops.
        count, seed: of `thin_pixels`.
        allowed: of points [N, S * S, 3] mm, which may be taken [N, S * S]; None: all.
    """
    size, valid = depth.shape[-1], outputs["valid"]
    # A missing depth is replaced before it is used: 0 * inf would be NaN.
    depth = tf.where(valid, depth, tf.zeros_like(depth))
    points = tf.reshape(camera.unproject_depth_map(depth, intrinsics), [-1, size * size, 3])
    mask = tf.reshape(valid, [-1, size * size])
    if allowed is not None:
        mask &= allowed(points)
    index, counted = thin_pixels(mask, count, seed)

    def pick(values, *channels):
        values = tf.reshape(values, [-1, size * size, *channels])
        return tf.gather(values, index, axis=1, batch_dims=1)

    layer = outputs.get("mesh_layer")
    return Pixels(
        pick(points, 3),
        counted,
        pick(outputs["mesh_coords"], 2),
        None if layer is None else pick(layer),
    )


def before_wrist(points, root, wrist, axis, margin=0.0):
    """Which points lie on the hand's side of the estimated wrist.

    The mesh ends at the wrist and a crop's pixels don't: those of the forearm would drag the mesh
    along the arm.

    Args:
        points: [B, N, 3] mm, camera frame.
        root: [B, 4, 4] T of the root, camera_from_template.
        wrist: [3] constant, middle of the wrist, template frame, mm.
        axis: [3] constant unit axis from the wrist to the fingers, template frame.
        margin: mm of the template beyond the wrist that still count as hand.

    Returns:
        [B, N] bool; no gradient.
    """
    root = tf.stop_gradient(root)
    linear = root[:, :3, :3]
    place = tf.reduce_sum(linear * tf.cast(wrist, root.dtype), axis=-1) + root[:, :3, 3]
    axis = tf.reduce_sum(linear * tf.cast(axis, root.dtype), axis=-1)  # [B, 3], the scale long
    along = tf.reduce_sum((points - place[:, tf.newaxis]) * axis[:, tf.newaxis], axis=-1)
    square = tf.reduce_sum(axis**2, axis=-1)[:, tf.newaxis]
    return along > -margin * square


def faces_of_vertices(faces: np.ndarray, vertices: int) -> np.ndarray:
    """Constant for `vertex_normals`.

    Args:
        faces: [F, 3] of the mesh.
        vertices: V.

    Returns:
        [V, D] int32 numbers of the faces around each vertex, filled up with F.
    """
    faces = np.asarray(faces)
    around: list[list[int]] = [[] for _ in range(vertices)]
    for number, corners in enumerate(faces):
        for corner in corners:
            around[corner].append(number)
    widest = max(1, max(map(len, around)))
    filled = [numbers + [len(faces)] * (widest - len(numbers)) for numbers in around]
    return np.array(filled, np.int32)


def vertex_normals(vertices, faces, around):
    """Outward normals of a posed mesh, weighted by area.

    Args:
        vertices: [B, V, 3] mm.
        faces: [F, 3] constant, counter-clockwise seen from outside.
        around: [V, D] of `faces_of_vertices`.

    Returns:
        [B, V, 3], of any length, without a gradient; 0 for a vertex without a face.
    """
    vertices = tf.stop_gradient(vertices)
    corners = [tf.gather(vertices, faces[:, corner], axis=1) for corner in range(3)]
    normals = tf.linalg.cross(corners[1] - corners[0], corners[2] - corners[0])  # [B, F, 3]
    normals = tf.pad(normals, [[0, 0], [0, 1], [0, 0]])
    return tf.add_n(
        [tf.gather(normals, around[:, slot], axis=1) for slot in range(around.shape[1])]
    )


def facing(vertices, normals, camera=None):
    """Which vertices turn their outside to a camera; those may still be hidden by others.

    Args:
        vertices: [B, V, 3] mm.
        normals: [B, V, 3] outward.
        camera: [B, 3] its place in the frame of `vertices`; None: the origin.

    Returns:
        [B, V] bool.
    """
    vertices = tf.stop_gradient(vertices)
    if camera is not None:
        vertices -= camera[:, tf.newaxis]
    return tf.reduce_sum(vertices * normals, axis=-1) < 0


def nearest_vertex(points, vertices, allowed):
    """The vertex of Eq. 7 for each pixel.

    Args:
        points: [B, N, 3] mm, the pixels.
        vertices: [B, V, 3] mm, the same frame.
        allowed: [B, V] bool, the vertices facing the camera. Where none is allowed, all are.

    Returns:
        [B, N] int32; no gradient.
    """
    points, vertices = tf.stop_gradient(points), tf.stop_gradient(vertices)
    # The hand is far from the camera and small: squares about its middle keep their digits.
    middle = tf.reduce_mean(vertices, axis=1, keepdims=True)
    points, vertices = points - middle, vertices - middle
    forbidden = tf.cast(~allowed, vertices.dtype) * _FORBIDDEN
    square = tf.reduce_sum(vertices**2, axis=-1) + forbidden
    # |v|^2 - 2 p v is |p - v|^2 but for a constant of the pixel: one product, [B, N, V]. A GPU that
    # rounds it to TF32 may take a vertex some mm farther off; its distance stays exact.
    keys = tf.concat([-2 * vertices, square[..., tf.newaxis]], axis=-1)
    queries = tf.concat([points, tf.ones_like(points[..., :1])], axis=-1)
    return tf.argmin(tf.matmul(queries, keys, transpose_b=True), axis=-1, output_type=tf.int32)


def corresponding_vertex(coords, layer, template):
    """The vertex nearest to each pixel in mesh coordinates, of the layer that is more probable.

    Args:
        coords: [B, K, 2] I_m, cells.
        layer: [B, K] probability of layer 1; None for templates of one layer.
        template: HandTemplate.

    Returns:
        [B, K] int32.
    """
    layers = tf.cast(template.vertex_layer, tf.float32)[:, tf.newaxis]
    at = tf.concat([tf.constant(template.mesh_coords, tf.float32), layers], axis=-1)  # [V, 3]
    of_layer = tf.zeros_like(coords[..., :1]) if layer is None else layer[..., tf.newaxis]
    query = tf.concat([coords, tf.round(of_layer)], axis=-1)
    # Farther than any cell of the same layer.
    apart = tf.constant([1.0, 1.0, 4.0 * template.grid_size])
    at = tf.tile((at * apart)[tf.newaxis], [tf.shape(coords)[0], 1, 1])
    every = tf.ones(tf.shape(at)[:2], tf.bool)
    return nearest_vertex(query * apart, at, every)


def icp_loss(points, vertices, allowed, counted, delta):
    """ICP term, Eq. 7: pixels against the nearest vertex that faces the camera.

    Args:
        points: [B, N, 3] mm, the pixels.
        vertices: [B, V, 3] mm, the skinned mesh P_r in the same frame.
        allowed: [B, V] bool, see `facing`.
        counted: [B, N] bool, the pixels that count; the others are finite, too.
        delta: of `smooth_l1`, mm.

    Returns:
        [B] mm, mean over the pixels; 0 for an example without one. Gradients reach `vertices`
        (and `points`), with the choice of the nearest held.
    """
    index = nearest_vertex(points, vertices, allowed)
    nearest = tf.gather(vertices, index, axis=1, batch_dims=1)
    return lifting_loss(points, nearest, counted, delta)


def part_icp_loss(points, parts, vertices, vertex_parts, allowed, counted, delta):
    """ICP term part by part: a pixel against the nearest allowed vertex of its own part.

    Plain ICP (Eq. 7) lets the pixels of one finger draw its neighbour; here the correspondence
    decides for the part, the distance for the place on it. Not of the paper.

    Args:
        points, vertices, allowed, counted, delta: as in `icp_loss`.
        parts: [B, N] int32, the pixels' parts.
        vertex_parts: [V] int32, constant.

    Returns:
        [B] mm, mean over the counted pixels whose part has an allowed vertex; 0 without one.
    """

    def apart(places, numbers):
        """A fourth coordinate that keeps parts farther from each other than any hand is wide."""
        return tf.concat([places, _PARTS_APART_MM * tf.cast(numbers, places.dtype)[..., None]], -1)

    numbers = tf.tile(vertex_parts[np.newaxis], [tf.shape(vertices)[0], 1])
    index = nearest_vertex(apart(points, parts), apart(vertices, numbers), allowed)
    nearest = tf.gather(vertices, index, axis=1, batch_dims=1)
    found = tf.gather(numbers, index, batch_dims=1) == parts
    found &= tf.gather(tf.convert_to_tensor(allowed), index, batch_dims=1)
    return lifting_loss(points, nearest, counted & found, delta)


def lifting_loss(points, correspondences, counted, delta):
    """Lifting term, Eq. 8: pixels against their own correspondences on the mesh.

    Args:
        points: [B, N, 3] mm, the pixels.
        correspondences: [B, N, 3] mm, f(i): J_o sampled at the pixels' own mesh coordinates
            (`Sampling.sample_at`), in the frame of `points`.
        counted: [B, N] bool, the pixels that count; the others are finite, too.
        delta: of `smooth_l1`, mm.

    Returns:
        [B] mm, mean over the pixels; 0 for an example without one.
    """
    square = tf.reduce_sum((points - correspondences) ** 2, axis=-1)
    return masked_mean(smooth_l1(square, delta), counted)


@kernel
def smooth_l1_and_slope(square, delta):
    """`smooth_l1` of one squared distance, and twice its slope by the square."""
    distance = np.sqrt(square)
    if distance > delta:
        return distance - delta / 2, 1 / distance
    return square / (2 * delta), 1 / delta


@kernel
def facing_and_normals(vertices, faces):
    """`facing` [V] and unit `vertex_normals` [V, 3] of one mesh [V, 3] with faces [F, 3]."""
    normals = np.zeros(vertices.shape)
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        x1, x2 = vertices[b, 0] - vertices[a, 0], vertices[c, 0] - vertices[a, 0]
        y1, y2 = vertices[b, 1] - vertices[a, 1], vertices[c, 1] - vertices[a, 1]
        z1, z2 = vertices[b, 2] - vertices[a, 2], vertices[c, 2] - vertices[a, 2]
        for v in faces[f]:
            normals[v, 0] += y1 * z2 - z1 * y2
            normals[v, 1] += z1 * x2 - x1 * z2
            normals[v, 2] += x1 * y2 - y1 * x2
    towards = np.empty(len(vertices), np.bool_)
    for v in range(len(vertices)):
        length, along = 1e-12, 0.0
        for i in range(3):
            length += normals[v, i] ** 2
            along += normals[v, i] * vertices[v, i]
        normals[v] /= np.sqrt(length)
        towards[v] = along < 0.0
    return towards, normals


@kernel
def nearest_allowed(point, places, allowed):
    """The allowed row of `places` [N, 3] nearest to a point; the first where none is allowed."""
    best, found = np.inf, 0
    for n in range(len(places)):
        if not allowed[n]:
            continue
        square = 0.0
        for i in range(3):
            square += (places[n, i] - point[i]) ** 2
        if square < best:
            best, found = square, n
    return found
