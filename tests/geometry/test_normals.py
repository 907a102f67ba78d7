"""Normals of planes and spheres, and where there are none."""

import numpy as np
import tensorflow as tf

from dgn_tf.geometry.camera import pixel_normals


def plane(normal, size=9):
    """Points of pixels on a plane through (0, 0, 10), along rays x / z = u, y / z = v."""
    u, v = np.meshgrid(np.linspace(-0.2, 0.2, size), np.linspace(-0.2, 0.2, size))
    rays = np.stack([u, v, np.ones_like(u)], axis=-1)
    depth = 10 * normal[2] / (rays @ normal)
    return (rays * depth[..., None]).astype(np.float32)[None]


def normals(points, valid):
    """[B, S, S, 3] of points [B, S, S, 3] and valid [B, S, S]."""
    pixels = tf.concat([points, tf.cast(valid, tf.float32)[..., tf.newaxis]], axis=-1)
    return tf.transpose(pixel_normals(tf.transpose(pixels, [0, 3, 1, 2])), [0, 2, 3, 1])


class PixelNormalsTest(tf.test.TestCase):
    def test_a_plane_has_its_normal_everywhere_towards_the_camera(self):
        for direction in ([0, 0, -1], [0.3, -0.2, -1], [-0.6, 0.5, -1]):
            normal = np.float32(direction) / np.linalg.norm(direction)
            got = normals(plane(normal), tf.ones([1, 9, 9]))
            self.assertAllClose(got, np.broadcast_to(normal, [1, 9, 9, 3]), atol=1e-4)

    def test_normals_do_not_depend_on_the_unit(self):
        points = plane(np.float32([0.1, 0.4, -0.9]))
        ones = tf.ones([1, 9, 9])
        self.assertAllClose(normals(points, ones), normals(points / 1000, ones), atol=1e-4)

    def test_a_missing_pixel_takes_its_neighbours_normals_along(self):
        valid = np.ones([1, 9, 9], np.float32)
        valid[0, 4, 4] = 0
        got = normals(plane(np.float32([0, 0, -1])), valid).numpy()
        none = np.linalg.norm(got[0], axis=-1) == 0
        wanted = np.zeros([9, 9], bool)
        wanted[4, 3:6] = wanted[3:6, 4] = True
        np.testing.assert_array_equal(none, wanted)

    def test_empty_crop_has_zero_normals_and_finite_gradients(self):
        points = tf.zeros([1, 9, 9, 3])
        with tf.GradientTape() as tape:
            tape.watch(points)
            got = normals(points, tf.zeros([1, 9, 9]))
        self.assertAllEqual(got, np.zeros([1, 9, 9, 3]))
        self.assertAllEqual(tape.gradient(got, points), np.zeros([1, 9, 9, 3]))


if __name__ == "__main__":
    tf.test.main()
