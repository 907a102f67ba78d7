"""The single pictures of which panels are made: uint8 RGB arrays of one size."""

import functools

import numpy as np
from PIL import Image, ImageDraw

from dgn_tf.geometry import raster

BACKGROUND = (24, 26, 30)
POINTS = (90, 200, 255)  # the depth camera's points in the side view
# One colour a finger, little finger to thumb, then the palm, as key point names begin.
FINGERS = {
    "F1": (86, 180, 233),
    "F2": (0, 158, 115),
    "F3": (240, 228, 66),
    "F4": (230, 159, 0),
    "TH": (213, 94, 0),
    "PALM": (240, 240, 240),
}
_SIDE_DISTANCE_MM = 1500.0


def window(depth, intrinsics, centre, cube: float, size: int):
    """Cuts the square window around a cube out of a depth map, by nearest neighbour.

    Args:
        depth: [H, W] mm.
        intrinsics: fx, fy, cx, cy of it.
        centre: [3] mm, camera frame, z > 0.
        cube: side in mm.
        size: side of the window, pixels.

    Returns:
        [size, size] mm, 0 outside the frame, and the window's intrinsics [4]. The same window as
        `geometry.camera.crop_depth`'s, at any resolution.
    """
    focal, principal = np.split(np.asarray(intrinsics, np.float64), 2)
    x, y, z = (float(value) for value in centre)
    scale = size * z / (cube * focal)  # [2] window pixels in a frame pixel
    offset = (size - 1) / 2 - scale * (principal + focal * np.array([x, y]) / z)
    columns, rows = (
        np.floor((np.arange(size) - offset[axis]) / scale[axis] + 0.5) for axis in (0, 1)
    )
    height, width = depth.shape
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    index = np.clip(rows, 0, height - 1).astype(int), np.clip(columns, 0, width - 1).astype(int)
    cut = np.where(inside, depth[np.ix_(*index)], 0).astype(np.float32)
    return cut, np.concatenate([focal * scale, principal * scale + offset])


def enlarge(image, size: int) -> np.ndarray:
    """Resizes [S, S, ...] to [size, size, ...] by nearest neighbour."""
    index = (np.arange(size) * len(image)) // size
    return np.asarray(image)[index][:, index]


def enlarged_intrinsics(intrinsics, old: int, new: int) -> np.ndarray:
    """Intrinsics [4] of a square picture resized from `old` to `new` pixels."""
    fx, fy, cx, cy = np.asarray(intrinsics, np.float64)
    scale = new / old
    return np.array([fx * scale, fy * scale, (cx + 0.5) * scale - 0.5, (cy + 0.5) * scale - 0.5])


def depth_tile(depth, middle: float, reach: float = 150.0) -> np.ndarray:
    """Grey, near is bright; what lies more than `reach` mm from `middle` is dark blue."""
    depth = np.asarray(depth, np.float32)
    within = depth[(depth > 0) & (np.abs(depth - middle) <= reach)]
    near, far = np.percentile(within, [1, 99]) if within.size else (middle, middle)
    stretch = max(60.0 - (far - near), 0.0) / 2  # no less than 60 mm, or a flat hand shows noise
    near, far = near - stretch, far + stretch
    level = 235 - 175 * np.clip((depth - near) / (far - near), 0, 1)
    tile = np.repeat(level[..., None], 3, axis=-1)
    tile[np.abs(depth - middle) > reach] = (44, 50, 74)
    tile[~(depth > 0)] = BACKGROUND
    return tile.astype(np.uint8)


def correspondence_tile(mesh_coords, mask, grid_size: int, layer=None) -> np.ndarray:
    """Colours each pixel by its mesh coordinates: red by column, green by row, blue by layer.

    Args:
        mesh_coords: [S, S, 2] column and row in cells, 0 .. grid_size - 1.
        mask: [S, S] bool; other pixels are background.
        layer: [S, S] probability of the second layer, or None.
    """
    coords = 0.12 + 0.88 * np.clip(np.asarray(mesh_coords, np.float32) / (grid_size - 1), 0, 1)
    blue = np.full(coords.shape[:2], 0.15) if layer is None else 0.15 + 0.85 * np.asarray(layer)
    tile = np.concatenate([coords, blue[..., None]], axis=-1) * 255
    return np.where(np.asarray(mask, bool)[..., None], tile, BACKGROUND).astype(np.uint8)


