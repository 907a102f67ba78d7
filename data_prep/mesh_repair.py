"""What a mesh from elsewhere needs before it can be a hand: welding, cleaning, its wrist's edge."""

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
import scipy.spatial

from dgn_tf.errors import InputError
from dgn_tf.evaluation.mesh_truth import longest_border
from dgn_tf.template.checks import connected

# Of a closed hand, faces that look this way (cosine to the wrist's direction) end it.
_CAP_COSINE = 0.5


def weld(corners, decimals: int = 5):
    """Joins corners that lie at one place.

    Args:
        corners: [N, 3] positions in the unit of their file.
        decimals: to which they must agree.

    Returns:
        first [V] index of one corner of each vertex, and vertex [N] of each corner.
    """
    _, first, vertex = np.unique(
        np.round(np.asarray(corners, np.float64), decimals),
        axis=0,
        return_index=True,
        return_inverse=True,
    )
    return first, vertex.reshape(-1)


def weld_near(corners, reach: float):
    """Joins corners at most `reach` apart, and what these join in turn; as `weld` otherwise."""
    pairs = scipy.spatial.cKDTree(corners).query_pairs(reach, output_type="ndarray")
    count = len(corners)
    graph = scipy.sparse.coo_matrix((np.ones(len(pairs)), tuple(pairs.T)), shape=[count] * 2)
    _, vertex = scipy.sparse.csgraph.connected_components(graph, directed=False)
    _, first, vertex = np.unique(vertex, return_index=True, return_inverse=True)
    return first, vertex.reshape(-1)


def clean(vertices, faces, components: str, where: str):
    """Leaves out faces that repeat a corner, faces that come twice, and vertices without a face.

    Faces of three corners on a line stay.

    Args:
        vertices: [N, 3]; faces: [M, 3].
        components: 'refuse' a mesh of several, or keep the 'largest' and drop the others.
        where: names the mesh in errors.

    Returns:
        kept [V] indices into vertices, and faces [F, 3] of them, outward.

    Raises:
        InputError: nothing is left, or the mesh has several components and these are refused.
    """
    faces = np.asarray(faces, np.int64)
    repeated = (faces == np.roll(faces, 1, axis=1)).any(axis=1)
    _, first = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    faces = faces[np.setdiff1d(np.sort(first), np.flatnonzero(repeated))]
    if not len(faces):
        raise InputError(f"{where}: the mesh has no triangle of three corners; pass a hand's mesh.")
    label = connected(faces, len(vertices))[faces[:, 0]]
    names, counts = np.unique(label, return_counts=True)
    if len(names) > 1 and components == "refuse":
        raise InputError(
            f"{where}: the mesh has {len(names)} components, of {_some(np.sort(counts)[::-1])} "
            "triangles (nails?); --components=largest drops all but the largest, --weld_mm joins "
            "those that touch."
        )
    faces = faces[label == names[counts.argmax()]]
    kept = np.unique(faces)
    faces = np.searchsorted(kept, faces)
    corners = vertices[kept][faces] - vertices[kept].mean(axis=0)
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    return kept, faces if volume > 0 else faces[:, ::-1].copy()


def wrist_loop(vertices, faces, where: str) -> np.ndarray:
    """Returns [N] vertices of the edges at which a hand ends, as its faces run.

    The longest border of an open mesh; of a closed one, the border of the faces that close it
    at the wrist.

    Args:
        vertices: [V, 3] template frame, z to the fingers; faces: [F, 3].
    """
    loop = longest_border(faces)
    if len(loop) < 3:
        loop = longest_border(faces[~_wrist_cap(vertices, faces)])
    low, high = vertices[:, 2].min(), vertices[:, 2].max()
    if len(loop) < 3 or vertices[loop, 2].mean() > low + 0.3 * (high - low):
        raise InputError(
            f"{where}: the mesh has neither an opening nor a flat end at the wrist; "
            "cut the hand off behind the wrist."
        )
    return loop


def _wrist_cap(vertices, faces):
    """Returns [F] bool: faces connected to the hindmost one that look backwards as it does."""
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    backwards = -normals[:, 2] > _CAP_COSINE
    if not backwards.any():
        return backwards
    hindmost = np.flatnonzero(backwards)[corners[backwards, :, 2].mean(axis=1).argmin()]
    label = connected(faces[backwards], len(vertices))
    return backwards & (label[faces[:, 0]] == label[faces[hindmost, 0]])


def _some(counts):
    return ", ".join(str(count) for count in counts[:8]) + (" .." if len(counts) > 8 else "")
