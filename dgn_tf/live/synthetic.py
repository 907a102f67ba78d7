"""A source that renders moving hands before a still background, and knows the truth."""

import dataclasses
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from dgn_tf.geometry import mirror
from dgn_tf.geometry.raster import render_mesh
from dgn_tf.live.frames import LiveFrame
from dgn_tf.synthesis import scene
from dgn_tf.synthesis.batches import laid_out
from dgn_tf.synthesis.crops import NEAR_MM
from dgn_tf.synthesis.pose_prior import GivenHands, GivenSettings
from dgn_tf.synthesis.posing import PoseSettings, pose_hands
from dgn_tf.synthesis.sensor import SensorSettings, observe
from dgn_tf.template import HandTemplate

MOTIONS = ("one", "two", "cross", "still", "wave")
_WAVE_MM, _WAVE_MM_S = 150.0, 500.0  # of "wave": to each side, and the largest speed
_MEETING_S = 2.0  # of crossing hands: from one meeting to the next
_EXACT = GivenSettings(angle_noise=0.0, shape_sigma=0.0, view_share=0.0, view_noise_degrees=0.0)
# A sensor whose errors are the same in every frame but for their draws: cameras don't change.
SENSOR = SensorSettings(
    clean_share=0.0,
    shadow_share=0.0,
    edge_jitter_px=(0.5, 0.5),
    edge_width_px=(1.0, 1.0),
    edge_missing=(0.3, 0.3),
    edge_flying=(0.05, 0.05),
    step_at_1m_mm=(0.5, 0.5),
    correlated_at_1m_mm=(0.5, 0.5),
    correlation_px=(8.0, 8.0),
    axial_mm=(0.5, 0.5),
    axial_at_1m_mm=(0.5, 0.5),
    smooth_share=1.0,
    grazing_cosine=(0.1, 0.1),
    grazing_missing=(0.3, 0.3),
    blobs=(0.0, 0.0),
    patch_threshold=(9.0, 9.0),
    speckle=(0.002, 0.002),
    range_mm=(5000.0, 5000.0),
)
# Its errors away, but for rounding to float32.
EXACT_SENSOR = SENSOR._replace(clean_share=1.0)


class Truth(NamedTuple):
    """What a synthetic frame shows, N hands.

    Attributes:
        hands: N of "right" and "left".
        vertices: [N, V, 3] mm, camera frame.
        keypoints: [N, J, 3] mm, camera frame.
        seen: [N] share of the hand's pixels that nothing else hides and the frame holds; 0 where
            the hand is out of view.
    """

    hands: tuple[str, ...]
    vertices: np.ndarray
    keypoints: np.ndarray
    seen: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Hand:
    """One hand's shape and the waves that it moves by."""

    left: bool
    back: bool  # seen from its back
    shape: np.ndarray  # [K]
    phases: np.ndarray  # [12] rad
    tempo: np.ndarray  # [12] Hz


