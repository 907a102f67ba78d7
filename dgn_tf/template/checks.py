"""What must hold in a hand template; each broken rule is named."""

import numpy as np

from dgn_tf.errors import InputError

HANDS = ("right", "left")
_TOLERANCE = 1e-4
_LARGEST_GRID = 1024  # cells on a side; the paper's has 64
_EXTENT_MM = (20.0, 2000.0)  # the longest side of the box around a hand, generously
# The paper's own mesh has seven edges where three faces meet, which leaves two flaps with a border
# of two edges each.
_FAULTY_EDGES = 0.01


def validate(template, where: str) -> None:
    """Raises InputError with `where`, the field and what is wrong with it, at the first fault."""

    def want(condition, field, fault):
        if not condition:
            raise InputError(
                f"{where}: {field} {fault}; rebuild the template with data_prep.build_template."
            )

    _check_shapes(template, want)
    _check_mesh(template, want)
    _check_skeleton(template, want)
    for name, embedding in template.embeddings.items():
        coords = embedding.mesh_coords
        largest = template.grid_size - 1
        for field, values in (("mesh_coords", coords), ("face_coords", embedding.face_coords)):
            want(
                values.min() >= 0 and values.max() <= largest,
                f"{field} of '{name}'",
                f"must lie in 0 .. {largest}, got {values.min():.2f} .. {values.max():.2f}",
            )
        for field in ("vertex_layer", "face_layer"):
            layers = getattr(embedding, field)
            most = 1 if name == "layered" else 0
            want(
                layers.min() >= 0 and layers.max() <= most,
                f"{field} of '{name}'",
                f"must be 0 .. {most}, got {layers.min()} .. {layers.max()}",
            )


