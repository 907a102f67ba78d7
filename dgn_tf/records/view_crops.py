"""Crops out of a record's window, and augmentation that keeps the geometry exact.

A roll by `angle` about the optical axis is a camera turned in its own plane: points become
Rz(angle) p, depth stays. A scale s is the same scene s times as large: points, depth, centres and
translations grow together and every pixel keeps its ray. So a crop pixel, its depth, the joints and
the extrinsics agree after augmentation as they did before; only the centre's jitter, noise and
holes are not motions of the scene, and they touch the centre or the depth alone.
"""

import dataclasses
import math

import tensorflow as tf

from dgn_tf.geometry.camera import crop_camera, crop_from_frame

_HOLES = 8
# Purposes of random draws, each a stream of its own.
_SCALE, _MOTION, _NOISE, _HOLE = range(4)


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Ranges of the augmentation.

    rotation: roll about the optical axis, radians, uniform in +-.
    scale: bounds of the scene's scale, uniform; one number for all views of a time step.
    centre_jitter_mm: the crop's centre moves along each axis, uniform in +-, mm.
    depth_noise: deviation in mm of white noise at 1 m; it grows with the square of the depth.
    hole_share: share of a crop's pixels that round holes take, where they don't overlap.

    Raises:
        ValueError: a bound is not finite, negative or out of order.
    """

    rotation: float = math.pi
    scale: tuple[float, float] = (0.9, 1.1)
    centre_jitter_mm: float = 8.0
    depth_noise: float = 1.0
    hole_share: float = 0.02

    def __post_init__(self):
        for name in ("rotation", "centre_jitter_mm", "depth_noise", "hole_share"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"AugmentConfig wants {name} finite and >= 0, got {value}.")
        if self.hole_share >= 1:
            raise ValueError(f"AugmentConfig wants hole_share below 1, got {self.hole_share}.")
        low, high = self.scale
        if not 0 < low <= high < math.inf:
            raise ValueError(f"AugmentConfig wants scale 0 < low <= high, got {self.scale}.")


NONE = AugmentConfig(0.0, (1.0, 1.0), 0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Motion:
    """One view's augmentation: `angle` [] radians, `scale` [], `jitter` [3] mm."""

    angle: tf.Tensor
    scale: tf.Tensor
    jitter: tf.Tensor


def draw_motion(config: AugmentConfig, seed: int, number: tf.Tensor, view: int = 0) -> Motion:
    """Draws a view's motion from (seed, number, view) alone.

    Args:
        config: ranges.
        seed: of the run.
        number: [] int64 number of the example in the run; its views share the scale.
        view: place of the view in its time step.
    """
    scale = tf.random.stateless_uniform([], _key(seed, number, _SCALE, 0), *config.scale)
    unit = tf.random.stateless_uniform([4], _key(seed, number, _MOTION, view), -1.0, 1.0)
    return Motion(unit[0] * config.rotation, scale, unit[1:] * config.centre_jitter_mm)


def roll_matrix(angle: tf.Tensor) -> tf.Tensor:
    """Returns [3, 3] rolled_from_camera: Rz(angle), from +x (right) towards +y (down)."""
    cosine, sine = tf.cos(angle), tf.sin(angle)
    zero, one = tf.zeros_like(angle), tf.ones_like(angle)
    return tf.reshape(tf.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one]), [3, 3])


def move_points(points: tf.Tensor, motion: Motion) -> tf.Tensor:
    """Moves points [..., 3], mm, camera frame, into the augmented camera's frame."""
    return motion.scale * tf.linalg.matvec(roll_matrix(motion.angle), points)


def move_extrinsics(camera_from_rig: tf.Tensor, motion: Motion) -> tf.Tensor:
    """The augmented camera_from_rig [4, 4], mm: of a rig frame that is scaled as well.

    A moved point's place in the rig frame is `scale` times what it was, for every roll.
    """
    turned = tf.matmul(roll_matrix(motion.angle), camera_from_rig[:3])  # [3, 4]
    scales = tf.stack([1.0, 1.0, 1.0, motion.scale])
    return tf.concat([turned * scales, camera_from_rig[3:]], axis=0)


