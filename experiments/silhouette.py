"""How well a predicted mesh covers the hand of a frame that has no labels."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dgn_tf.geometry.raster import render_mesh

# Neighbouring pixels of one surface differ by less, fingers from what lies behind them by more.
STEP_MM = 20.0
_HOLE_PIXELS = 200  # missing depth enclosed by the hand counts as the hand up to this size


class SilhouetteFit(NamedTuple):
    """A mesh against a frame.

    Attributes:
        iou: intersection over union of the mesh's and the hand's pixels, 0..1.
        depth_mm: median distance along z of mesh and measurement where both are; NaN where none is.
        hand: [H, W] bool, the hand's pixels.
        mesh: [H, W] bool, the mesh's.
    """

    iou: float
    depth_mm: float
    hand: np.ndarray
    mesh: np.ndarray


def fit_to_frame(
    depth, intrinsics, centre, cube: float, vertices, faces, wrist, axis
) -> SilhouetteFit:
    """Measures a mesh against what the frame shows of the hand.

    The hand's pixels are those of `hand_pixels`, and so do not depend on the mesh but for the line
    through its wrist, beyond which neither the frame's nor the mesh's pixels count.

    Args:
        depth: [H, W] mm, 0 = missing.
        intrinsics: fx, fy, cx, cy of the frame.
        centre: [3] mm, camera frame, of the cube that holds the hand; cube: its side, mm.
        vertices: [V, 3] mm, camera frame; faces [F, 3].
        wrist: [3] mm, camera frame, the wrist joint.
        axis: [3] from the wrist to the fingers.
    """
    rays = _rays(intrinsics, np.shape(depth))
    counts = fingers_side(rays, wrist, axis)
    hand = hand_pixels(depth, rays, centre, cube, counts)
    height, width = np.shape(depth)
    rendered, face, _ = render_mesh(vertices, faces, intrinsics, width, height)
    mesh = (face >= 0) & counts
    both = mesh & hand & (depth > 0)
    away = np.abs(rendered[both] - depth[both])
    return SilhouetteFit(
        intersection_over_union(mesh, hand),
        float(np.median(away)) if len(away) else float("nan"),
        hand,
        mesh,
    )


def intersection_over_union(a, b) -> float:
    """Of two masks of one shape: 0..1; 1 for two empty ones."""
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 1.0


def fingers_side(rays, wrist, axis) -> np.ndarray:
    """[H, W] bool: pixels on the fingers' side of the wrist.

    The border is the line in the image through the wrist and across the axis as it is seen: a plane
    across the axis itself would cut measurement and mesh at different pixels wherever their depths
    differ.

    Args:
        rays: [H, W, 3] directions of the pixels, camera frame.
        wrist: [3] mm, camera frame.
        axis: [3] from the wrist to the fingers.
    """
    wrist = np.asarray(wrist, np.float64) / np.linalg.norm(wrist)
    return rays @ (axis - (axis @ wrist) * wrist) >= 0


def hand_pixels(depth, rays, centre, cube: float, counts) -> np.ndarray:
    """The hand's pixels: in the cube, on the fingers' side of the wrist, and connected.

    Of the pixels in the cube around `centre` on that side, neighbours (of four) whose depths differ
    by less than `STEP_MM` belong together, and the hand is the region with the most pixels within
    a quarter of the cube's side of its centre: a body behind the hand lies a step away. Small holes
    in it, without depth, count as hand.

    Args:
        depth: [H, W] mm, 0 = missing.
        rays: [H, W, 3] directions of the pixels, z = 1.
        centre: [3] mm; cube: mm.
        counts: [H, W] bool, of `fingers_side`.

    Returns:
        [H, W] bool.
    """
    points = rays * np.asarray(depth, np.float64)[..., np.newaxis]
    inside = counts & (depth > 0) & (np.abs(points - centre) <= cube / 2).all(axis=-1)
    middle = inside & (np.linalg.norm(points - centre, axis=-1) <= cube / 4)
    if not middle.any():
        return middle
    labels = _regions(depth, inside)
    hand = inside & (labels == np.bincount(labels[middle]).argmax())
    holes, count = ndimage.label(ndimage.binary_fill_holes(hand) & (depth == 0))
    if count:
        small = np.bincount(holes.ravel()) <= _HOLE_PIXELS
        hand |= (holes > 0) & small[holes]
    return hand


def _regions(depth, inside):
    """[H, W] number of the region that a pixel inside belongs to."""
    number = np.arange(depth.size).reshape(depth.shape)
    edges = []
    for ahead, behind in (
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[1:], np.s_[:-1]),
    ):
        joined = inside[ahead] & inside[behind]
        joined &= np.abs(depth[ahead] - depth[behind]) < STEP_MM
        edges.append(np.stack([number[ahead][joined], number[behind][joined]]))
    rows, columns = np.concatenate(edges, axis=1)
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), [depth.size] * 2)
    return connected_components(graph, directed=False)[1].reshape(depth.shape)


def _rays(intrinsics, shape):
    """[H, W, 3] directions of an image's pixels, z = 1, camera frame."""
    fx, fy, cx, cy = (float(value) for value in intrinsics)
    rows, columns = np.indices(shape)
    return np.stack([(columns - cx) / fx, (rows - cy) / fy, np.ones(shape)], axis=-1)
