"""Meshes to files: PLY and OBJ in mm, GLB in metres (glTF's unit), written by trimesh."""

import pathlib
from typing import Any

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.geometry.faces import checked_faces
from dgn_tf.writing import write_output

FORMATS = ("ply", "obj", "glb")


def mesh_bytes(vertices, faces, format: str = "ply") -> bytes:
    """Encodes a mesh.

    PLY and OBJ keep the camera frame: mm, x right, y down, z forward. GLB has glTF's frame and
    unit: metres, y up, the camera looking along -z.

    Args:
        vertices: [V, 3] mm, camera frame.
        faces: [F, 3] int, corners anticlockwise as seen from outside.
        format: "ply", "obj" or "glb".

    Returns:
        The file's content.

    Raises:
        InputError: an unknown format.
        ValueError: vertices are not [V, 3], or a face names one that is not there.
    """
    if format not in FORMATS:
        raise InputError(f"--format={format} is not one of {', '.join(FORMATS)}.")
    import trimesh

    vertices = np.asarray(vertices, np.float64)
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ValueError(f"vertices are {list(vertices.shape)}, wanted [V, 3]")
    faces = checked_faces(faces, len(vertices))
    if format == "glb":
        vertices = vertices * [1e-3, -1e-3, -1e-3]  # a rotation about x: the winding stays
    else:
        # Four decimals: 0.1 um, far finer than any error, in half the bytes of OBJ.
        vertices = np.round(vertices, 4)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    content: Any = mesh.export(file_type=format)
    return content.encode() if isinstance(content, str) else content


def write_mesh(file, vertices, faces, flag: str = "--mesh") -> None:
    """Writes a mesh; the file's ending names the format. See `mesh_bytes`."""
    ending = pathlib.Path(file).suffix.lstrip(".").lower()
    write_output(file, mesh_bytes(vertices, faces, ending), flag)
