"""Reads an animated, skinned .glb back and poses its mesh: a viewer in fifty lines."""

import numpy as np
from scipy.spatial.transform import Rotation

from data_prep.gltf_file import GltfFile


class Animated:
    """One skinned mesh with one animation.

    Attributes:
        faces: [F, 3]; times: [N] s.
        names: of the skin's joints.
    """

    def __init__(self, path):
        file = GltfFile(path)
        self._nodes, self._skin = file.json["nodes"], file.json["skins"][0]
        primitive = file.json["meshes"][0]["primitives"][0]
        attributes = {k: file.accessor(v) for k, v in primitive["attributes"].items()}
        self.rest, self.faces = attributes["POSITION"], file.triangles(primitive)
        self.normals = attributes["NORMAL"]
        slots = [name for name in sorted(attributes) if name.startswith("JOINTS_")]
        self._joints = np.concatenate([attributes[name] for name in slots], axis=1)
        self._weights = np.concatenate(
            [attributes[name.replace("JOINTS", "WEIGHTS")] for name in slots], axis=1
        )
        matrices = file.accessor(self._skin["inverseBindMatrices"]).reshape(-1, 4, 4)
        self._bind = np.swapaxes(matrices, 1, 2)
        animation = file.json["animations"][0]
        self.extras = animation["extras"]
        self._values = {}
        for channel in animation["channels"]:
            sampler = animation["samplers"][channel["sampler"]]
            assert sampler["interpolation"] == "LINEAR"
            self.times = file.accessor(sampler["input"])[:, 0]
            target = channel["target"]
            self._values[target["node"], target["path"]] = file.accessor(sampler["output"])
        self.names = [self._nodes[node]["name"] for node in self._skin["joints"]]

    def vertices(self, frame: int) -> np.ndarray:
        """[V, 3] m of a key frame."""
        world = {}
        above = {c: n for n, node in enumerate(self._nodes) for c in node.get("children", ())}

        def world_of(node):
            if node not in world:
                own = np.eye(4)
                turn = Rotation.from_quat(self._values[node, "rotation"][frame]).as_matrix()
                own[:3, :3] = turn * self._values[node, "scale"][frame]
                own[:3, 3] = self._values[node, "translation"][frame]
                world[node] = world_of(above[node]) @ own if node in above else own
            return world[node]

        moved = np.stack([world_of(node) for node in self._skin["joints"]]) @ self._bind
        points = np.pad(self.rest, [(0, 0), (0, 1)], constant_values=1)
        each = np.einsum("vsij,vj->vsi", moved[self._joints], points)
        return np.einsum("vs,vsi->vi", self._weights, each)[:, :3]
