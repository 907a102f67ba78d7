"""Pictures of a training example for TensorBoard: what goes in, what is true, what comes out."""

import numpy as np

from dgn_tf.visualize import panels, tiles

TILE = 160  # pixels


def training_panel(template, example: dict, outputs: dict) -> np.ndarray:
    """Depth, I_m true and predicted; P_s and P_r shaded over depth, and the true mesh.

    Args:
        template: HandTemplate of both.
        example: one example with targets, no batch axis.
        outputs: of `DualGridNet` for it, likewise.

    Returns:
        uint8 RGB, 3 tiles wide.
    """
    depth, middle = example["depth"], float(example["centre"][2])
    large = tiles.enlarge(depth, TILE)
    camera = tiles.enlarged_intrinsics(example["intrinsics"], len(depth), TILE)
    grey = tiles.depth_tile(large, middle, float(example["cube"]) / 2)

    def correspondences(source):
        layer = source.get("mesh_layer")
        picture = tiles.correspondence_tile(
            source["mesh_coords"], example["correspondence_mask"], template.grid_size, layer
        )
        return tiles.enlarge(picture, TILE)

    def mesh(vertices):
        return tiles.mesh_tile(vertices, template.faces, camera, TILE, grey, 0.7)

    return panels.compose(
        [
            ("depth", grey),
            ("I_m true", correspondences(example)),
            ("I_m predicted", correspondences(outputs)),
            ("P_s", mesh(outputs["vertices_sampled"])),
            ("P_r", mesh(outputs["vertices"])),
            ("true", mesh(example["vertices"])),
        ],
        columns=3,
    )