def mesh_tile(vertices, faces, intrinsics, size: int, over=None, opacity: float = 1.0):
    """The shaded mesh over a picture [size, size, 3] (default: the plain background)."""
    rgb, alpha, _ = shade(vertices, faces, intrinsics, size, size)
    if over is None:
        over = _plain(size)
    return composited(rgb, alpha, over, opacity)


def _plain(size):
    return np.broadcast_to(np.array(BACKGROUND, np.float32), [size, size, 3])


def keypoint_tile(keypoints, names, intrinsics, over) -> np.ndarray:
    """Draws fingers as lines from tip to knuckle to the palm, and a dot for each key point.

    Args:
        keypoints: [J, 3] mm, camera frame, in the order of `names`.
        names: NYU's names, such as F1_KNU3_A and PALM_3.
        intrinsics: of the picture `over` [H, W, 3].
    """
    fx, fy, cx, cy = (float(value) for value in intrinsics)
    keypoints = np.asarray(keypoints, np.float64)
    z = np.maximum(keypoints[:, 2], 1.0)
    # Clipped far outside the picture: Pillow draws nothing sane at coordinates beyond int32.
    u = np.clip(keypoints[:, 0] / z * fx + cx, -1e4, 1e4)
    v = np.clip(keypoints[:, 1] / z * fy + cy, -1e4, 1e4)
    places = list(zip(u, v, strict=True))
    picture = Image.fromarray(over)
    draw = ImageDraw.Draw(picture)
    size = max(over.shape[0] // 130, 1)
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name.split("_")[0], []).append(index)
    palm = list(names).index("PALM_3") if "PALM_3" in names else None
    for group, members in groups.items():
        colour = FINGERS.get(group, FINGERS["PALM"])
        line = members if group != "PALM" else []
        if line and palm is not None:
            draw.line([places[line[-1]], places[palm]], (130, 130, 130), max(size // 2, 1))
        if len(line) > 1:
            draw.line([places[index] for index in line], colour, size)
    for group, members in groups.items():
        colour = FINGERS.get(group, FINGERS["PALM"])
        for index in members:
            x, y = places[index]
            draw.ellipse([x - size, y - size, x + size, y + size], colour, (0, 0, 0))
    return np.asarray(picture)


def side_tile(vertices, faces, depth, intrinsics, centre, cube: float, size: int) -> np.ndarray:
    """The mesh seen from the camera's right, turned by 90 degrees, with the depth map's points.

    The depth camera is to the left of the picture: its z axis points right, y stays down.

    Args:
        depth: [H, W] mm, a window around the hand, of camera `intrinsics`.
        centre: [3] mm of the cube, of side `cube`.
    """

    def turned(points):
        shifted = np.asarray(points, np.float64) - centre
        return np.stack([shifted[:, 2], shifted[:, 1], _SIDE_DISTANCE_MM - shifted[:, 0]], axis=-1)

    focal = size * _SIDE_DISTANCE_MM / cube
    camera = (focal, focal, (size - 1) / 2, (size - 1) / 2)
    rgb, alpha, _ = shade(turned(vertices), faces, camera, size, size)
    tile = composited(rgb, alpha, _plain(size))
    rows, columns = np.nonzero(np.abs(depth - centre[2]) <= cube / 2)
    fx, fy, cx, cy = intrinsics
    z = depth[rows, columns].astype(np.float64)
    points = turned(np.stack([(columns - cx) / fx * z, (rows - cy) / fy * z, z], axis=-1))
    places = np.rint(points[:, :2] / points[:, 2:] * focal + (size - 1) / 2).astype(int)
    places = places[((places >= 0) & (places < size)).all(axis=-1)]
    # Half opaque, so that the surface below stays visible.
    tile = tile.copy()
    marked = tile[places[:, 1], places[:, 0]].astype(np.float32)
    tile[places[:, 1], places[:, 0]] = (0.35 * marked + 0.65 * np.array(POINTS)).astype(np.uint8)
    return tile


# Shaded pictures of a mesh as a camera sees it.


SKIN = (224, 172, 140)  # RGB of a fully lit surface
_AMBIENT = 0.25


def vertex_normals(vertices, faces) -> np.ndarray:
    """Unit normals [V, 3], outward: the mean of the adjacent faces' normals, weighted by area."""
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
    corners = vertices[faces]  # [F, 3, 3]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    summed = np.stack(
        [
            np.bincount(faces.ravel(), np.repeat(normals[:, axis], 3), minlength=len(vertices))
            for axis in range(3)
        ],
        axis=-1,
    )
    return summed / np.maximum(np.linalg.norm(summed, axis=-1, keepdims=True), 1e-12)


def shade(
    vertices, faces, intrinsics, width, height, colour=SKIN, samples=2, light=(-0.3, -0.5, -1)
):
    """Renders a mesh with Lambert shading and smooth normals.

    Args:
        vertices: [V, 3] mm, camera frame.
        faces: [F, 3], corners anticlockwise as seen from outside; back faces are not drawn.
        intrinsics: fx, fy, cx, cy of the picture, pixels.
        width: columns of the picture.
        height: rows of the picture.
        colour: RGB 0..255 of a fully lit surface, or [V, 3] of each vertex.
        samples: supersampling on each axis, against jagged edges.
        light: direction from the surface to the light, camera frame.

    Returns:
        rgb [height, width, 3] float32 0..255, premultiplied by alpha; alpha [height, width] float32
        0..1, how much of the pixel the mesh covers; depth [height, width] float32 mm, inf where
        there is no mesh.
    """
    faces = np.asarray(faces)
    fx, fy, cx, cy = (float(value) for value in intrinsics)
    shift = (samples - 1) / 2  # pixel centres are at integers, at every resolution
    fine = (fx * samples, fy * samples, cx * samples + shift, cy * samples + shift)
    depth, face, weights = raster.render_mesh(
        vertices, faces, fine, width * samples, height * samples
    )
    hit = face >= 0
    corners = faces[face[hit]]  # [N, 3]
    weights = weights[hit]
    weights = np.concatenate([1 - weights.sum(-1, keepdims=True), weights], axis=-1)[..., None]
    normals = (vertex_normals(vertices, faces)[corners] * weights).sum(axis=1)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    light = np.asarray(light, np.float64) / np.linalg.norm(light)
    lambert = np.clip(normals @ light, 0, 1)
    brightness = _AMBIENT + (1 - _AMBIENT) * lambert
    colour = np.asarray(colour, np.float64)
    if colour.ndim == 2:
        colour = (colour[corners] * weights).sum(axis=1)
    rgb = np.zeros([*hit.shape, 3], np.float32)
    rgb[hit] = brightness[:, None] * colour

    def samples_of(values):
        """The pictures of which each pixel's samples are one; numpy is slow along short axes."""
        return [values[i::samples, j::samples] for i in range(samples) for j in range(samples)]

    return (
        sum(samples_of(rgb)) / np.float32(samples**2),
        sum(samples_of(hit.astype(np.float32))) / np.float32(samples**2),
        functools.reduce(np.minimum, samples_of(depth)).astype(np.float32),
    )


def composited(rgb, alpha, background, opacity: float = 1.0) -> np.ndarray:
    """Lays a premultiplied picture over `background` [H, W, 3]; returns uint8."""
    alpha = alpha[..., None] * opacity
    return np.clip(rgb * opacity + background * (1 - alpha) + 0.5, 0, 255).astype(np.uint8)