@dataclasses.dataclass
class SyntheticHands:
    """Frames of a depth camera before which hands move, by the seed alone.

    Args:
        template: HandTemplate of the hands.
        motion: "one" hand that roams; "two" hands, each on its side; "cross": two hands that pass
            before each other, by turns the one and the other in front, every two seconds; "still";
            "wave", a hand that moves to and fro at up to 0.5 m/s and holds its pose.
        frames: how many.
        rate: frames a second.
        seed: of shapes, poses and ways.
        sides: of the hands, "r" and "l"; empty: by the seed, of two hands one of each.
        sensor: its errors.
        noise_mm: deviation of noise added to each pixel with depth.
        size: width and height, pixels.
        speed: factor of the motion's tempo.
    """

    template: HandTemplate
    motion: str = "one"
    frames: int = 300
    rate: float = 30.0
    seed: int = 0
    sides: str = ""
    sensor: SensorSettings = SENSOR
    noise_mm: float = 0.0
    size: tuple[int, int] = (640, 480)
    speed: float = 1.0

    def __post_init__(self):
        if self.motion not in MOTIONS:
            raise ValueError(f"motion {self.motion!r} is not one of {', '.join(MOTIONS)}.")
        self._arrays = laid_out(self.template)
        width, height = self.size
        focal = 475.0 * width / 640.0
        self.intrinsics = np.array([focal, focal, (width - 1) / 2, (height - 1) / 2], np.float32)
        rng = np.random.default_rng(self.seed)
        sides = self.sides
        if not sides:
            first = bool(rng.random() < 0.5)
            sides = "lr"[first] + ("rl"[first] if self.motion in ("two", "cross") else "")
        self._hands = [self._drawn(side == "l", rng) for side in sides]
        self._solids, self._count = _background()

    def _drawn(self, left, rng) -> _Hand:
        shape = rng.normal(size=len(self._arrays.shape_joints)).clip(-1.5, 1.5)
        phases, tempo = rng.uniform(0, 2 * np.pi, 12), rng.uniform(0.1, 0.3, 12)
        return _Hand(left, bool(rng.random() < 0.3), shape, phases, tempo)

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[LiveFrame]:
        for number in range(self.frames):
            yield self.frame(number)

    def frame(self, number: int) -> LiveFrame:
        """Frame `number`, whose depth is float32 mm and whose truth is known."""
        time_s = number / self.rate
        posed = [self._posed(place, time_s) for place in range(len(self._hands))]
        clean, owner, seen = self._rendered([vertices for vertices, _ in posed])
        depth = self._observed(clean, owner, number)
        count = len(self._arrays.vertices)
        truth = Truth(
            tuple("left" if hand.left else "right" for hand in self._hands),
            np.stack([vertices[:count] for vertices, _ in posed]).astype(np.float32),
            np.stack([keypoints for _, keypoints in posed]).astype(np.float32),
            seen,
        )
        return LiveFrame(depth, self.intrinsics, 1.0, time_s, truth)

    def _posed(self, place: int, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Vertices, the forearm's behind the hand's, and key points, mm, camera frame."""
        hand, arrays = self._hands[place], self._arrays
        t = time_s * self.speed
        held = self.motion in ("still", "wave")
        waves = np.sin(2 * np.pi * hand.tempo * (0.0 if held else t) + hand.phases)
        vertices = np.empty([1, len(arrays.vertices) + len(arrays.stub), 3])
        keypoints = np.empty([1, len(arrays.keypoints), 3])
        one = np.zeros(1, np.int64)
        given = GivenHands(
            self._angles(waves)[np.newaxis], hand.shape[np.newaxis], np.eye(3)[np.newaxis], _EXACT
        )
        no_prior = np.empty([0, len(arrays.parents), 3])
        settings = PoseSettings(collision_draws=1)
        pose_hands(arrays, settings, given, no_prior, 0, one, one, one, vertices, keypoints)
        vertices, keypoints = vertices[0], keypoints[0]
        hands = len(arrays.vertices)
        vertices[hands:] = self._forearm(vertices)
        rotation = _upright(arrays.wrist_axes, 0.35 * waves[:3], hand.back)
        middle = vertices[:hands].mean(axis=0)
        if hand.left:
            vertices, keypoints = mirror.mirror_points(vertices), mirror.mirror_points(keypoints)
            rotation = mirror.mirror_points(mirror.mirror_points(rotation).T).T
            middle = mirror.mirror_points(middle)
        target = self._target(place, t, waves)
        return (vertices - middle) @ rotation.T + target, (keypoints - middle) @ rotation.T + target

    def _angles(self, waves) -> np.ndarray:
        """[P, 3] rad: fingers that bend and spread a little, each by its own wave."""
        arrays = self._arrays
        low, high = arrays.limits[..., 0], arrays.limits[..., 1]
        angles = np.zeros_like(low)
        for part, finger in enumerate(arrays.finger):
            if finger < 0:
                continue
            curl = 0.3 + 0.15 * waves[3] + 0.15 * waves[4 + finger % 5]
            if finger == 0 and arrays.segment[part] == 0:
                angles[part] = low[part] + (0.35 + 0.15 * waves[4]) * (high[part] - low[part])
                continue
            angles[part, 0] = curl * high[part, 0]
            if arrays.segment[part] == 0:
                spread = (1 - curl) * 0.2 * waves[9]
                angles[part, 1] = spread * (high[part, 1] if spread > 0 else -low[part, 1])
        return angles

    def _forearm(self, vertices) -> np.ndarray:
        """The forearm at rest, moved and scaled to where the hand's mesh ends."""
        arrays = self._arrays
        rest, end = arrays.vertices[arrays.wrist], vertices[arrays.wrist]
        radius = [np.linalg.norm(ring - ring.mean(axis=0), axis=1).mean() for ring in (rest, end)]
        offset = arrays.stub - rest.mean(axis=0)
        return end.mean(axis=0) + offset * radius[1] / radius[0]

    def _target(self, place: int, t: float, waves) -> np.ndarray:
        """[3] mm where the hand's middle is."""
        if self.motion == "still":
            return np.array([0.0, 0.0, 550.0])
        if self.motion == "wave":
            return np.array([_WAVE_MM * math.sin(_WAVE_MM_S / _WAVE_MM * t), 0.0, 550.0])
        if self.motion == "one":
            return np.array([90 * waves[9], 50 * waves[10], 550 + 80 * waves[11]])
        side = -1.0 if place == 0 else 1.0
        if self.motion == "two":
            return np.array([side * 140 + 40 * waves[9], 40 * waves[10], 600 + 60 * waves[11]])
        # They meet at 1 s, 3 s, ...; who is in front alternates at every second meeting.
        along = 170 * math.cos(math.pi * t / _MEETING_S)
        before = 100 * math.cos(math.pi * t / _MEETING_S / 2)
        return np.array([side * along, 25 * waves[10], 600 + side * before])

    def _rendered(self, hands):
        """Clean depth [H, W] mm, which hand a pixel shows (-1: none) and the shares seen [N]."""
        width, height = self.size
        count = len(self._arrays.vertices)
        depth = np.full([height, width], np.inf)
        owner = np.full([height, width], -1, np.int32)
        columns, rows = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)
        camera = tuple(float(value) for value in self.intrinsics)
        alone, inside = np.zeros(len(hands)), np.zeros(len(hands))
        for number, vertices in enumerate(hands):
            faces = self._arrays.faces
            if self._hands[number].left:
                faces = mirror.mirror_faces(faces)
            own, face, _ = render_mesh(vertices, faces, camera, width, height, NEAR_MM)
            hand = (face >= 0) & (face < self._arrays.hand_faces)
            nearer = own < depth
            depth[nearer] = own[nearer]
            owner[nearer] = np.where(hand[nearer], number, -1)
            alone[number] = hand.sum()
            u = vertices[:count, 0] / vertices[:count, 2] * camera[0] + camera[2]
            v = vertices[:count, 1] / vertices[:count, 2] * camera[1] + camera[3]
            inside[number] = ((u > 0) & (u < width - 1) & (v > 0) & (v < height - 1)).mean()
        scene.render_solids(self._solids, self._count, camera, columns, rows, depth, owner)
        visible = np.array([(owner == number).sum() for number in range(len(hands))])
        return depth, owner, inside * visible / np.maximum(alone, 1)

    def _observed(self, clean, owner, number) -> np.ndarray:
        """What the sensor sees, float32 mm."""
        depth, face = np.empty_like(clean), np.empty_like(owner)
        unused = np.zeros([2, *clean.shape, 2])
        fx = float(self.intrinsics[0])
        observe(
            *((self.sensor,), (1.0,), self.seed, number, 1.0, fx),
            *(clean, owner, unused[0], depth, face, unused[1]),
        )
        if self.noise_mm:
            rng = np.random.default_rng([self.seed, number])
            depth += np.where(depth > 0, rng.normal(0.0, self.noise_mm, depth.shape), 0.0)
        return depth.clip(0).astype(np.float32)


def _upright(axes, turn, back: bool) -> np.ndarray:
    """A rotation [3, 3] that shows a hand, elbow down, from its palm or its back.

    Args:
        axes: `HandArrays.wrist_axes`.
        turn: [3] rad about the camera's x, y and z.
        back: whether the back is seen.
    """
    away = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])  # flexion, deviation, elbow axes go there
    turn = np.array([turn[0], turn[1] + np.pi * back, turn[2]])
    return Rotation.from_euler("xyz", turn).as_matrix() @ away.T @ axes


def _background() -> tuple[np.ndarray, int]:
    """Solids of a person's trunk and of a wall, and how many they are."""
    solids = np.zeros([scene.MAX_SOLIDS, scene.SOLID_FIELDS])
    scene.capsule(solids[0], (0.0, 350.0, 1050.0), np.array([0.0, 1.0, 0.0]), 170.0, 250.0)
    scene.capsule(solids[1], (0.0, -150.0, 1050.0), np.array([0.0, 1.0, 0.0]), 80.0, 50.0)
    # Of half a kilometre's radius: flat within the view.
    scene.capsule(solids[2], (0.0, 0.0, 502_000.0), np.array([0.0, 1.0, 0.0]), 500_000.0, 1000.0)
    return solids, 3
