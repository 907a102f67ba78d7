"""Pictures of a template: one like the paper's Fig. 3, and a turntable of its parts."""

import pathlib

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.geometry.raster import render_mesh
from dgn_tf.writing import whole_file

# Rows: right, down and forward of a picture in the template's frame; fingers up.
FROM_PALM = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
FROM_BACK = np.array([[-1.0, 0, 0], [0, 0, -1], [0, -1, 0]])
_SIZE, _DISTANCE_MM, _SIDE_MM = 600, 3000.0, 250.0


def write_figure(template, path) -> None:
    """Draws the selected embedding to a picture file; InputError where it cannot be written."""
    from matplotlib.figure import Figure  # Without pyplot: no display, no global state.

    figure = Figure(figsize=(16, 4.4), layout="constrained")
    mesh, grid, palm, back = figure.subplots(1, 4)
    grey = np.full([len(template.vertices), 3], 0.8)
    mesh.imshow(_render(template, FROM_PALM, grey))
    mesh.set_title(f"mesh: {len(template.vertices)} vertices, {len(template.faces)} triangles")
    colors = coordinate_colors(template.mesh_coords, template.grid_size)
    _draw_embedding(grid, template, colors)
    for axes, view, title in ((palm, FROM_PALM, "palm"), (back, FROM_BACK, "back")):
        axes.imshow(_render(template, view, colors))
        axes.set_title(f"mesh coordinates, {title}")
    for axes in (mesh, palm, back):
        axes.set_axis_off()
    _save(figure, path, "figure")


def write_turntable(template, path) -> None:
    """Draws the hand from eight sides, a colour a part, key points as dots, to a picture file."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    palette = colormaps["tab20"](np.arange(len(template.part_names)) % 20)[:, :3]
    colors = template.skinning_weights @ palette
    figure = Figure(figsize=(16, 9), layout="constrained")
    middle = template.vertices.min(axis=0) / 2 + template.vertices.max(axis=0) / 2
    for axes, degrees in zip(figure.subplots(2, 4).flat, range(0, 360, 45), strict=True):
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        view = FROM_PALM @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
        axes.imshow(_render(template, view, colors))
        points = np.einsum("ij,kj->ki", view, template.keypoints - middle)
        shown = _SIZE / 2 + points[:, :2] * _SIZE / _SIDE_MM * _DISTANCE_MM / (
            points[:, 2:] + _DISTANCE_MM
        )
        axes.plot(shown[:, 0], shown[:, 1], "k.", markersize=3)
        axes.set_title(f"{degrees} degrees")
        axes.set_axis_off()
    figure.suptitle(f"{template.name}: {len(template.part_names)} parts, key points")
    _save(figure, path, "turntable")


def _save(figure, path, flag):
    try:
        suffix = pathlib.Path(path).suffix.lstrip(".") or "png"
        with whole_file(path) as beside:
            figure.savefig(beside, dpi=100, format=suffix)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--{flag}={path}: cannot write ({error}); choose a .png or .pdf in a "
            "folder that exists."
        ) from None


def coordinate_colors(coords, grid_size: int) -> np.ndarray:
    """Returns [..., 3] colours of mesh coordinates [..., 2]: red by column, green by row."""
    share = np.clip(np.asarray(coords) / (grid_size - 1), 0, 1)
    blue = 1 - 0.5 * (share[..., 0] + share[..., 1])
    return np.stack([share[..., 0], share[..., 1], blue], axis=-1)


def _draw_embedding(axes, template, colors):
    from matplotlib.collections import PolyCollection

    keep = ~template.face_is_seam
    triangles = template.mesh_coords[template.faces[keep]]
    for layer in reversed(range(template.num_layers)):
        own = template.face_layer[keep] == layer
        axes.add_collection(
            PolyCollection(
                triangles[own],
                facecolors=colors[template.faces[keep][own]].mean(axis=1),
                edgecolors="black",
                linewidths=0.15,
                alpha=0.85,
            )
        )
    axes.set(
        xlim=(-0.5, template.grid_size - 0.5),
        ylim=(template.grid_size - 0.5, -0.5),
        aspect="equal",
        title=f"'{template.embedding}', {template.grid_size} x "
        f"{template.grid_size} cells" + (" x 2" if template.num_layers == 2 else ""),
    )
    axes.set_xticks(np.arange(template.grid_size + 1) - 0.5, labels=[])
    axes.set_yticks(np.arange(template.grid_size + 1) - 0.5, labels=[])
    axes.grid(linewidth=0.3)


def _render(template, view, colors):
    """Returns [H, W, 3] float picture of the mesh at rest with vertex colours [V, 3], shaded."""
    vertices = template.vertices.astype(np.float64)
    centre = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    points = np.einsum("ij,vj->vi", view, vertices - centre) + [0, 0, _DISTANCE_MM]
    focal = _SIZE * _DISTANCE_MM / _SIDE_MM
    _, face, barycentric = render_mesh(
        points, template.faces, (focal, focal, _SIZE / 2, _SIZE / 2), _SIZE, _SIZE
    )
    normals = np.zeros_like(points)
    across = np.cross(
        points[template.faces[:, 1]] - points[template.faces[:, 0]],
        points[template.faces[:, 2]] - points[template.faces[:, 0]],
    )
    for corner in range(3):
        np.add.at(normals, template.faces[:, corner], across)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    picture = np.ones([_SIZE, _SIZE, 3])
    hit = face >= 0
    corners, second = template.faces[face[hit]], barycentric[hit]
    weights = np.concatenate([1 - second.sum(axis=1, keepdims=True), second], axis=1)[..., None]
    light = -(normals[corners] * weights).sum(axis=1)[:, 2:]
    picture[hit] = (colors[corners] * weights).sum(axis=1) * (0.35 + 0.65 * np.clip(light, 0, 1))
    return picture
