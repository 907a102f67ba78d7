"""The quality sheet of a template's mesh and skinning: what is odd about it, in figures."""

import numpy as np

from dgn_tf.template.checks import connected, directed_edges, mesh_faults

_MOVES = 0.5  # A vertex belongs to a part from this weight on.


def describe_mesh(template) -> dict:
    """Returns figures of mesh and skinning.

    `crowded_edges` belong to more than two faces or run the same way in two, `hole_edges` border
    holes beside the wrist; both are 0 for a clean mesh. `weight_error` is how far a vertex's
    weights are from 1 in sum, `vertices_of_part` how many a part moves by at least one half.
    """
    vertices, faces = template.vertices.astype(np.float64), template.faces
    edges = np.unique(np.sort(directed_edges(faces), axis=1), axis=0)
    lengths = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    crowded, holes = mesh_faults(faces, template.wrist_loop)
    loop = np.stack([template.wrist_loop, np.roll(template.wrist_loop, -1)], axis=1)
    against = {tuple(edge[::-1]) for edge in loop.tolist()}
    weights = template.skinning_weights.astype(np.float64)
    return {
        "handedness": template.handedness,
        "vertices": len(vertices),
        "faces": len(faces),
        "parts": len(template.part_names),
        "shapes": len(template.shape_names),
        "keypoints": len(template.keypoint_names),
        "components": len(np.unique(connected(faces, len(vertices)))),
        "crowded_edges": crowded,
        "hole_edges": holes,
        "closed_at_the_wrist": bool(against & {tuple(e) for e in directed_edges(faces).tolist()}),
        "wrist_edges": len(template.wrist_loop),
        "size_mm": np.round(np.ptp(vertices, axis=0), 1).tolist(),
        "edge_mm": {"median": float(np.median(lengths)), "largest": float(lengths.max())},
        "weight_error": float(np.abs(weights.sum(axis=1) - 1).max()),
        "parts_of_a_vertex": {
            "mean": float((weights > 0).sum(axis=1).mean()),
            "most": int((weights > 0).sum(axis=1).max()),
        },
        "vertices_of_part": dict(
            zip(template.part_names, (weights >= _MOVES).sum(axis=0).tolist(), strict=True)
        ),
    }


def format_mesh(mesh: dict) -> str:
    """Returns the figures of `describe_mesh` as text."""
    few, fewest = min(mesh["vertices_of_part"].items(), key=lambda item: item[1])
    edge, share, hand = mesh["edge_mm"], mesh["parts_of_a_vertex"], "a right hand"
    if mesh["handedness"] == "left":
        hand = "a left hand, mirrored to a right one"
    return "\n".join(
        [
            f"{hand}: {mesh['vertices']} vertices, {mesh['faces']} faces, {mesh['components']} "
            f"component, {mesh['parts']} parts, {mesh['shapes']} shapes, {mesh['keypoints']} key "
            "points, " + " x ".join(f"{size:.0f}" for size in mesh["size_mm"]) + " mm",
            f"edges: median {edge['median']:.1f} mm, largest {edge['largest']:.1f} mm; "
            f"{mesh['crowded_edges']} of more than two faces, {mesh['hole_edges']} at holes; "
            f"{mesh['wrist_edges']} around the wrist, which is "
            + ("closed" if mesh["closed_at_the_wrist"] else "open"),
            f"weights: sums within {mesh['weight_error']:.0e} of 1, {share['mean']:.1f} parts a "
            f"vertex, {share['most']} at most; fewest vertices: {few}, {fewest}",
        ]
    )
