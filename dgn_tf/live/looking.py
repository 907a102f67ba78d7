"""What a look at a frame says of a hand: crops, the model's meshes of them, and how they fit."""

import dataclasses
from typing import NamedTuple

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.geometry.raster import render_mesh
from dgn_tf.predictor import LEAST_SCORE, HandMesh, HandMeshPredictor, hand_mesh, residual

NEAR_MM = 15.0  # a surface and the depth before it agree within
_CERTAIN, _STANDS_OUT = 0.8, 0.5  # confidence and share of the border behind it: one is enough
_AROUND = 16  # of a crop's side, one in so many: how wide the border around a hand is
_SEEN = 0.4  # of the surface towards the camera, at least, for a pose to be valid


class Frame(NamedTuple):
    """A depth frame as it came: [H, W] steps of `unit` mm, and its camera [4]."""

    depth: np.ndarray
    unit: np.float32
    intrinsics: np.ndarray

    def at(self, points) -> np.ndarray:
        """[N] mm of the pixels that show points [N, 3]; 0 where missing or beyond the frame."""
        fx, fy, cx, cy = self.intrinsics
        height, width = self.depth.shape
        u = np.floor(points[:, 0] / points[:, 2] * fx + (cx + 0.5))
        v = np.floor(points[:, 1] / points[:, 2] * fy + (cy + 0.5))
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        u, v = np.where(inside, u, 0).astype(np.intp), np.where(inside, v, 0).astype(np.intp)
        return np.where(inside, _measured(self.depth[v, u], self.unit), 0)

    def millimetres(self) -> np.ndarray:
        """[H, W] float32 mm, 0 = missing."""
        return _measured(self.depth, self.unit)


def frame_of(depth, intrinsics, unit: float) -> Frame:
    """A frame of what a caller gave, checked as far as a look at every pixel is not needed.

    Args:
        depth: [H, W] steps.
        intrinsics: [4], checked; or None.
        unit: mm.

    Raises:
        InputError: `depth` is of the wrong kind, or there are no intrinsics.
    """
    if intrinsics is None:
        raise InputError("intrinsics are missing: fx, fy, cx, cy of the depth camera, pixels.")
    depth = np.asarray(depth)
    if depth.ndim != 2 or 0 in depth.shape or depth.dtype.kind not in "iuf":
        raise InputError(
            f"the frame is {depth.dtype} {list(depth.shape)}; numbers [H, W] are wanted."
        )
    return Frame(depth, np.float32(unit), intrinsics)


def _measured(steps, unit) -> np.ndarray:
    """float32 mm; 0 where the camera measured nothing."""
    depth = steps.astype(np.float32) * unit
    if steps.dtype.kind == "u":
        return depth
    return np.where((depth > 0) & (depth < np.inf), depth, np.float32(0))


class Crop:
    """The window of a frame around a place, by nearest neighbour (`geometry.camera.crop_depth`).

    Attributes:
        depth: [S, S] float32 mm, 0 = missing.
        intrinsics: [4] of the crop.
        centre: [3] mm.
    """

    def __init__(self, frame: Frame, centre, cube_mm: float, size: int):
        self.centre = np.asarray(centre, np.float32)
        focal, principal = frame.intrinsics[:2], frame.intrinsics[2:]
        scale = size * self.centre[2] / (focal * cube_mm)
        offset = (size - 1) / 2 - scale * (principal + focal * self.centre[:2] / self.centre[2])
        self.intrinsics = np.concatenate([focal * scale, principal * scale + offset]).astype(
            np.float32
        )
        pixels = np.arange(size, dtype=np.float32)[:, np.newaxis]
        places = np.floor((pixels - offset) / scale + 0.5)  # [S, 2] column, row
        limits = np.array([frame.depth.shape[1], frame.depth.shape[0]])
        inside = (places >= 0) & (places < limits)
        places = np.clip(places, 0, limits - 1).astype(np.intp)
        cut = frame.depth[places[:, 1, np.newaxis], places[np.newaxis, :, 0]]
        seen = inside[:, 1, np.newaxis] & inside[np.newaxis, :, 0]
        self.depth = np.where(seen, _measured(cut, frame.unit), np.float32(0))

    def points(self, valid) -> np.ndarray:
        """[N, 3] mm of the pixels where `valid` [S, S]."""
        rows, columns = np.nonzero(valid & (self.depth > 0))
        z = self.depth[rows, columns]
        fx, fy, cx, cy = self.intrinsics
        return np.stack([(columns - cx) / fx * z, (rows - cy) / fy * z, z], axis=1)


@dataclasses.dataclass(eq=False)
class Seen:
    """What one frame says of a hand: the mesh as predicted, and how far it is to be believed."""

    mesh: HandMesh
    middle: np.ndarray  # [3] mm, of the surface that is seen
    fit: float
    seen: float
    evidence: float | None = None  # mm, of `FrameToMesh.side_evidence`

    def good(self, least: tuple[float, float]) -> bool:
        confidence, fit = least
        sure = self.mesh.confidence.mean() >= confidence
        return bool(sure and self.fit >= fit and self.seen >= _SEEN)


