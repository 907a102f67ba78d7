"""What a rendered frame shows of the hand, from the faces that its pixels show."""

import numpy as np
from scipy.spatial import cKDTree

from dgn_tf.geometry.raster import render_mesh

# At rest the pixels of a 300 mm crop of 64 lie 4.7 mm apart and fingers 10 mm and more.
NEAR_MM = 5.0
NEAR_CELLS = 1.0  # the kernel of Eq. 2 falls to 0.6 over a cell
HIDDEN, BEHIND, SEEN = range(3)


def surface_points(points, faces, face, barycentric) -> np.ndarray:
    """Points of a mesh's surface.

    Args:
        points: [V, 3] vertices, any frame and unit.
        faces: [F, 3].
        face: [N] rows of `faces`.
        barycentric: [N, 2] weights of corners 1 and 2.

    Returns:
        [N, 3] float64 in the frame of `points`.
    """
    first, second, third = np.moveaxis(np.asarray(points, np.float64)[faces[face]], -2, 0)
    u, v = np.moveaxis(np.asarray(barycentric, np.float64)[..., np.newaxis], -2, 0)
    return (1.0 - u - v) * first + u * second + v * third


def visibility(template, depth, face, barycentric) -> np.ndarray:
    """What a frame shows of each vertex.

    Args:
        template: HandTemplate.
        depth: [S, S] mm, 0 where nothing was measured.
        face: [S, S] face that a pixel shows, -1 for none.
        barycentric: [S, S, 2] weights of the face's corners 1 and 2.

    Returns:
        [V] int: `SEEN`, a pixel shows a point of its layer within `NEAR_MM` of it at rest, where
        fingers do not touch; `BEHIND`, else, and a pixel shows a point within `NEAR_CELLS` of its
        mesh coordinates, in either layer: with two layers the other side of what is seen;
        `HIDDEN`, else.
    """
    result = np.full(len(template.vertices), HIDDEN)
    shows = (np.asarray(face) >= 0) & (np.asarray(depth) > 0)
    if not shows.any():
        return result
    face, barycentric = face[shows], barycentric[shows]
    rest = surface_points(template.vertices, template.faces, face, barycentric)
    corners = template.face_coords[face].astype(np.float64)  # [N, 3, 2]
    weights = np.concatenate([1 - barycentric.sum(-1, keepdims=True), barycentric], axis=-1)
    coords = (corners * weights[..., np.newaxis]).sum(axis=1)
    result[_near(coords, template.mesh_coords, NEAR_CELLS)] = BEHIND
    for layer in range(template.num_layers):
        here = template.face_layer[face] == layer
        if here.any():
            near = _near(rest[here], template.vertices, NEAR_MM)
            result[near & (template.vertex_layer == layer)] = SEEN
    return result


def _near(points, queries, reach):
    """[Q] bool: which of the queries have a point within reach."""
    away, _ = cKDTree(points).query(queries, distance_upper_bound=reach)
    return np.isfinite(away)


def hidden_share(template, vertices, intrinsics, depth, face) -> float:
    """Share of the hand's own pixels at which the frame does not show the hand.

    The hand's own pixels are those of its mesh rendered alone; what hides them is an occluder, the
    forearm, a hole in the measurement or the frame's border.

    Args:
        template: HandTemplate.
        vertices: [V, 3] mm, camera frame: the true mesh.
        intrinsics: [4] fx, fy, cx, cy of the crop.
        depth, face: see `visibility`.

    Returns:
        0..1; NaN where the mesh has no pixel in the crop.
    """
    height, width = np.shape(depth)
    _, rendered, _ = render_mesh(vertices, template.faces, intrinsics, width, height)
    own = rendered >= 0
    if not own.any():
        return float("nan")
    shown = (np.asarray(face) >= 0) & (np.asarray(depth) > 0)
    return float(1.0 - (own & shown).sum() / own.sum())
