"""How good an embedding can be: stress, flipped triangles, occupancy and the floor of its error."""

import numpy as np

from data_prep.posing import skin

KERNEL, SIGMA, RIDGE = 8, 0.5, 1e-9
GRIDS = (8, 16, 32)


def sampling_matrix(coords, layer, grid_size: int, num_layers: int) -> np.ndarray:
    """Returns [V, L*G*G], the weights of Eq. (2) that each vertex gives the cells of its layer."""
    cells = np.arange(grid_size)
    axes = []
    for axis in range(2):
        at = np.asarray(coords, np.float64)[:, axis, None]
        offset = cells - np.floor(at)
        weight = np.exp(-SIGMA * (cells - at) ** 2)
        weight = np.where((offset > -KERNEL // 2) & (offset <= KERNEL // 2), weight, 0.0)
        axes.append(weight / weight.sum(axis=1, keepdims=True))
    plane = (axes[1][:, :, None] * axes[0][:, None, :]).reshape(len(coords), -1)
    matrix = np.zeros([len(coords), num_layers, grid_size**2])
    matrix[np.arange(len(coords)), layer] = plane
    return matrix.reshape(len(coords), -1)


def refit(points, template) -> np.ndarray:
    """Fits each part by a similarity (Eq. 3) and skins the template by them; [N, V, 3] mm."""
    weights = template.skinning_weights.astype(np.float64)
    weights = weights / weights.sum(axis=0)
    rest = template.vertices.astype(np.float64)
    p_mean = weights.T @ rest  # [P, 3]
    q_mean = np.einsum("vp,nvi->npi", weights, points, optimize=True)
    moment = np.einsum("vp,nvi,vj->npij", weights, points, rest, optimize=True)
    moment -= q_mean[..., :, None] * p_mean[:, None, :]
    u, s, vt = np.linalg.svd(moment)
    s[..., 2] *= np.sign(np.linalg.det(u) * np.linalg.det(vt))
    u[..., 2] *= np.sign(np.linalg.det(u) * np.linalg.det(vt))[..., None]
    spread = weights.T @ (rest**2).sum(axis=1) - (p_mean**2).sum(axis=1)
    linear = (s.sum(axis=-1) / spread)[..., None, None] * (u @ vt)
    shift = q_mean - np.einsum("npij,pj->npi", linear, p_mean)
    transforms = np.concatenate([linear, shift[..., None]], axis=-1)  # [N, P, 3, 4]
    return skin(transforms, rest, template.skinning_weights)


def floor_errors(template, poses, grid_size: int) -> dict:
    """Mean vertex error, mm, of the best linear sampling of a coordinate map, before and after
    the refit, over poses [N, V, 3]; the map of each pose solves a least squares problem."""
    scale = (grid_size - 1) / (template.grid_size - 1)
    matrix = sampling_matrix(
        template.mesh_coords * scale, template.vertex_layer, grid_size, template.num_layers
    )
    u, s, _ = np.linalg.svd(matrix, full_matrices=False)
    shrunk = u * (s**2 / (s**2 + RIDGE * s[0] ** 2))
    before, after = [], []
    for chunk in np.array_split(poses, max(1, len(poses) // 50)):
        flat = chunk.transpose(1, 0, 2).reshape(len(matrix), -1)
        best = (shrunk @ (u.T @ flat)).reshape(len(matrix), -1, 3).transpose(1, 0, 2)
        before.append(np.linalg.norm(best - chunk, axis=-1).mean(axis=1))
        after.append(np.linalg.norm(refit(best, template) - chunk, axis=-1).mean(axis=1))
    return {
        "sampled_mm": float(np.concatenate(before).mean()),
        "refitted_mm": float(np.concatenate(after).mean()),
    }


def describe(template, distances, poses) -> dict:
    """Returns what build_template reports of the selected embedding.

    Args:
        template: HandTemplate.
        distances: [V, V] mm geodesic distances at rest.
        poses: [N, V, 3] mm.
    """
    coords, layer = template.mesh_coords.astype(np.float64), template.vertex_layer
    apart = np.sqrt(((coords[:, None] - coords[None]) ** 2).sum(axis=-1))
    scale = (apart * distances).sum() / (apart**2).sum()
    stress = np.sqrt(((scale * apart - distances) ** 2).sum() / (distances**2).sum())
    rest = template.vertices[None].astype(np.float64)
    report: dict = {
        "stress": float(stress),
        "flipped": _flipped(template),
        "occupancy": {},
        "floors": {},
    }
    for grid_size in GRIDS:
        cells = np.round(coords * (grid_size - 1) / (template.grid_size - 1)).astype(int)
        used = len(np.unique(np.concatenate([cells, layer[:, None]], axis=1), axis=0))
        report["occupancy"][str(grid_size)] = used / (grid_size**2 * template.num_layers)
        report["floors"][str(grid_size)] = {
            "rest": floor_errors(template, rest, grid_size),
            "poses": floor_errors(template, poses, grid_size),
        }
    return report


def _flipped(template) -> float:
    """Share of triangles that lie the other way round than most of their chart or layer.

    A layer that is seen from its other side is turned over as a whole, which is no fold; triangles
    across a seam belong to neither side.
    """
    # Charts of the atlas are told apart by their half of the grid.
    chart = (
        template.vertex_layer
        if template.embedding != "atlas"
        else (template.mesh_coords[:, 0] > (template.grid_size - 1) / 2)
    )
    corners = chart[template.faces].astype(int)
    inside = corners.min(axis=1) == corners.max(axis=1)
    area = signed_areas(template.mesh_coords[template.faces].astype(np.float64))
    wrong = 0
    for value in np.unique(chart):
        own = area[inside & (corners[:, 0] == value)]
        wrong += min((own > 0).sum(), (own < 0).sum())
    return float(wrong / len(area))


def signed_areas(triangles) -> np.ndarray:
    """Returns [F], twice the signed area of triangles [F, 3, 2]."""
    first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