class Looker:
    """Looks at frames by an exported model.

    Args:
        model: has the signatures `crop` and `locate`.
        cube_mm: side of the crops' cube.
        size: side of the crops, pixels.

    Attributes:
        located: how often the localiser looked at a frame.
    """

    def __init__(self, model: HandMeshPredictor, cube_mm: float, size: int):
        self._model, self.cube_mm, self._size = model, cube_mm, size
        self._faces = model.description.faces
        self.located = 0

    def cut(self, frame: Frame, centre) -> Crop:
        """The crop around a place [3] mm."""
        return Crop(frame, centre, self.cube_mm, self._size)

    def locate(self, depth, intrinsics, held) -> list[np.ndarray]:
        """Places [3] mm of a frame [H, W] mm where a hand may be, the likeliest first.

        Args:
            depth: what is held is taken out of it, in place.
            intrinsics: [4].
            held: (vertices, hand) of the hands that are not looked for.
        """
        for vertices, hand in held:
            self.take_out(vertices, hand, depth, intrinsics)
        if not depth.any():
            return []
        self.located += 1
        inputs = {"depth": depth[np.newaxis], "intrinsics": intrinsics[np.newaxis]}
        places = self._model.run("locate", inputs)
        found = zip(places["centre"][0], places["score"][0], strict=True)
        return [centre for centre, score in found if score >= LEAST_SCORE]

    def surface(self, vertices, hand: str, depth, intrinsics) -> np.ndarray:
        """[H, W] mm where an image is to show a hand, a pixel wider all around; inf elsewhere."""
        from scipy.ndimage import minimum_filter

        height, width = depth.shape
        surface, _, _ = render_mesh(vertices, self._faces[hand], intrinsics, width, height)
        return minimum_filter(surface, 3)

    def believed(self, seen: Seen, crop: Crop) -> bool:
        """Whether a hand that nobody expected is one: walls and clothes have their likes.

        Of what lies around a hand in the air, most lies behind it; a hand that lies on something
        has to be surer.
        """
        if seen.mesh.confidence.mean() >= _CERTAIN:
            return True
        from scipy.ndimage import distance_transform_edt

        surface = self.surface(seen.mesh.vertices, seen.mesh.hand, crop.depth, crop.intrinsics)
        away, nearest = distance_transform_edt(np.isinf(surface), return_indices=True)
        wide = self._size / _AROUND
        border = (away > wide / 2) & (away <= wide)
        edge = surface[nearest[0][border], nearest[1][border]]
        behind = crop.depth[border] - edge > NEAR_MM
        return bool(behind.sum() >= _STANDS_OUT * max(len(behind), 1))

    def take_out(self, vertices, hand: str, depth, intrinsics) -> None:
        """Takes a hand's pixels out of a frame or a crop [H, W] mm, in place."""
        theirs = self.surface(vertices, hand, depth, intrinsics)
        depth[np.abs(depth - theirs) < 2 * NEAR_MM] = 0.0

    def see(self, frame: Frame, jobs) -> list[Seen | None]:
        """Runs the model once on all crops.

        Args:
            frame: they are of.
            jobs: (crop, hand, whether to ask which side's it is); hand "" is the side's that lies
                nearer to the points.
        """
        sides = [("right", "left") if ask or not hand else (hand,) for _, hand, ask in jobs]
        rows = [
            (crop, side) for (crop, _, _), both in zip(jobs, sides, strict=True) for side in both
        ]
        outputs = self._run(rows)
        meshes = iter([self._mesh(outputs, row, side) for row, (_, side) in enumerate(rows)])
        seen: list[Seen | None] = []
        for (crop, hand, _), both in zip(jobs, sides, strict=True):
            found = {side: mesh for side in both if (mesh := next(meshes)) is not None}
            evidence = None
            if len(found) == 2:
                away = {
                    side: residual(mesh.vertices, crop.points(mesh.valid))
                    for side, mesh in found.items()
                }
                evidence = away["left"] - away["right"]
            side = hand or ("left" if (evidence or 0.0) < 0 else "right")
            mesh = found.get(side)
            seen.append(None if mesh is None else self._judged(frame, mesh, evidence))
        return seen

    def _run(self, rows) -> dict[str, np.ndarray]:
        """Outputs of the model, [N, ...], of N crops as hands of a side."""
        return self._model.run(
            "crop",
            {
                "depth": np.stack([crop.depth for crop, _ in rows]),
                "intrinsics": np.stack([crop.intrinsics for crop, _ in rows]),
                "centre": np.stack([crop.centre for crop, _ in rows]),
                "cube": np.full(len(rows), self.cube_mm, np.float32),
                "left": np.array([side == "left" for _, side in rows]),
            },
        )

    def _mesh(self, outputs, row: int, side: str) -> HandMesh | None:
        """One row of the model's answer; None where it holds no hand or no numbers."""
        if not outputs["found"][row]:
            return None
        if not (np.abs(outputs["transforms"][row]) < 1e6).all():  # NaN is not, either
            return None
        one = {key: value[row] for key, value in outputs.items()}
        return hand_mesh(one, self._model.description, side)

    def _judged(self, frame: Frame, mesh: HandMesh, evidence) -> Seen:
        """Holds a mesh to the frame: what of it the depth shows, hides, or looks through."""
        faces = self._faces[mesh.hand]
        vertices = mesh.vertices
        corners = vertices[faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        middles = corners.mean(axis=1)
        # Twice the area of the face that the camera sees, as a solid angle; below 0: its back.
        area = -np.einsum("ij,ij->i", normals, middles) / middles[:, 2] ** 3
        front = area > 0
        middles, area = middles[front], area[front]
        depth = frame.at(middles)
        behind = depth - middles[:, 2]
        there = (depth > 0) & (np.abs(behind) < NEAR_MM)
        through = (depth > 0) & (behind >= NEAR_MM)
        whole = max(float(area.sum()), 1e-12)
        shown, missed = float(area[there].sum()), float(area[through].sum())
        # Of all that faces the camera: an occluder that comes before it doesn't move it.
        middle = (middles * area[:, np.newaxis]).sum(axis=0) / whole
        return Seen(mesh, middle, shown / max(shown + missed, 1e-12), shown / whole, evidence)
