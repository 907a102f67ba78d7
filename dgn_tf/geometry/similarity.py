"""Similarity of the template to estimated vertices, part by part (Eq. 3), in closed form.

The rotation is the polar rotation of a 3x3 covariance: R = U diag(1, 1, +-1) V^T of its SVD, the
sign making it proper. Two solvers find it, alike to 1e-4: `svd` is `tf.linalg.svd`, what training
uses; `horn` is plain arithmetic, what is exported (converters such as TensorRT's know no SVD). The
gradient of both is written out: autodiff through `tf.linalg.svd` is silently zero at repeated
singular values.

Products of 3x3 and 4x4 matrices are written as sums: a GPU may round `tf.matmul` to TF32, whose
three digits are not enough here.
"""

import numpy as np
import tensorflow as tf

# Squarings of the 4x4 matrix: the 2^24th power leaves a relative gap of 1e-6 resolved.
_SQUARINGS = 24
# Damping of the 3x3 solves relative to the covariance's largest entry.
_DAMPING = 5e-4
SOLVERS = ("svd", "horn")


def fit_similarity(
    points: tf.Tensor,
    template_vertices: np.ndarray,
    weights: np.ndarray,
    scale: str = "umeyama",
    solver: str = "horn",
) -> tf.Tensor:
    """Fits the template's parts to points, Eq. (3).

    Args:
        points: [B, V, 3] estimated vertices P_s, mm, camera frame.
        template_vertices: [V, 3] constant rest vertices Q, mm.
        weights: [V, P] constant, >= 0: how much a vertex counts for a part.
        scale: 'umeyama' minimises Eq. (3); 'symmetric' is the ratio of the two sets' sizes,
            which noise does not shrink but enlarge; 'none' is 1.
        solver: of the rotations, see `polar_rotation`.

    Returns:
        [B, P, 4, 4] camera_from_template, float32; rotations are always proper.
    """
    basis = similarity_basis(template_vertices, weights)
    return fit_similarity_by_basis(points, basis, scale, solver)


