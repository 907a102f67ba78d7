"""Mesh coordinates (Sec. 3.1): three ways to lay the mesh on the mesh grid.

`mds` is the paper's: two-dimensional metric scaling of geodesic distances. `atlas` and `layered`
project the hand, fingers straight and spread, onto the palm's plane, palm side and back as two
charts side by side, or as two layers of the same cells. Sums run in a fixed order (einsum, not
BLAS) and results are rounded to 1e-4 cell: they do not depend on the number of threads.
"""

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from dgn_tf.template import Embedding
from dgn_tf.template.checks import connected, directed_edges

MARGIN = 0.035  # Share of the grid kept free at its border, each side.
ATLAS_GAP = 0.07  # Share of the grid between the two charts.
# Below this height over the wrist the palm, which hardly bends, gets fewer cells.
PALM_TOP_MM, PALM_SHARE = 80.0, 0.7
_SCALING_ROUNDS = 200
_SMOOTHING_ROUNDS = 4
ROUND = 4  # Decimals of a cell.


def embed(name: str, vertices, flattened, faces, grid_size: int) -> Embedding:
    """Returns the embedding of that name.

    Args:
        name: 'mds', 'atlas' or 'layered'.
        vertices: [V, 3] mm at rest, x radial, y dorsal, z distal; welded.
        flattened: [V, 3] mm, the same with fingers straight and spread; see `flattening`.
        faces: [F, 3].
        grid_size: cells on each axis.
    """
    zeros = np.zeros(len(vertices), np.int32)
    if name == "mds":
        coords = fit_to_grid(scale_distances(geodesic_distances(vertices, faces)), grid_size)
        return _with_faces(coords, zeros, faces, chart=zeros)
    side = palm_or_back(flattened, faces)
    height = flattened[:, 2]
    height = height - (1 - PALM_SHARE) * np.minimum(height, PALM_TOP_MM)
    seen = np.stack([flattened[:, 0], -height], axis=1)  # From the palm, fingers up.
    if name == "layered":
        return _with_faces(fit_to_grid(seen, grid_size), side, faces, chart=zeros)
    if name == "atlas":
        return _with_faces(_two_charts(seen, side, grid_size), zeros, faces, chart=side)
    raise ValueError(f"embed wants mds, atlas or layered, got {name}.")


def fit_to_grid(points, grid_size: int) -> np.ndarray:
    """Stretches points [V, 2] to fill the grid but for its margin; returns cells, rounded."""
    low, high = points.min(axis=0), points.max(axis=0)
    share = MARGIN + (1 - 2 * MARGIN) * (points - low) / (high - low)
    return np.round(share * (grid_size - 1), ROUND)


def _two_charts(seen, side, grid_size):
    """Palm side in the left half of the grid; the back, seen from the back, in the right."""
    coords = fit_to_grid(seen, grid_size)
    low, high = seen[:, 0].min(), seen[:, 0].max()
    across = (seen[:, 0] - low) / (high - low)
    width = (1 - 2 * MARGIN - ATLAS_GAP) / 2
    share = np.where(side == 1, 1 - MARGIN - width * across, MARGIN + width * across)
    coords[:, 0] = np.round(share * (grid_size - 1), ROUND)
    return coords


def _with_faces(coords, layer, faces, chart) -> Embedding:
    corners = chart[faces]
    seam = corners.min(axis=1) != corners.max(axis=1)
    face_coords = coords[faces]
    # No interpolation across the gap: a seam's face has the coordinates of its first corner.
    face_coords[seam] = face_coords[seam][:, :1]
    face_layer = (layer[faces].sum(axis=1) >= 2).astype(np.int32)  # That of most corners.
    return Embedding(
        coords.astype(np.float32),
        layer.astype(np.int32),
        face_coords.astype(np.float32),
        face_layer,
        seam,
    )


def palm_or_back(vertices, faces) -> np.ndarray:
    """Returns [V] int32, 0 on the palm side and 1 on the back; each side is connected."""
    normals = np.zeros_like(vertices)
    across = np.cross(
        vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]]
    )
    for corner in range(3):
        np.add.at(normals, faces[:, corner], across)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    edges = np.unique(np.sort(directed_edges(faces), axis=1), axis=0)
    for _ in range(_SMOOTHING_ROUNDS):
        total = normals.copy()
        np.add.at(total, edges[:, 0], normals[edges[:, 1]])
        np.add.at(total, edges[:, 1], normals[edges[:, 0]])
        normals = total / np.linalg.norm(total, axis=1, keepdims=True)
    side = (normals[:, 1] > 0).astype(np.int32)
    for _ in range(10):
        islands = np.zeros(len(side), bool)
        for value in (0, 1):
            own = side == value
            label = connected(faces[own[faces].all(axis=1)], len(side))
            names, counts = np.unique(label[own], return_counts=True)
            islands |= own & (label != names[counts.argmax()])
        if not islands.any():
            break
        side[islands] = 1 - side[islands]
    return side


