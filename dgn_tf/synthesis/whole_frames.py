"""Whole frames with hands among arms, bodies and clutter, thinned: what the localiser learns from.

Hands, arms and the sensor are those of the crops; around them stands what a crop does not show.
"""

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from dgn_tf.geometry import mirror
from dgn_tf.geometry.raster import rasterize, render_mesh
from dgn_tf.synthesis import scene
from dgn_tf.synthesis.batches import DrawnHand, drawn_hand, laid_out
from dgn_tf.synthesis.crops import NEAR_MM
from dgn_tf.synthesis.hand_measures import HandArrays
from dgn_tf.synthesis.scene import MAX_SOLIDS, SOLID_FIELDS, person_behind, render_solids
from dgn_tf.synthesis.sensor import observe
from dgn_tf.synthesis.settings import SynthesisConfig

# Every frame is thinned to this raster, whatever its size: the localiser's cost is constant.
WIDTH, HEIGHT = 160, 128
HANDS = 2  # at most, of a frame
NOBODY = -1
_SOLIDS = 3 * MAX_SOLIDS
_SECOND = 1 << 40  # added to the number of the sample: the second hand's own streams


class WholeFrameSettings(NamedTuple):
    """What stands in whole frames; shares are of frames, mm."""

    no_hand_share: float = 0.08  # half of them show an arm without its hand
    second_hand_share: float = 0.35
    second_is_other_side_share: float = 0.8
    second_apart_mm: tuple[float, float] = (170.0, 500.0)
    # Of each arm: nothing beyond the forearm, an upper arm, a person, the crops' background.
    body_shares: tuple[float, ...] = (0.2, 0.2, 0.3, 0.3)
    turned_person_share: float = 0.3  # of persons: turned by any rotation, not nearly upright
    clutter: tuple[float, float] = (0.0, 6.0)  # solids
    clutter_distance_mm: tuple[float, float] = (200.0, 2500.0)
    clutter_half_size_mm: tuple[float, float] = (12.0, 220.0)
    clutter_gap_mm: float = 20.0  # around hands: their occluders are drawn as for crops
    aspects: tuple[float, ...] = (0.75, 0.75, 0.75, 0.5625, 0.83, 0.9)  # height over width
    min_pixels: int = 12  # of the raster; a hand with fewer is not looked for


def whole_frame_config(config: SynthesisConfig | None = None) -> SynthesisConfig:
    """The crops' distribution, from nearer to farther and nearer to the frame's border."""
    config = config or SynthesisConfig()
    place = config.place._replace(distance_mm=(260.0, 1400.0), whole_in_frame_share=0.7)
    return dataclasses.replace(config, size=8, place=place)


def render_whole_frames(
    template,
    config: SynthesisConfig,
    settings: WholeFrameSettings,
    seed: int,
    start_index: int,
    count: int,
    pool: ThreadPoolExecutor | None = None,
) -> dict[str, np.ndarray]:
    """Renders samples start_index .. start_index + count - 1 of a seed.

    A sample depends on the template, the settings, the seed and its number alone.

    Args:
        template: HandTemplate.
        config: how hands are posed, placed and seen; see `whole_frame_config`.
        settings: what else is in the frames.
        seed: 0 <= seed < 2^32.
        start_index: number of the first sample, >= 0.
        count: B.
        pool: threads that share the samples.

    Returns:
        depth [B, 128, 160] float32 mm, 0 = missing; intrinsics [B, 4] of that raster, pixels;
        owner [B, 128, 160] int8: the hand that a pixel shows, -1 for none; for each of two hands
        centre [B, 2, 3] mm, camera frame, mean of its visible points; left [B, 2] bool; visible
        [B, 2] bool, whether enough of it is seen.
    """
    hand = laid_out(template)
    stream = seed + (config.salt << 32)

    def render(index):
        return _render(hand, config, settings, stream, index)

    indices = range(start_index, start_index + count)
    samples = list(pool.map(render, indices) if pool else map(render, indices))
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


class _Frame(NamedTuple):
    """What one frame is drawn from: arrays of the template, settings and random numbers."""

    hand: HandArrays
    config: SynthesisConfig
    settings: WholeFrameSettings
    stream: int
    number: int
    generator: np.random.Generator


