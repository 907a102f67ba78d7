"""Distance between two hand surfaces, whatever their tessellation."""

import numba
import numpy as np

from dgn_tf.geometry.faces import checked_faces

WRIST_MARGIN_MM = 15.0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _squared_distance_to_segment(p, a, b):
    along = length = 0.0
    for i in range(3):
        along += (p[i] - a[i]) * (b[i] - a[i])
        length += (b[i] - a[i]) ** 2
    t = min(max(along / length, 0.0), 1.0) if length > 0.0 else 0.0
    square = 0.0
    for i in range(3):
        square += (p[i] - a[i] - t * (b[i] - a[i])) ** 2
    return square


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _squared_distance(p, a, b, c):
    """Of a point to a triangle, which may be degenerate (a segment, a point); all [3]."""
    ab0, ab1, ab2 = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    ac0, ac1, ac2 = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    ap0, ap1, ap2 = p[0] - a[0], p[1] - a[1], p[2] - a[2]
    d1 = ab0 * ap0 + ab1 * ap1 + ab2 * ap2
    d2 = ac0 * ap0 + ac1 * ap1 + ac2 * ap2
    bb = ab0 * ab0 + ab1 * ab1 + ab2 * ab2
    bc = ab0 * ac0 + ab1 * ac1 + ab2 * ac2
    cc = ac0 * ac0 + ac1 * ac1 + ac2 * ac2
    area = bb * cc - bc * bc
    v = (cc * d1 - bc * d2) / area  # the foot of the perpendicular is a + v ab + w ac
    w = (bb * d2 - bc * d1) / area
    if area > 1e-12 * bb * cc and v >= 0.0 and w >= 0.0 and v + w <= 1.0:
        x = ap0 - v * ab0 - w * ac0
        y = ap1 - v * ab1 - w * ac1
        z = ap2 - v * ab2 - w * ac2
        return x * x + y * y + z * z
    return min(
        _squared_distance_to_segment(p, a, b),
        _squared_distance_to_segment(p, b, c),
        _squared_distance_to_segment(p, c, a),
    )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _distances(points, vertices, faces):
    count = faces.shape[0]
    spheres = np.empty((count, 4))  # around each triangle: centre and radius
    for f in range(count):
        a, b, c = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
        radius = 0.0
        for i in range(3):
            spheres[f, i] = (a[i] + b[i] + c[i]) / 3.0
        for corner in (a, b, c):
            square = 0.0
            for i in range(3):
                square += (corner[i] - spheres[f, i]) ** 2
            radius = max(radius, square)
        spheres[f, 3] = np.sqrt(radius)
    result = np.empty(points.shape[0])
    nearest = 0  # of the point before: neighbours in the list are neighbours in space, mostly
    for n in range(points.shape[0]):
        p = points[n]
        a, b, c = faces[nearest]
        best = _squared_distance(p, vertices[a], vertices[b], vertices[c])
        root = np.sqrt(best)
        for f in range(count):
            square = 0.0
            for i in range(3):
                square += (p[i] - spheres[f, i]) ** 2
            reach = root + spheres[f, 3]
            if square >= reach * reach:
                continue
            a, b, c = faces[f]
            found = _squared_distance(p, vertices[a], vertices[b], vertices[c])
            if found < best:
                best, root, nearest = found, np.sqrt(found), f
        result[n] = root
    return result


def point_to_surface_mm(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Distance of each point to the nearest point of any triangle, exactly.

    Args:
        points: [N, 3] mm.
        vertices: [V, 3] mm.
        faces: [F, 3], F > 0; degenerate triangles count as segments or points. ValueError where one
            names no vertex.

    Returns:
        [N] float64 mm.
    """
    if not len(faces):
        raise ValueError("point_to_surface_mm wants at least one triangle.")
    return _distances(
        np.ascontiguousarray(points, np.float64),
        np.ascontiguousarray(vertices, np.float64),
        np.ascontiguousarray(checked_faces(faces, len(vertices)), np.int64),
    )


def vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """A third of the area of the triangles around each vertex: [V] mm^2."""
    corners = np.asarray(vertices, np.float64)[faces]  # [F, 3, 3]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    thirds = np.linalg.norm(normals, axis=-1) / 6.0
    return np.bincount(np.ravel(faces), np.repeat(thirds, 3), minlength=len(vertices))


def surface_distance_mm(predicted, truth, margin_mm: float = WRIST_MARGIN_MM) -> float:
    """Symmetric mean distance of two open surfaces, away from where they were cut.

    The mean of both directions; in each, vertices count by their area, so that a finer
    tessellation of the nails or the finger tips does not weigh more. Vertices within `margin_mm`
    of either wrist loop are left out: where the cut lies is a matter of the template.

    Args:
        predicted, truth: (vertices [V, 3] mm, faces [F, 3], wrist_loop [L]) of each hand, in one
            frame of reference; `wrist_loop` lists the boundary's vertices in order, closed from
            the last to the first, and may be empty.
        margin_mm: see above.

    Returns:
        mm; of one direction where the other has no surface left, NaN where neither has.
    """
    loops = [_loop_segments(*surface) for surface in (predicted, truth)]
    means = []
    for (vertices, faces, _), (other, other_faces, _) in (
        (predicted, truth),
        (truth, predicted),
    ):
        weights = vertex_areas(vertices, faces)
        keep = weights > 0.0
        for points, segments in loops:
            if len(segments):
                keep &= point_to_surface_mm(vertices, points, segments) > margin_mm
        if not keep.any():
            continue  # a collapsed prediction, say: the way back from the truth still counts
        distances = point_to_surface_mm(np.asarray(vertices)[keep], other, other_faces)
        means.append(np.average(distances, weights=weights[keep]))
    return float(np.mean(means)) if means else float("nan")


def _loop_segments(vertices, _, loop):
    """The closed loop as degenerate triangles (a, b, b)."""
    following = np.roll(loop, -1)
    return vertices, np.stack([loop, following, following], axis=-1).astype(np.int64)