def geodesic_distances(vertices, faces) -> np.ndarray:
    """Returns [V, V] mm: shortest paths over edges and, unfolded, across pairs of triangles."""
    edges = directed_edges(faces)
    opposite = np.concatenate([faces[:, 2], faces[:, 0], faces[:, 1]])
    partner = {(a, b): c for (a, b), c in zip(edges.tolist(), opposite.tolist(), strict=True)}
    rows, columns, lengths = [], [], []
    for (a, b), c in partner.items():
        rows.append(a)
        columns.append(b)
        lengths.append(np.linalg.norm(vertices[a] - vertices[b]))
        d = partner.get((b, a))
        if d is not None and c < d:
            rows.append(c)
            columns.append(d)
            lengths.append(_unfolded(vertices[a], vertices[b], vertices[c], vertices[d]))
    graph = scipy.sparse.coo_matrix((lengths, (rows, columns)), shape=[len(vertices)] * 2)
    # Each pair once: the sparse format would add duplicates up.
    graph = scipy.sparse.csr_matrix(graph.maximum(graph.T))
    return scipy.sparse.csgraph.dijkstra(graph, directed=False)


def _unfolded(a, b, c, d):
    """Distance of c and d once the triangles abc and bad lie in one plane."""
    axis = (b - a) / np.linalg.norm(b - a)
    along = np.dot(c - d, axis)
    heights = [np.linalg.norm((point - a) - np.dot(point - a, axis) * axis) for point in (c, d)]
    return np.hypot(along, sum(heights))


def scale_distances(distances, rounds: int = _SCALING_ROUNDS) -> np.ndarray:
    """Metric scaling of [V, V] distances to the plane (SMACOF from the classical solution).

    Returns:
        [V, 2] x, y with the longer axis along y, downward, and its sign fixed by the third moment.
    """
    squared = distances**2
    mean = squared.mean(axis=0)
    gram = -0.5 * (squared - mean - mean[:, None] + mean.mean())
    points = _leading_vectors(gram)
    count = len(points)
    for _ in range(rounds):
        ratio = distances / np.sqrt(np.maximum(_squared_distances(points), 1e-18))
        points = (
            ratio.sum(axis=1)[:, None] * points - np.einsum("ij,jk->ik", ratio, points)
        ) / count
        points = points - points.mean(axis=0)
    return _aligned(points)


def _squared_distances(points):
    return sum(np.subtract.outer(axis, axis) ** 2 for axis in np.ascontiguousarray(points.T))


def _leading_vectors(gram, rounds=100):
    """Returns [V, 2], the two leading eigenvectors times the roots of their values."""
    vectors = np.stack([np.cos(np.arange(len(gram)) * step) for step in (0.37, 1.13)], axis=1)
    for _ in range(rounds):
        vectors = np.einsum("ij,jk->ik", gram, vectors)
        vectors[:, 0] /= np.linalg.norm(vectors[:, 0])
        vectors[:, 1] -= np.einsum("i,i->", vectors[:, 0], vectors[:, 1]) * vectors[:, 0]
        vectors[:, 1] /= np.linalg.norm(vectors[:, 1])
    values = np.einsum(
        "ik,ij,jk->k", vectors, gram, vectors, optimize=["einsum_path", (0, 1), (0, 1)]
    )
    return vectors * np.sqrt(values)


def _aligned(points):
    """Turns points so that their principal axes are y, x, and fixes the signs."""
    covariance = np.einsum("vi,vj->ij", points, points)
    angle = 0.5 * np.arctan2(2 * covariance[0, 1], covariance[0, 0] - covariance[1, 1])
    major = np.array([np.cos(angle), np.sin(angle)])
    minor = np.array([-major[1], major[0]])
    turned = np.stack(
        [np.einsum("vi,i->v", points, minor), np.einsum("vi,i->v", points, major)], axis=1
    )
    return turned * np.where((turned**3).sum(axis=0) < 0, -1.0, 1.0)
