"""The frame in which the networks see a hand: looking straight at it, its palm pointing up.

A camera that turns about the ray to the hand sees the same picture turned; one that turns about
its own place, a hand elsewhere in the image, sees nearly the same crop. Taking both out leaves the
networks the two rotations to learn that change what is seen of the hand.
"""

import numpy as np
import tensorflow as tf

from dgn_tf.template import HandTemplate


def palm_axis_weights(template: HandTemplate) -> np.ndarray:
    """Weights that read the palm's axis off posed vertices.

    The axis runs from the middle of the wrist loop to the middle of the joints that hang on the
    root: along the palm, to the fingers. Only vertices that move with the root alone count.

    Returns:
        [V] float32 w with sum_v w_v vertices_v = the posed unit axis, whatever the pose of the
        fingers and the palm's rigid motion; w sums to 0. Shape (palms broader or longer than
        the template's) changes its length and hardly its direction.
    """
    vertices = np.asarray(template.vertices, np.float64)
    parents = np.asarray(template.parents)
    root = int(np.flatnonzero(parents == np.arange(len(parents)))[0])
    joints = np.linalg.inv(np.asarray(template.bone_from_template, np.float64))[:, :3, 3]
    hanging = (parents == root) & (np.arange(len(parents)) != root)
    axis = joints[hanging].mean(axis=0) - vertices[template.wrist_loop].mean(axis=0)
    axis /= np.linalg.norm(axis)
    of_root = np.asarray(template.skinning_weights)[:, root]
    # Some templates have hardly a vertex that the root moves alone: then those it moves most.
    rigid = of_root >= min(0.99, np.sort(of_root)[-min(50, len(of_root))])
    away = np.where(rigid[:, np.newaxis], vertices - vertices[rigid].mean(axis=0), 0.0)
    weights = away @ np.linalg.pinv(away.T @ away) @ axis
    return weights.astype(np.float32)


def rotation_to_upright(direction: tf.Tensor) -> tf.Tensor:
    """The turn in the image plane that makes a direction point up.

    Args:
        direction: [B, 2] x right, y down, of any length; 0 counts as up already.

    Returns:
        [B, 2, 2] proper rotations R with R direction = (0, -|direction|).
    """
    # A zero vector gets a length of its own along -y, so that nothing is divided by zero.
    x, y = direction[:, 0], direction[:, 1] - 1e-6
    length = tf.sqrt(x * x + y * y + 1e-20)
    cos, sin = -y / length, -x / length
    return tf.stack([tf.stack([cos, -sin], axis=-1), tf.stack([sin, cos], axis=-1)], axis=-2)


def view_from_camera(centre: tf.Tensor) -> tf.Tensor:
    """The smallest rotation that makes the ray through a crop's centre the z axis.

    Args:
        centre: [B, 3] mm, camera frame, z > 0.

    Returns:
        [B, 3, 3] proper rotations R with R centre = (0, 0, |centre|).
    """
    ray = centre / tf.norm(centre, axis=-1, keepdims=True)
    x, y, z = tf.unstack(ray, axis=-1)
    bend = 1 / (1 + z)  # Rodrigues' formula about (y, -x, 0)
    rows = [
        [1 - bend * x * x, -bend * x * y, -x],
        [-bend * x * y, 1 - bend * y * y, -y],
        [x, y, z],
    ]
    return tf.stack([tf.stack(row, axis=-1) for row in rows], axis=-2)


def about_view(turn: tf.Tensor) -> tf.Tensor:
    """A turn in the image plane, [B, 2, 2], as a rotation about z, [B, 3, 3]."""
    wide = tf.pad(turn, [[0, 0], [0, 1], [0, 1]])
    return wide + tf.constant([[0.0, 0, 0], [0, 0, 0], [0, 0, 1]])


def rotate(vectors: tf.Tensor, rotation: tf.Tensor) -> tf.Tensor:
    """Rotates vectors [B, ..., 3] by [B, 3, 3]; the shape stays."""
    flat = tf.reshape(vectors, [tf.shape(vectors)[0], -1, 3])
    return tf.reshape(tf.matmul(flat, rotation, transpose_b=True), tf.shape(vectors))


def pixel_rotation(rotation: tf.Tensor, channels: int) -> tf.Tensor:
    """The matrix that rotates pixels' points and normals.

    Args:
        rotation: [B, 3, 3].
        channels: C, 4 for x, y, z, mask or 7 with a normal behind.

    Returns:
        [B, C, C]: a pixel, as a row, times it is the pixel seen rotated; the mask stays.
    """
    transposed = tf.linalg.matrix_transpose(rotation)
    mask = np.zeros([channels, channels], np.float32)
    mask[3, 3] = 1
    of_points = tf.pad(transposed, [[0, 0], [0, channels - 3], [0, channels - 3]])
    if channels == 4:
        return of_points + mask
    return of_points + tf.pad(transposed, [[0, 0], [4, 0], [4, 0]]) + mask


def turned_lookup(rotation: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Where each pixel of the turned crop comes from, by nearest neighbour.

    Args:
        rotation: [B, 2, 2] turned_from_crop, about the crop's middle.
        size: S, side of the crop.

    Returns:
        index: [B, S * S] int32 of the crop's pixel, row by row; beyond the border the nearest
            one on it.
        inside: [B, S * S] bool, False for those beyond it.
    """
    middle = (size - 1) / 2
    places = tf.constant(np.arange(size) - middle, tf.float32)
    # R^T times (column, row), crop_from_turned: what the column adds and what the row adds.
    columns, rows = tf.unstack(rotation[..., tf.newaxis] * places, axis=1)  # [B, 2, S] each
    source = columns[:, :, tf.newaxis] + rows[..., tf.newaxis]  # [B, 2, S, S]
    source = tf.cast(tf.floor(source + (middle + 0.5)), tf.int32)
    inside = (source >= 0) & (source < size)
    inside = inside[:, 0] & inside[:, 1]  # [B, S, S]
    source = tf.clip_by_value(source, 0, size - 1)
    index = source[:, 1] * size + source[:, 0]
    flat = [-1, size * size]
    return tf.reshape(index, flat), tf.reshape(inside, flat)


def look_up(values: tf.Tensor, index: tf.Tensor, inside=None, outside=None) -> tf.Tensor:
    """Picks pixels: `values` [B, S, S, C] at `index` [B, S * S], in the shape of `values`.

    Where `inside` [B, S * S] is given and False it picks `outside` [C].
    """
    pixels, channels = values.shape[1] * values.shape[2], values.shape[-1]
    flat = tf.reshape(values, [-1, pixels, channels])
    if inside is not None:
        # One more pixel to pick: many times faster than to choose between pixels afterwards.
        last = tf.tile(tf.reshape(outside, [1, 1, channels]), [tf.shape(flat)[0], 1, 1])
        flat = tf.concat([flat, last], axis=1)
        index = tf.where(inside, index, pixels)
    picked = tf.gather(flat, index, axis=1, batch_dims=1)
    return tf.reshape(picked, [-1, *values.shape[1:]])