def crop_window(
    window: tf.Tensor,
    left_top: tf.Tensor,
    intrinsics: tf.Tensor,
    centre: tf.Tensor,
    cube: tf.Tensor,
    motion: Motion,
    size: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Looks a crop's pixels up in a window of the frame, by exact rays and nearest neighbour.

    A pixel of the crop has a ray of the rolled camera; turned back it meets the frame at a place
    whose nearest pixel gives the depth. Unmoved, this is `geometry.camera.crop_depth` to the bit.

    Args:
        window: [h, w] mm, 0 = missing; pixel (0, 0) is the frame's pixel `left_top`.
        left_top: [2] integers, column and row.
        intrinsics: [4] (fx, fy, cx, cy) of the frame; the rolled camera has the same.
        centre: [3] mm, of the crop, in the augmented camera's frame, z > 0.
        cube: [] side of the cube, mm.
        motion: roll and scale; the jitter has no part here.
        size: S, pixels.

    Returns:
        depth: [S, S] mm, scaled; 0 where missing or outside the window.
        crop_intrinsics: [4] of the crop, pixels.
    """
    camera, around, side = intrinsics[tf.newaxis], centre[tf.newaxis], cube[tf.newaxis]
    scale, offset = crop_from_frame(camera, around, side, size)
    pixels = tf.range(size, dtype=tf.float32)
    column = (pixels - offset[0, 0]) / scale[0, 0]  # [S], of the rolled frame
    row = ((pixels - offset[0, 1]) / scale[0, 1])[:, tf.newaxis]  # [S, 1]
    fx, fy, cx, cy = tf.unstack(intrinsics)
    sine, versine = tf.sin(motion.angle), tf.cos(motion.angle) - 1.0
    # As what the roll adds, so that no roll adds exactly 0.
    turned_column = column + versine * (column - cx) + sine * (fx / fy) * (row - cy)  # [S, S]
    turned_row = row + versine * (row - cy) - sine * (fy / fx) * (column - cx)
    frame = tf.floor(tf.stack([turned_row, turned_column], axis=-1) + 0.5)  # [S, S, 2]
    # Clip before the cast: a float beyond int32 has no defined integer.
    frame = tf.cast(tf.clip_by_value(frame, -1.0, 1e6), tf.int32)
    place = frame - tf.cast(left_top, tf.int32)[::-1]
    limits = tf.shape(window)
    inside = tf.reduce_all((place >= 0) & (place < limits), axis=-1)
    depth = tf.gather_nd(window, tf.clip_by_value(place, 0, limits - 1))
    depth = tf.where(inside, depth * motion.scale, 0.0)
    return depth, crop_camera(camera, around, side, size)[0]


def add_noise(depth: tf.Tensor, sigma: float, seed: tf.Tensor) -> tf.Tensor:
    """White noise of deviation `sigma` mm at 1 m, growing with z^2, on what is not missing.

    `depth` [S, S] mm, 0 = missing, which stays missing; what is there never becomes missing.
    """
    noise = tf.random.stateless_normal(tf.shape(depth), seed)
    noisy = tf.maximum(depth + sigma * noise * tf.square(depth / 1000.0), 1.0)
    return tf.where(depth > 0, noisy, 0.0)


def punch_holes(depth: tf.Tensor, share: float, seed: tf.Tensor) -> tf.Tensor:
    """Sets discs of `depth` [S, S] to 0, missing; together about `share` of its pixels."""
    size = tf.cast(tf.shape(depth)[0], tf.float32)
    unit = tf.random.stateless_uniform([3, _HOLES], seed)
    # Squared radii are uniform, with the mean that gives each disc its part of the share.
    square_radius = unit[0] * (2.0 * share / (_HOLES * math.pi)) * size**2
    columns, rows = unit[1] * size - 0.5, unit[2] * size - 0.5
    pixels = tf.range(size)[:, tf.newaxis]
    across = tf.square(pixels - columns)[tf.newaxis]  # [1, S, H]
    down = tf.square(pixels - rows)[:, tf.newaxis]  # [S, 1, H]
    lost = tf.reduce_any(across + down < square_radius, axis=-1)
    return tf.where(lost, 0.0, depth)


def augmented_view(
    view: dict[str, tf.Tensor],
    config: AugmentConfig,
    seed: int,
    number: tf.Tensor,
    place: int = 0,
    size: int = 64,
) -> dict[str, tf.Tensor]:
    """Crops one view of a record, moved by its draw.

    Args:
        view: `window` [h, w] mm, `left_top` [2], `intrinsics` [4] of the frame, `centre` [3],
            `cube` [], `camera_from_rig` [4, 4], `keypoints` [J, 3], `keypoints_valid` [J].
        config: what to draw; `NONE` leaves everything as it is, to the bit.
        seed: of the run.
        number: [] int64, number of the example in the run.
        place: of the view in its time step.
        size: S, pixels.

    Returns:
        depth [S, S] mm, 0 = missing; intrinsics [4] of the crop; frame_intrinsics [4]; centre [3];
        cube []; keypoints [J, 3], 0 where invalid; keypoints_valid [J] float32;
        camera_from_rig [4, 4]: all in the augmented camera's frame, mm.
    """
    motion = draw_motion(config, seed, number, place)
    centre = move_points(view["centre"] + motion.jitter, motion)
    depth, intrinsics = crop_window(
        view["window"], view["left_top"], view["intrinsics"], centre, view["cube"], motion, size
    )
    if config.depth_noise:
        depth = add_noise(depth, config.depth_noise, _key(seed, number, _NOISE, place))
    if config.hole_share:
        depth = punch_holes(depth, config.hole_share, _key(seed, number, _HOLE, place))
    return {
        "depth": depth,
        "intrinsics": intrinsics,
        "frame_intrinsics": view["intrinsics"],
        "centre": centre,
        "cube": view["cube"],
        "keypoints": move_points(view["keypoints"], motion),
        "keypoints_valid": tf.cast(view["keypoints_valid"], tf.float32),
        "camera_from_rig": move_extrinsics(view["camera_from_rig"], motion),
    }


def _key(seed, number, purpose, place):
    """[2] int64 seed of one stateless draw."""
    key = tf.stack([tf.constant(seed, tf.int64), tf.cast(number, tf.int64)])
    return tf.random.experimental.stateless_fold_in(key, 4 * place + purpose)