class _Picture(NamedTuple):
    """A picture that is drawn: its rays, depth [H, W] mm and whose hand a pixel shows [H, W]."""

    camera: tuple[float, float, float, float]
    columns: np.ndarray
    rows: np.ndarray
    depth: np.ndarray
    owner: np.ndarray


def _render(hand, config, settings, stream, index):
    """One sample, as `render_whole_frames` says of each."""
    generator = np.random.default_rng([stream, index])
    frame = _Frame(hand, config, settings, stream, index, generator)
    first = drawn_hand(hand, config, stream, index)
    arms, hidden = [first], False
    if generator.random() < settings.no_hand_share:
        hidden = True
        if generator.random() < 0.5:
            arms = []
    left = [False, False]
    if not hidden and generator.random() < settings.second_hand_share:
        left[1] = bool(generator.random() < settings.second_is_other_side_share)
        arms.append(_second_hand(frame, first, left[1]))
    camera, columns, rows, native = _raster(first.camera, settings, generator)
    depth = np.full([HEIGHT, WIDTH], np.inf)
    owner = np.full([HEIGHT, WIDTH], NOBODY, np.int32)
    picture = _Picture(camera, columns, rows, depth, owner)
    for number, arm in enumerate(arms):
        _add_arm(picture, hand, arm, number, left[number], hidden)
    solids = np.zeros([_SOLIDS, SOLID_FIELDS])
    count = _draw_solids(frame, first, arms, solids)
    render_solids(solids, count, camera, columns, rows, depth, owner)
    centres, visible = _centres(depth, owner, camera, settings)
    observed, owned = np.empty_like(depth), np.empty_like(owner)
    unused = np.zeros([2, HEIGHT, WIDTH, 2])
    observe(
        config.sensors,
        config.sensor_shares,
        stream,
        index,
        native,
        camera[0],
        depth,
        owner,
        unused[0],
        observed,
        owned,
        unused[1],
    )
    sample = {
        "depth": observed.astype(np.float32),
        "intrinsics": np.array(camera, np.float32),
        "owner": owned.astype(np.int8),
        "centre": centres.astype(np.float32),
        "left": np.array(left),
        "visible": visible,
    }
    return _mirrored(sample) if generator.random() < 0.5 else sample


def _second_hand(frame: _Frame, first: DrawnHand, mirrored: bool) -> DrawnHand:
    """Another arm, moved to beside the first one's hand."""
    hand, config, settings, stream, index, generator = frame
    second = drawn_hand(hand, config, stream, index + _SECOND)
    vertices = mirror.mirror_points(second.vertices) if mirrored else second.vertices.copy()
    direction = generator.normal(size=3) * [1.0, 0.7, 0.6]
    direction *= generator.uniform(*settings.second_apart_mm) / np.linalg.norm(direction)
    hands = len(hand.vertices)
    place = first.vertices[:hands].mean(axis=0) + direction
    place[2] = max(place[2], 200.0)
    vertices += place - vertices[:hands].mean(axis=0)
    return second._replace(vertices=vertices)


def _raster(camera, settings, generator):
    """Intrinsics, columns' and rows' rays of the thinned raster, native pixels per its pixel."""
    fx, fy, cx, cy, width, height = camera
    aspect = settings.aspects[generator.integers(len(settings.aspects))]
    tall = round(width * aspect)
    cy += (tall - height) / 2  # the same rays in the middle, more or fewer rows around
    along, down = WIDTH / width, HEIGHT / tall
    intrinsics = (fx * along, fy * down, (cx + 0.5) * along - 0.5, (cy + 0.5) * down - 0.5)
    # The native pixel that thinning picks, in the raster's coordinates.
    columns = (np.floor((np.arange(WIDTH) + 0.5) / along) + 0.5) * along - 0.5
    rows = (np.floor((np.arange(HEIGHT) + 0.5) / down) + 0.5) * down - 0.5
    return intrinsics, columns, rows, 1 / along