def _check_shapes(template, want):
    V, F, P = len(template.vertices), len(template.faces), len(template.part_names)
    J, K, S = len(template.keypoint_names), len(template.shape_names), len(template.stub_vertices)
    want(
        template.handedness in HANDS,
        "handedness",
        f"must be one of {', '.join(HANDS)}, got '{template.handedness}'",
    )
    want(
        8 <= template.grid_size <= _LARGEST_GRID,
        "grid_size",
        f"must be 8 to {_LARGEST_GRID}, got {template.grid_size}",
    )
    want(min(V, F, P, J) > 0, "vertices, faces, part_names, keypoint_names", "must not be empty")
    shapes = {
        "vertices": (V, 3),
        "faces": (F, 3),
        "skinning_weights": (V, P),
        "parents": (P,),
        "bone_from_template": (P, 4, 4),
        "joint_limits": (P, 3, 2),
        "keypoints": (J, 3),
        "keypoint_weights": (J, P),
        "shape_basis": (K, V, 3),
        "shape_joints": (K, P, 3),
        "shape_keypoints": (K, J, 3),
        "face_part": (F,),
        "stub_vertices": (S, 3),
        "stub_ring": (S,),
        "wrist_loop": (template.wrist_loop.size,),
        "evaluated": (template.evaluated.size,),
        "stub_faces": (len(template.stub_faces.ravel()) // 3, 3),
    }
    for field, shape in shapes.items():
        array = getattr(template, field)
        want(array.shape == shape, field, f"must have shape {shape}, got {array.shape}")
        want(array.dtype.kind != "f" or np.isfinite(array).all(), field, "holds NaN or infinity")
    for name, embedding in template.embeddings.items():
        shapes = {
            "mesh_coords": (V, 2),
            "vertex_layer": (V,),
            "face_coords": (F, 3, 2),
            "face_layer": (F,),
            "face_is_seam": (F,),
        }
        for field, shape in shapes.items():
            array = getattr(embedding, field)
            want(
                array.shape == shape,
                f"{field} of '{name}'",
                f"must have shape {shape}, got {array.shape}",
            )
            want(
                array.dtype.kind != "f" or np.isfinite(array).all(),
                f"{field} of '{name}'",
                "holds NaN or infinity",
            )
    for field, names in (
        ("part_names", template.part_names),
        ("keypoint_names", template.keypoint_names),
    ):
        want(all(isinstance(name, str) for name in names), field, "must be text")
        want(len(set(names)) == len(names), field, "must differ from each other")
    bounds = (
        ("faces", V),
        ("wrist_loop", V),
        ("parents", P),
        ("face_part", P),
        ("evaluated", J),
        ("stub_faces", V + S),
    )
    for field, end in bounds:
        array = getattr(template, field)
        want(
            array.size > 0 and array.min() >= 0 and array.max() < end,
            field,
            f"must hold indices 0 .. {end - 1}",
        )


def _check_mesh(template, want):
    faces, V = template.faces, len(template.vertices)
    extent = float(np.ptp(template.vertices.astype(np.float64), axis=0).max())
    want(
        _EXTENT_MM[0] <= extent <= _EXTENT_MM[1],
        "vertices",
        f"extend over {extent:g} mm, a hand over {_EXTENT_MM[0]:g} to {_EXTENT_MM[1]:g}",
    )
    want((faces != np.roll(faces, 1, axis=1)).all(), "faces", "must have three different corners")
    faults = mesh_faults(faces, template.wrist_loop)
    most = _FAULTY_EDGES * 1.5 * len(faces)
    for count, fault in zip(
        faults,
        (
            "belong to more than two faces or run the same way in two",
            "border holes beside the wrist",
        ),
        strict=True,
    ):
        want(
            count <= most,
            "faces",
            f"are no surface: {count} edges {fault}, at most {_FAULTY_EDGES:.0%} of all edges may",
        )
    loop, edges = template.wrist_loop, directed_edges(faces)
    around = loop.astype(np.int64) * V + np.roll(loop, -1)
    want(
        len(loop) >= 3
        and len(np.unique(loop)) == len(loop)
        and np.isin(around, edges[:, 0].astype(np.int64) * V + edges[:, 1]).all(),
        "wrist_loop",
        "is not a loop of edges, in the direction of their faces",
    )
    components = len(np.unique(connected(template.faces, V)))
    want(components == 1, "faces", f"must join all vertices into one component, got {components}")


def mesh_faults(faces, wrist_loop) -> tuple[int, int]:
    """Counts what a clean hand has none of.

    Returns:
        edges of more than two faces, or of two that run along it in the same direction; edges of
        one face that are not in the wrist loop.
    """
    directed, forward = np.unique(directed_edges(faces), axis=0, return_counts=True)
    edges, faces_of_edge = np.unique(
        np.sort(directed_edges(faces), axis=1), axis=0, return_counts=True
    )
    twice = {tuple(sorted(edge)) for edge in directed[forward > 1].tolist()}
    crowded = twice | {tuple(edge) for edge in edges[faces_of_edge > 2].tolist()}
    loop = np.sort(np.stack([wrist_loop, np.roll(wrist_loop, -1)], axis=1), axis=1)
    holes = {tuple(edge) for edge in edges[faces_of_edge == 1].tolist()} - {
        tuple(edge) for edge in loop.tolist()
    }
    return len(crowded), len(holes)


def _check_skeleton(template, want):
    for field in ("skinning_weights", "keypoint_weights"):
        weights = getattr(template, field)
        error = np.abs(weights.sum(axis=1, dtype=np.float64) - 1)
        want(
            error.max() <= _TOLERANCE,
            field,
            f"row {error.argmax()} sums to {weights[error.argmax()].sum():.4f}, must be 1",
        )
        want(weights.min() >= 0, field, f"must not be negative, got {weights.min():.4f}")
    parents = template.parents
    want(
        parents[0] == 0 and (parents[1:] < np.arange(1, len(parents))).all(),
        "parents",
        "must begin with the root, its own parent, and name a parent before its children",
    )
    frames = template.bone_from_template.astype(np.float64)
    rotation = frames[:, :3, :3]
    rigid = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max() <= _TOLERANCE
    proper = np.einsum("pi,pi->p", np.cross(rotation[:, 0], rotation[:, 1]), rotation[:, 2]) > 0
    want(
        rigid and proper.all() and (frames[:, 3] == [0, 0, 0, 1]).all(),
        "bone_from_template",
        "must hold rigid transforms",
    )
    low, high = template.joint_limits[..., 0], template.joint_limits[..., 1]
    want(
        (low <= high).all() and np.abs(template.joint_limits).max() <= np.pi,
        "joint_limits",
        "must be lowest before highest, within -pi .. pi",
    )
    want((template.joint_limits[0] == 0).all(), "joint_limits", "of the root must be 0")


def directed_edges(faces) -> np.ndarray:
    """Returns [3F, 2], the edges of each face in its own direction."""
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def connected(faces, count: int) -> np.ndarray:
    """Returns [count] a label per vertex, the same for vertices that faces connect."""
    from trimesh.graph import connected_component_labels  # slow to import, and predict needs none

    return connected_component_labels(directed_edges(faces), node_count=count)