def similarity_basis(template_vertices: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Folds the template into the constants that `fit_similarity_by_basis` wants.

    Args:
        template_vertices: [V, 3] mm.
        weights: [V, P] >= 0.

    Returns:
        matrix: [V, P*4] float32. Times centred points it gives, for each part, the covariance
            sum_i w_i p_i (q_i - q_mean)^T / sum_i w_i |q_i - q_mean|^2 in three columns and the
            mean of the points in the fourth.
        means: [P, 3] float32 q_mean.
        part_weights: [V, P] float32 with columns that sum to 1.
        spread: [P] float32 sum_i w_i |q_i - q_mean|^2 / sum_i w_i, mm^2.

    Raises:
        ValueError: the shapes don't fit.
    """
    vertices = np.asarray(template_vertices, np.float64)
    weights = np.asarray(weights, np.float64)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or len(weights) != len(vertices):
        raise ValueError(
            "A similarity fit wants template vertices [V, 3] and weights [V, P], "
            f"got {vertices.shape} and {weights.shape}."
        )
    weights = weights / np.maximum(weights.sum(axis=0), 1e-12)  # [V, P]
    means = weights.T @ vertices  # [P, 3]
    centred = vertices[:, None] - means  # [V, P, 3]
    spread = np.sum(weights[..., None] * centred**2, axis=(0, 2))  # [P]
    moments = weights[..., None] * centred / np.maximum(spread, 1e-12)[:, None]  # [V, P, 3]
    matrix = np.concatenate([moments, weights[..., None]], axis=-1)  # [V, P, 4]
    constants = {
        "matrix": matrix.reshape(len(vertices), -1),
        "means": means,
        "part_weights": weights,
        "spread": spread,
    }
    return {name: value.astype(np.float32) for name, value in constants.items()}


def fit_similarity_by_basis(
    points: tf.Tensor, basis: dict[str, np.ndarray], scale: str = "umeyama", solver: str = "horn"
) -> tf.Tensor:
    """`fit_similarity` with the constants of `similarity_basis`."""
    if scale not in ("umeyama", "symmetric", "none"):
        raise ValueError(f"scale wants umeyama, symmetric or none, got {scale!r}.")
    points = tf.cast(points, tf.float32)
    vertices, parts = basis["part_weights"].shape
    # The hand is far from the camera and small: centre before float32 products cancel.
    centre = tf.reduce_mean(points, axis=1, keepdims=True)  # [B, 1, 3]
    points = tf.linalg.matrix_transpose(points - centre)  # [B, 3, V]
    moments = tf.reshape(points, [-1, vertices]) @ basis["matrix"]  # [B*3, P*4]
    moments = tf.transpose(tf.reshape(moments, [-1, 3, parts, 4]), [0, 2, 1, 3])  # [B, P, 3, 4]
    covariance, mean = moments[..., :3], moments[..., 3:]
    rotation = polar_rotation(covariance, solver)
    linear = rotation
    if scale == "umeyama":
        # trace(R^T H); H carries the division by the template's spread.
        linear = rotation * tf.reduce_sum(rotation * covariance, axis=[-2, -1], keepdims=True)
    elif scale == "symmetric":
        square = tf.reduce_sum(points**2, axis=1) @ basis["part_weights"]  # [B, P]
        variance = square - tf.reduce_sum(mean[..., 0] ** 2, axis=-1)
        ratio = tf.maximum(variance, 1e-6) / np.maximum(basis["spread"], 1e-6)
        linear = rotation * tf.sqrt(ratio)[..., tf.newaxis, tf.newaxis]
    template_mean = tf.constant(basis["means"])[..., tf.newaxis]  # [P, 3, 1]
    translation = mean - linear @ template_mean + centre[:, tf.newaxis, 0, :, tf.newaxis]
    upper = tf.concat([linear, translation], axis=-1)  # [B, P, 3, 4]
    last = tf.zeros_like(upper[..., :1, :]) + tf.constant([[0.0, 0, 0, 1]])
    return tf.concat([upper, last], axis=-2)


def polar_rotation(matrix: tf.Tensor, solver: str = "horn") -> tf.Tensor:
    """Finds the proper rotation R that maximises trace(R^T M).

    By `svd` R = U diag(1, 1, +-1) V^T. By `horn` the unit quaternion of R is the eigenvector of a
    4x4 matrix's largest eigenvalue, s1 + s2 + s3 with singular values s1 >= s2 >= |s3|, s3 signed
    by det M: repeated squaring of the shifted matrix isolates it, and a Newton step on the
    rotation then takes it to float32's precision.

    Where s2 + s3 > 0.01 s1, R is within 3e-5 of the float64 SVD's. A rod's turn about its own
    axis is lost where the rod is thinner than 2e-3 of its length: what tells of it in M is
    beyond float32.

    The gradient: with S = R^T M (symmetric), dR = R [w]x where
    (trace(S) I - S) w = vee(R^T dM - dM^T R). The left side has the eigenvalues s_i + s_j; where
    s2 + s3 vanishes R is not unique (collinear and reflected sets) and the solve is damped.

    Args:
        matrix: [..., 3, 3] M, any finite values.
        solver: `svd` or `horn`.

    Returns:
        [..., 3, 3] float32 rotations, determinant +1; the identity for a zero matrix.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver wants svd or horn, got {solver!r}.")
    solve = _rotation_by_svd if solver == "svd" else _rotation_by_horn

    @tf.custom_gradient
    def polar(matrix):
        # An entry of 1 is the largest afterwards; 1e-30 keeps a zero matrix zero.
        size = tf.reduce_max(tf.abs(matrix), axis=[-2, -1], keepdims=True)
        unit = matrix / tf.maximum(size, 1e-30)
        rotation = solve(unit)

        def gradient(upstream):
            symmetric = _transposed_product(rotation, unit)
            turn = _vee(_transposed_product(rotation, upstream))
            turn = _solve_damped(symmetric, turn, steps=3)
            by_unit = tf.linalg.cross(
                tf.broadcast_to(turn[..., tf.newaxis, :], tf.shape(unit)), -rotation
            )  # the rows of R [turn]x
            # 1 / size, but bounded where the points have collapsed onto each other.
            return by_unit * (size / (size**2 + 1e-12))

        return rotation, gradient

    return polar(tf.cast(matrix, tf.float32))


def _rotation_by_svd(unit):
    _, u, v = tf.linalg.svd(unit)
    proper = determinant(u) * determinant(v) > 0
    last = tf.where(proper, 1.0, -1.0)[..., tf.newaxis]
    turned = tf.concat([u[..., :2], u[..., 2:] * last[..., tf.newaxis]], axis=-1)
    return tf.reduce_sum(turned[..., :, tf.newaxis, :] * v[..., tf.newaxis, :, :], axis=-1)


def _rotation_by_horn(unit):
    return _rotation_from_quaternion(_polish(_horn_quaternion(unit), unit))


# The upper triangle of a symmetric 4x4 matrix, and where entry (i, j) stands in it.
_UPPER = [(i, j) for i in range(4) for j in range(i, 4)]
_PLACE = np.array(
    [[_UPPER.index((min(i, j), max(i, j))) for j in range(4)] for i in range(4)], np.int32
)
# Entry (i, j) of the square is the sum over k of entries (i, k) and (k, j): [4 k, 10].
_LEFT = np.stack([_PLACE[[i for i, _ in _UPPER], k] for k in range(4)])
_RIGHT = np.stack([_PLACE[k, [j for _, j in _UPPER]] for k in range(4)])


def _horn_quaternion(m):
    """Eigenvector of the largest eigenvalue of Horn's matrix of M^T (R maps q to p).

    Symmetric matrices are kept as ten rows of one number for each M, [10, N]: wide rows are
    several times faster than many 4x4 matrices.
    """
    entries = tf.unstack(tf.transpose(tf.reshape(m, [-1, 9])))  # of [N]
    xx, xy, xz, yx, yy, yz, zx, zy, zz = entries
    # Eigenvalues are s1 + s2 + s3 down to -(s1 + s2 - s3); the shift, at least s1 + s2 + |s3|,
    # makes them all >= 0 and the one wanted the largest in magnitude.
    shift = tf.sqrt(3 * tf.reduce_sum(m**2, axis=[-2, -1]) + 1e-30)
    shift = tf.reshape(shift, [-1])
    power = tf.stack(
        [
            xx + yy + zz + shift,
            zy - yz,
            xz - zx,
            yx - xy,
            xx - yy - zz + shift,
            xy + yx,
            xz + zx,
            yy - xx - zz + shift,
            yz + zy,
            zz - xx - yy + shift,
        ]
    )
    for step in range(_SQUARINGS):
        if step % 4 == 0:  # after four squarings the largest eigenvalue is still > 4^-16
            power = power / tf.reduce_sum(tf.gather(power, np.diag(_PLACE)), axis=0)
        power = _square(power)
    column = tf.argmax(tf.gather(power, np.diag(_PLACE)), axis=0, output_type=tf.int32)
    column = tf.transpose(one_hot(column, 4))  # [4, N]
    matrix = tf.reshape(tf.gather(power, _PLACE.ravel()), [4, 4, -1])
    quaternion = tf.reduce_sum(matrix * column, axis=1)  # [4, N]
    largest = tf.reduce_max(tf.abs(quaternion), axis=0)
    quaternion = tf.transpose(quaternion / largest)
    return _unit(tf.reshape(quaternion, tf.concat([tf.shape(m)[:-2], [4]], axis=0)))


def _square(symmetric):
    """A A of symmetric A, [10, N]."""
    left, right = (tf.gather(symmetric, place.ravel()) for place in (_LEFT, _RIGHT))  # [40, N]
    return tf.reduce_sum(tf.reshape(left * right, [4, 10, -1]), axis=0)


def _polish(quaternion, unit):
    """A Newton step to the maximum of trace(R^T M): undoes the rounding of the squarings."""
    product = _transposed_product(_rotation_from_quaternion(quaternion), unit)
    symmetric = (product + tf.linalg.matrix_transpose(product)) / 2
    half_turn = _solve_damped(symmetric, _vee(product), steps=1) / 2
    return _unit(_multiply(quaternion, tf.clip_by_value(half_turn, -0.1, 0.1)))


def _solve_damped(symmetric, right, steps):
    """Solves (trace(S) I - S) y = right; [..., 3, 3] and [..., 3] -> [..., 3].

    Damped by delta and refined: a component of eigenvalue z is off by (delta / (z + delta))^steps
    only, and grows by at most steps / delta. The inverse is that of cofactors; the refinement
    also mends their rounding.
    """
    diagonal_sum = trace(symmetric)[..., tf.newaxis, tf.newaxis]
    eye = np.eye(3, dtype=np.float32)
    system = diagonal_sum * eye - symmetric
    damped = system + _DAMPING * eye
    first, second, third = tf.unstack(damped, axis=-2)
    rows = [cross(second, third), cross(third, first), cross(first, second)]
    determinant = tf.reduce_sum(first * rows[0], axis=-1)[..., tf.newaxis, tf.newaxis]
    # Rounding may leave a determinant of the wrong sign; its least value is delta^3.
    inverse = tf.stack(rows, axis=-2) / tf.maximum(determinant, _DAMPING**3)
    solution = _matvec(inverse, right)
    for _ in range(steps - 1):
        solution += _matvec(inverse, right - _matvec(system, solution))
    return solution


def _matvec(matrix, vector):
    return tf.reduce_sum(matrix * vector[..., tf.newaxis, :], axis=-1)


def _transposed_product(a, b):
    """a^T b of [..., 3, 3]."""
    return tf.reduce_sum(a[..., :, :, tf.newaxis] * b[..., :, tf.newaxis, :], axis=-3)


def _vee(m):
    """(m - m^T) as a vector."""
    return tf.stack(
        [m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]],
        axis=-1,
    )