def _add_arm(picture: _Picture, hand, arm, number: int, mirrored: bool, hidden: bool):
    """Renders hand `number` with its forearm, or with `hidden` the forearm alone."""
    camera, columns, rows, depth, owner = picture
    first = hand.hand_faces if hidden else 0
    faces = hand.faces[first:] if arm.forearm or hidden else hand.faces[: hand.hand_faces]
    if mirrored:
        faces = mirror.mirror_faces(faces)
    face = np.full([HEIGHT, WIDTH], NOBODY, np.int32)
    snap = 1e-6 + max(
        np.abs(columns - np.arange(WIDTH)).max(), np.abs(rows - np.arange(HEIGHT)).max()
    )
    rasterize(
        arm.vertices,
        faces,
        camera,
        columns,
        rows,
        snap,
        NEAR_MM,
        np.empty_like(arm.vertices),
        depth,
        face,
        np.empty([HEIGHT, WIDTH, 2]),
    )
    nearest = face >= 0
    owner[nearest] = NOBODY
    owner[nearest & (face + first < hand.hand_faces)] = number


def _draw_solids(frame: _Frame, first, arms, solids) -> int:
    """Fills `solids` with occluder, bodies and clutter; returns how many."""
    hand, config, settings, stream, index, generator = frame
    count = scene.draw_occluder(
        config.scene, stream, index, first.vertices[: len(hand.vertices)], solids
    )
    for number, arm in enumerate(arms):
        body = generator.choice(len(settings.body_shares), p=settings.body_shares)
        elbow = _elbow(hand, arm)
        if body == 1:
            count += _upper_arm(hand, arm, elbow, solids[count:], generator)
        elif body == 2 and number == 0:
            added = person_behind(elbow, stream, index, solids[count:])
            _turn(solids[count : count + added], elbow, _body_turn(settings, generator))
            count += added
        elif body == 3 and number == 0:
            count += scene.draw_background(
                config.scene, stream, index, arm.vertices[: len(hand.vertices)], solids[count:]
            )
    hands = [arm.vertices[: len(hand.vertices)] for arm in arms]
    for _ in range(int(generator.uniform(settings.clutter[0], settings.clutter[1] + 1.0))):
        if count < len(solids):
            count += _clutter(settings, first.camera, hands, solids[count], generator)
    if hands and count < len(solids):
        direction = _elbow(hand, first) - first.vertices[hand.wrist].mean(axis=0)
        direction /= np.linalg.norm(direction) + 1e-9
        count += scene.draw_table(
            config.scene, stream, index, np.concatenate(hands), direction, solids[count:]
        )
    return count


def _elbow(hand, arm):
    """Middle of the forearm's far end, [3] mm."""
    along = hand.stub_along
    return arm.vertices[len(hand.vertices) :][along > 0.97 * along.max()].mean(axis=0)


def _upper_arm(hand, arm, elbow, solids, generator) -> int:
    wrist = arm.vertices[hand.wrist].mean(axis=0)
    along = (elbow - wrist) / (np.linalg.norm(elbow - wrist) + 1e-9)
    direction = along + 0.9 * generator.normal(size=3)
    direction /= np.linalg.norm(direction) + 1e-9
    half = generator.uniform(60.0, 160.0)
    radius = generator.uniform(35.0, 60.0)
    scene.capsule(solids[0], elbow + half * direction, direction, radius, half)
    return 1


def _body_turn(settings, generator):
    """A rotation [3, 3]: any, or one of some degrees."""
    axis = generator.normal(size=3)
    axis /= np.linalg.norm(axis) + 1e-9
    angle = math.radians(15.0) * generator.normal()
    if generator.random() < settings.turned_person_share:
        angle = generator.uniform(-math.pi, math.pi)
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def _turn(solids, about, rotation):
    """Turns solids (rows of `scene`) about a point, in place."""
    for row in solids:
        row[1:4] = rotation @ (row[1:4] - about) + about
        row[4:13] = (rotation @ row[4:13].reshape(3, 3)).ravel()


def _clutter(settings, camera, hands, row, generator) -> int:
    """A solid anywhere in the view that keeps off the hands; 0 where the place was theirs."""
    fx, fy, cx, cy, width, height = camera
    z = generator.uniform(*settings.clutter_distance_mm)
    u, v = generator.uniform(-0.1, 1.1) * width, generator.uniform(-0.1, 1.1) * height
    low, high = settings.clutter_half_size_mm
    sizes = np.exp(generator.uniform(math.log(low), math.log(high), size=3))
    centre = np.array([(u - cx) / fx * z, (v - cy) / fy * z, z])
    reach = np.linalg.norm(sizes)
    if z - reach < 60.0:
        return 0
    for hand in hands:
        apart = np.linalg.norm(hand[::7] - centre, axis=1).min()
        if apart < reach + settings.clutter_gap_mm:
            return 0
    scene.any_solid(row, centre, sizes, generator)
    return 1


