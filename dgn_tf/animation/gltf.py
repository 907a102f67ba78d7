"""A hand over time as one binary glTF 2.0 file: mesh, skin, skeleton, animation.

Metres, y up. L of Eq. (12) is a similarity for each joint, which glTF's rotation, translation and
scale of a node hold without loss.
"""

import json
import struct

import numpy as np
import trimesh

from dgn_tf.animation.sequence import HandSequence, rest_mesh, skeleton, taken_apart

_MM_PER_METRE = 1000.0
_FLOAT, _BYTE, _INDEX = 5126, 5121, 5125
_VERTICES, _CORNERS = 34962, 34963  # what a view of the buffer is for
_SKIN_COLOUR = [0.86, 0.66, 0.56, 1.0]


class _Buffer:
    """The file's numbers, and what tells where each array of them is."""

    def __init__(self):
        self.content = bytearray()
        self.views: list[dict] = []
        self.accessors: list[dict] = []

    def add(self, values, kind: str, component: int = _FLOAT, target: int | None = None) -> int:
        """The number of an array's accessor: [N] or [N, width] of `kind`."""
        dtype = {_FLOAT: "<f4", _BYTE: "<u1", _INDEX: "<u4"}[component]
        array = np.ascontiguousarray(values, dtype)
        flat = array.reshape(len(array), -1)
        self.views.append(
            {"buffer": 0, "byteOffset": len(self.content), "byteLength": array.nbytes}
            | ({"target": target} if target else {})
        )
        self.content += array.tobytes()
        self.content += b"\0" * (-len(self.content) % 4)
        self.accessors.append(
            {
                "bufferView": len(self.views) - 1,
                "componentType": component,
                "count": len(array),
                "type": kind,
                "min": flat.min(axis=0).tolist(),
                "max": flat.max(axis=0).tolist(),
            }
        )
        return len(self.accessors) - 1


def glb(sequence: HandSequence) -> bytes:
    """The content of the .glb.

    Nodes carry the parts' names and the pose of the first frame. `extras` of the animation lists
    the frames' names and those that are lost.
    """
    template, buffer = sequence.template, _Buffer()
    joints = skeleton(sequence, _MM_PER_METRE)
    moves = taken_apart(joints.local)
    parts = len(template.part_names)
    nodes = _nodes(template, moves)
    nodes.append({"name": f"{sequence.hand}_hand", "mesh": 0, "skin": 0})
    bind = buffer.add(np.swapaxes(joints.bind, 1, 2).reshape(-1, 16), "MAT4")
    mesh = _primitive(sequence, buffer)
    content = {
        "asset": {"version": "2.0", "generator": "dgn_tf", "copyright": template.licence},
        "scene": 0,
        "scenes": [{"nodes": [0, parts]}],
        "nodes": nodes,
        "meshes": [{"name": template.name, "primitives": [mesh]}],
        "materials": [
            {
                "name": "skin",
                "pbrMetallicRoughness": {
                    "baseColorFactor": _SKIN_COLOUR,
                    "metallicFactor": 0.0,
                    "roughnessFactor": 0.7,
                },
            }
        ],
        "skins": [{"inverseBindMatrices": bind, "joints": list(range(parts)), "skeleton": 0}],
        "animations": [_animation(sequence, moves, buffer)],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.content)}],
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(buffer.content), 0x004E4942) + bytes(buffer.content)
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def _nodes(template, moves) -> list[dict]:
    translation, rotation, scale = (values[0] for values in moves)
    nodes: list[dict] = []
    for part, name in enumerate(template.part_names):
        node = {
            "name": name,
            "translation": translation[part].tolist(),
            "rotation": rotation[part].tolist(),
            "scale": [float(scale[part])] * 3,
        }
        children = [c for c in range(1, len(template.parents)) if template.parents[c] == part]
        nodes.append(node | ({"children": children} if children else {}))
    return nodes


def _primitive(sequence, buffer) -> dict:
    vertices, faces = rest_mesh(sequence, _MM_PER_METRE)
    normals = trimesh.Trimesh(vertices, faces, process=False).vertex_normals
    attributes = {
        "POSITION": buffer.add(vertices, "VEC3", target=_VERTICES),
        "NORMAL": buffer.add(normals, "VEC3", target=_VERTICES),
    }
    weights = np.asarray(sequence.template.skinning_weights, np.float64)
    slots = -(-int((weights > 0).sum(axis=1).max()) // 4) * 4  # four to an attribute
    order = np.argsort(-weights, axis=1, kind="stable")[:, :slots]
    order = np.pad(order, [(0, 0), (0, slots - order.shape[1])])
    chosen = np.take_along_axis(weights, order, axis=1)
    chosen[:, weights.shape[1] :] = 0  # padded: a part twice
    order[chosen == 0] = 0
    chosen /= chosen.sum(axis=1, keepdims=True)
    for four in range(slots // 4):
        own = slice(4 * four, 4 * four + 4)
        joints = buffer.add(order[:, own], "VEC4", _BYTE, _VERTICES)
        attributes[f"JOINTS_{four}"] = joints
        attributes[f"WEIGHTS_{four}"] = buffer.add(chosen[:, own], "VEC4", target=_VERTICES)
    corners = buffer.add(faces.reshape(-1), "SCALAR", _INDEX, _CORNERS)
    return {"attributes": attributes, "indices": corners, "material": 0}


def _animation(sequence, moves, buffer) -> dict:
    translation, rotation, scale = moves
    paths = {
        "translation": (translation, "VEC3"),
        "rotation": (rotation, "VEC4"),
        "scale": (np.repeat(scale[..., None], 3, axis=-1), "VEC3"),
    }
    times = buffer.add(sequence.times, "SCALAR")
    samplers: list[dict] = []
    channels: list[dict] = []
    for path, (values, kind) in paths.items():
        for part in range(values.shape[1]):
            channels.append({"sampler": len(samplers), "target": {"node": part, "path": path}})
            output = buffer.add(values[:, part], kind)
            samplers.append({"input": times, "output": output, "interpolation": "LINEAR"})
    return {
        "name": "hand",
        "channels": channels,
        "samplers": samplers,
        "extras": {"frame_names": list(sequence.frame_names), "lost_frames": sequence.lost},
    }