def _unit(vector):
    return vector / tf.sqrt(tf.reduce_sum(vector**2, axis=-1, keepdims=True))


def _multiply(quaternion, half_turn):
    """q (1 + half_turn): R(q) followed, on its right, by a small turn."""
    w, v = quaternion[..., :1], quaternion[..., 1:]
    real = w - tf.reduce_sum(v * half_turn, axis=-1, keepdims=True)
    return tf.concat([real, v + w * half_turn + cross(v, half_turn)], axis=-1)


def _rotation_from_quaternion(quaternion):
    w, x, y, z = tf.unstack(quaternion, axis=-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return tf.stack([tf.stack(row, axis=-1) for row in rows], axis=-2)


# Small vector algebra from elementary arithmetic, which every runtime knows.
#
# TensorRT has no converter for `Cross`, `OneHot` and `MatrixDiagPart`, LiteRT no kernel for the
# first
# and the last; on the few numbers at hand plain arithmetic is as fast.


def cross(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """The cross product of [..., 3] and [..., 3], of one shape."""
    ax, ay, az = tf.unstack(a, axis=-1)
    bx, by, bz = tf.unstack(b, axis=-1)
    return tf.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def trace(matrix: tf.Tensor) -> tf.Tensor:
    """The traces [...] of finite square matrices [..., n, n] of known size."""
    eye = np.eye(matrix.shape[-1], dtype=np.float32)
    return tf.reduce_sum(matrix * eye, axis=[-2, -1])


def determinant(matrix: tf.Tensor) -> tf.Tensor:
    """The determinants [...] of [..., 3, 3]."""
    first, second, third = tf.unstack(matrix, axis=-2)
    return tf.reduce_sum(first * cross(second, third), axis=-1)


def one_hot(index: tf.Tensor, depth: int) -> tf.Tensor:
    """float32 [..., depth] with 1 at `index` [...] int32, else 0."""
    return tf.cast(tf.equal(index[..., tf.newaxis], np.arange(depth, dtype=np.int32)), tf.float32)
