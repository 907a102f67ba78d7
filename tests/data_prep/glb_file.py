"""A skinned .glb of MakeHuman's hand, as exporters write them: seams, tips, bones in any order."""

import json
import struct

import numpy as np

from data_prep.skinned_gltf import WEBXR
from dgn_tf.template import load_template
from tests.data_prep.small_hand import decimated

VERTICES, BORDER = 500, 20


def hand(left=False):
    """(vertices [V, 3] mm, faces, weights [V, 16], joints [16, 3] mm), tilted and shifted."""
    template = load_template()
    kept, faces = decimated(template, VERTICES, BORDER)
    joints = np.linalg.inv(template.bone_from_template.astype(np.float64))[:, :3, 3]
    tilt = np.array([[0.0, 0.6, -0.8], [1.0, 0, 0], [0, -0.8, -0.6]])
    tilt *= np.linalg.det(tilt)
    if left:
        tilt, faces = tilt @ np.diag([-1.0, 1, 1]), faces[:, ::-1]
    move = lambda points: points @ tilt.T + [30.0, -10.0, 200.0]  # noqa: E731
    return (
        move(template.vertices[kept].astype(np.float64)),
        faces,
        template.skinning_weights[kept].astype(np.float64),
        move(joints),
    )


def tips(vertices, weights, joints):
    """[5, 3] mm, the vertex of each last bone farthest from its joint."""
    result = []
    for last in range(3, 16, 3):
        own = vertices[weights[:, last] > 0.5]
        result.append(own[np.linalg.norm(own - joints[last], axis=1).argmax()])
    return np.stack(result)


def write_glb(path, vertices, faces, weights, joints, extra=(), change=None):
    """Writes the hand with WebXR's bone names, tips first, and every corner of a face apart.

    Args:
        path: to write to.
        vertices, faces, weights, joints: what `hand` returned.
        extra: further (vertices, faces) that move with the little fingertip.
        change: function that spoils the JSON in place; None: it is right.
    """
    names = list(WEBXR)[::-1]
    part_names = load_template().part_names
    ends = dict(
        zip(
            [f"{f}3" for f in ("thumb", "index", "middle", "ring", "little")],
            tips(vertices, weights, joints),
            strict=True,
        )
    )
    origin = {}
    for bone in list(WEBXR):
        part = WEBXR[bone]
        if bone.endswith("tip"):
            origin[bone] = ends[part]
        else:
            origin[bone] = joints[part_names.index(part) if part in part_names else 0]
            if part.endswith("0"):  # within the palm, on the way to its finger
                root = joints[part_names.index(f"{part[:-1]}1")]
                origin[bone] = 0.7 * joints[0] + 0.3 * root
    bone_of_part = [
        names.index(next(bone for bone in WEBXR if WEBXR[bone] == part)) for part in part_names
    ]
    for more, more_faces in extra:
        faces = np.concatenate([faces, more_faces + len(vertices)])
        vertices = np.concatenate([vertices, more])
        weights = np.concatenate([weights, np.tile(np.eye(16)[15], [len(more), 1])])
    order = np.argsort(-weights, axis=1, kind="stable")[:, :4]
    corners = faces.reshape(-1)
    matrices = np.tile(np.eye(4, dtype=np.float32), [len(names), 1, 1])
    matrices[:, 3, :3] = [-origin[name] / 1000 for name in names]  # Columns: transposed.
    arrays = [
        (vertices[corners] / 1000).astype("<f4"),
        np.array(bone_of_part)[order][corners].astype("<u1"),
        np.take_along_axis(weights, order, axis=1)[corners].astype("<f4"),
        np.arange(len(corners)).astype("<u2"),
        matrices.reshape(-1, 16).astype("<f4"),
    ]
    types = [(5126, "VEC3"), (5121, "VEC4"), (5126, "VEC4"), (5123, "SCALAR"), (5126, "MAT4")]
    binary, views, accessors = b"", [], []
    for array, (component, kind) in zip(arrays, types, strict=True):
        binary += b"\0" * (-len(binary) % 4)
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": array.nbytes})
        accessors.append(
            {
                "bufferView": len(views) - 1,
                "componentType": component,
                "type": kind,
                "count": len(array),
            }
        )
        binary += array.tobytes()
    description = {
        "asset": {"version": "2.0", "copyright": "CC0"},
        "buffers": [{"byteLength": len(binary)}],
        "bufferViews": views,
        "accessors": accessors,
        "nodes": [{"name": name} for name in names] + [{"mesh": 0, "skin": 0}],
        "skins": [{"joints": list(range(len(names))), "inverseBindMatrices": 4}],
        "meshes": [
            {
                "primitives": [
                    {"attributes": {"POSITION": 0, "JOINTS_0": 1, "WEIGHTS_0": 2}, "indices": 3}
                ]
            }
        ],
    }
    if change:
        change(description)
    text = json.dumps(description).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    body = struct.pack("<II", len(text), 0x4E4F534A) + text
    body += struct.pack("<II", len(binary), 0x004E4942) + binary
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body)