def _centres(depth, owner, camera, settings):
    """Mean of each hand's visible points [2, 3] mm (zeros where unseen), and whether it is seen."""
    fx, fy, cx, cy = camera
    centres, visible = np.zeros([HANDS, 3]), np.zeros(HANDS, bool)
    for number in range(HANDS):
        row, column = np.nonzero(owner == number)
        if len(row) >= settings.min_pixels:
            z = depth[row, column]
            points = np.stack([(column - cx) / fx * z, (row - cy) / fy * z, z], axis=1)
            centres[number], visible[number] = points.mean(axis=0), True
    return centres, visible


def _mirrored(sample):
    """The sample in a mirror: every right hand is a left one."""
    return {
        **mirror.mirror_named(sample),
        "intrinsics": mirror.mirror_intrinsics(sample["intrinsics"], WIDTH),
        "owner": mirror.mirror_image(sample["owner"]),
        "left": ~sample["left"],
    }


# Whole frames of a depth camera: hand, forearm, a person behind, noise at native resolution.


def render_frame(
    template,
    config: SynthesisConfig,
    seed: int,
    index: int,
    width: int = 640,
    height: int = 480,
    intrinsics: tuple[float, float, float, float] = (475.0, 475.0, 319.5, 239.5),
) -> dict[str, np.ndarray]:
    """Renders sample `index` as the frame of a camera, with the person whose hand it is.

    Hand, pose, rotation and distance are drawn as for crops. There is no occluder and, instead of
    the config's background, a person to whom the forearm belongs.

    Args:
        template: HandTemplate.
        config: what to sample from.
        seed: 0 <= seed < 2^32.
        index: number of the sample.
        width: columns of the frame.
        height: rows of the frame.
        intrinsics: fx, fy, cx, cy in pixels.

    Returns:
        depth [H, W] uint16 mm, 0 = missing; face [H, W] int32, -1 = no hand; barycentric
        [H, W, 2]; clean [H, W] float64 mm, inf where empty, and clean_face [H, W], the same before
        the sensor; intrinsics [4]; vertices [V, 3] and keypoints [J, 3] mm, camera frame.
    """
    hand = laid_out(template)
    # Drawn for the camera at hand, so that the hand falls into the frame.
    place = config.place._replace(
        image_widths=(width,), focal_per_width=(intrinsics[0] / width,) * 2
    )
    config = dataclasses.replace(config, place=place)
    stream = seed + (config.salt << 32)
    drawn = drawn_hand(hand, config, stream, index)
    vertices, keypoints = drawn.vertices, drawn.keypoints
    depth, face, barycentric = render_mesh(vertices, hand.faces, intrinsics, width, height, NEAR_MM)
    face[face >= hand.hand_faces] = -1
    solids = np.zeros([MAX_SOLIDS, SOLID_FIELDS])
    elbow = vertices[len(hand.vertices) :][hand.stub_along > 0.97 * hand.stub_along.max()]
    count = person_behind(elbow.mean(axis=0), stream, index, solids)
    columns, rows = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)
    camera = tuple(float(value) for value in intrinsics)
    render_solids(solids, count, camera, columns, rows, depth, face)
    observed = np.empty_like(depth)
    observed_face = np.empty_like(face)
    observed_barycentric = np.empty_like(barycentric)
    observe(
        config.sensors,
        config.sensor_shares,
        stream,
        index,
        1.0,
        camera[0],
        depth,
        face,
        barycentric,
        observed,
        observed_face,
        observed_barycentric,
    )
    return {
        "depth": np.rint(observed.clip(0, 65535)).astype(np.uint16),
        "clean": depth,
        "clean_face": face,
        "face": observed_face,
        "barycentric": observed_barycentric,
        "intrinsics": np.array(intrinsics),
        "vertices": drawn.straight,
        "keypoints": keypoints,
    }
