"""Panels like the paper's Fig. 1: one frame's depth, correspondences, mesh and key points."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dgn_tf.visualize import tiles

TILE = 400  # pixels; three in a row make a picture 1200 wide
_STRIP = 26  # height of a label


def render_panel(depth, intrinsics, hand, size: int = TILE, title: str = "") -> np.ndarray:
    """Draws depth, correspondence map, shaded mesh; overlay, key points and side view.

    Args:
        depth: [S, S] mm, square window around the hand, 0 = missing, at any resolution.
        intrinsics: [4] fx, fy, cx, cy of the window.
        hand: `HandMesh` in the camera's frame, found in this window or a crop of the same extent.
        size: side of a tile, pixels.
        title: drawn above, where not empty.

    Returns:
        uint8 RGB [H, 3 * size, 3].
    """
    depth, centre = np.asarray(depth, np.float32), np.asarray(hand.centre, np.float64)
    large = tiles.enlarge(depth, size)
    camera = tiles.enlarged_intrinsics(intrinsics, len(depth), size)
    grey = tiles.depth_tile(large, centre[2], hand.cube_mm / 2)
    layer = hand.mesh_layer if hand.num_layers > 1 else None
    coords = tiles.correspondence_tile(hand.mesh_coords, hand.valid, hand.grid_size, layer)
    dim = (0.75 * grey).astype(np.uint8)
    mesh = (hand.vertices, hand.faces)
    pictures = [
        ("depth", grey),
        ("correspondence", tiles.enlarge(coords, size)),
        ("mesh", tiles.mesh_tile(*mesh, camera, size)),
        ("mesh over depth", tiles.mesh_tile(*mesh, camera, size, grey, 0.7)),
        ("key points", tiles.keypoint_tile(hand.keypoints, hand.keypoint_names, camera, dim)),
        (
            "from the right, with the depth's points",
            tiles.side_tile(*mesh, depth, intrinsics, centre, hand.cube_mm, size),
        ),
    ]
    return compose(pictures, columns=3, title=title)


def compose(pictures, columns: int, title: str = "") -> np.ndarray:
    """Sets labelled pictures of one size into rows.

    Args:
        pictures: (label, uint8 [H, W, 3]) pairs; labels may be empty.
        columns: pictures in a row.
        title: a line above all, where not empty.

    Returns:
        uint8 RGB.
    """
    height, width = pictures[0][1].shape[:2]
    strip = _STRIP if any(label for label, _ in pictures) else 0
    top = _STRIP if title else 0
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (columns * width, top + rows * (height + strip)), tiles.BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=15)
    if title:
        draw.text((8, 4), title, (255, 255, 255), font)
    for index, (label, picture) in enumerate(pictures):
        x, y = (index % columns) * width, top + (index // columns) * (height + strip)
        draw.text((x + 8, y + 4), label, (200, 205, 215), font)
        canvas.paste(Image.fromarray(picture), (x, y + strip))
    return np.asarray(canvas)
