"""The fit of Eq. (3) against float64 SVD, on 100,000 sets in all."""

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.geometry import similarity

PARTS, POINTS, BATCH = 25, 12, 1000  # 25,000 sets of each kind
KINDS = ("random", "planar", "collinear", "reflected")
SOLVERS = pytest.mark.parametrize("solver", similarity.SOLVERS)
FORBIDDEN = {"Svd", "SelfAdjointEigV2", "MatrixDeterminant", "MatrixInverse", "Qr"}


def svd_rotation(matrix):
    """Polar rotation and signed singular values of [..., 3, 3] in float64."""
    u, s, vt = np.linalg.svd(np.asarray(matrix, np.float64))
    sign = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    u[..., :, 2] *= sign[..., None]
    s[..., 2] *= sign
    return u @ vt, s


def _rotations(rng, *shape):
    return svd_rotation(rng.normal(size=[*shape, 3, 3]))[0]


def _unique(singular):
    """Where the bar asks for the rotation itself: it is well determined."""
    return singular[..., 1] + singular[..., 2] > 0.01 * singular[..., 0]


def _sets(kind, batch=BATCH, seed=0):
    """Parts of a hand and where a network may have put their vertices, mm.

    Returns:
        template [P*N, 3], weights [P*N, P], points [B, P*N, 3] float32.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    size = np.ones(3)
    if kind == "planar":
        size = np.array([1, 1, 0])
    elif kind == "collinear":
        size = np.array([1, 0, 0])
    template = rng.normal(size=[PARTS, POINTS, 3]) * size * 10
    if kind != "random":  # thin in any direction, and somewhere on the hand
        template = template @ _rotations(rng, PARTS)
    template += rng.normal(scale=50, size=[PARTS, 1, 3])
    if kind == "random":  # nothing to do with the template
        points = rng.normal(scale=10, size=[batch, PARTS, POINTS, 3])
    else:
        mean = template.mean(axis=1, keepdims=True)
        posed = template - mean
        if kind == "reflected":
            posed = posed * [1, 1, -1]
        posed = posed @ _rotations(rng, batch, PARTS)
        # From exact to hopeless.
        noise = 10 ** rng.uniform(-6, 0.5, size=[batch, PARTS, 1, 1])
        noise[: batch // 4] = 0
        points = posed + rng.normal(size=posed.shape) * noise
    points += rng.normal(scale=50, size=[batch, PARTS, 1, 3]) + [40, -30, 600]
    weights = np.zeros([PARTS, POINTS, PARTS])
    weights[np.arange(PARTS), :, np.arange(PARTS)] = rng.uniform(0.1, 1, [PARTS, POINTS])
    return (
        np.float32(template.reshape(-1, 3)),
        np.float32(weights.reshape(-1, PARTS)),
        np.float32(points.reshape(batch, -1, 3)),
    )


def _svd_fit(template, weights, points, parts=PARTS):
    """Eq. (3) in float64, for one-hot parts of equal size: R, s, t, signed singular values."""
    q = template.reshape(parts, -1, 3).astype(np.float64)
    p = points.reshape(len(points), parts, -1, 3).astype(np.float64)
    w = weights.sum(axis=1).reshape(parts, -1, 1).astype(np.float64)
    w = w / w.sum(axis=1, keepdims=True)
    q_mean, p_mean = np.sum(w * q, axis=1), np.sum(w * p, axis=2)
    q_centred, p_centred = q - q_mean[:, None], p - p_mean[:, :, None]
    covariance = np.einsum("pnz,bpni,pnj->bpij", w, p_centred, q_centred)
    rotation, singular = svd_rotation(covariance)
    scale = singular.sum(axis=-1) / np.sum(w * q_centred**2, axis=(1, 2))
    translation = p_mean - scale[..., None] * np.einsum("bpij,pj->bpi", rotation, q_mean)
    return rotation, scale, translation, singular


def _residual(linear, translation, template, weights, points):
    """Weighted RMS distance, and the sets' own size, [B, P] mm."""
    q = template.reshape(PARTS, -1, 3).astype(np.float64)
    p = points.reshape(len(points), PARTS, -1, 3).astype(np.float64)
    w = weights.sum(axis=1).reshape(PARTS, -1).astype(np.float64)
    w = w / w.sum(axis=1, keepdims=True)
    gap = p - np.einsum("bpij,pnj->bpni", linear, q) - translation[:, :, None]
    size = p - np.einsum("pn,bpni->bpi", w, p)[:, :, None]
    return tuple(np.sqrt(np.einsum("pn,bpni->bp", w, value**2)) for value in (gap, size))


@pytest.mark.parametrize("kind", KINDS)
@SOLVERS
def test_fit_agrees_with_svd(kind, solver):
    template, weights, points = _sets(kind)
    got = (
        similarity.fit_similarity(points, template, weights, solver=solver)
        .numpy()
        .astype(np.float64)
    )
    assert np.isfinite(got).all()
    rotation, scale, translation, singular = _svd_fit(template, weights, points)
    found_scale = np.sqrt(np.sum(got[..., :3, :3] ** 2, axis=(-2, -1)) / 3)
    found = got[..., :3, :3] / np.maximum(found_scale, 1e-30)[..., None, None]
    unique = _unique(singular)
    assert unique.mean() > {"random": 0.9, "planar": 0.9, "collinear": -1, "reflected": 0.5}[kind]
    if unique.any():
        assert np.abs(found - rotation)[unique].max() < 1e-4
        assert np.abs(found_scale / scale - 1)[unique].max() < 1e-4
    # A scale of 0 (the best for some reflections) has no rotation to look at.
    turned = found_scale > 1e-6
    identity = found @ np.swapaxes(found, -1, -2) - np.eye(3)
    assert np.abs(identity[turned]).max() < 1e-5
    assert np.linalg.det(found)[turned].min() > 0.999
    # How well the fit fits, everywhere.
    ours, size = _residual(got[..., :3, :3], got[..., :3, 3], template, weights, points)
    best, _ = _residual(scale[..., None, None] * rotation, translation, template, weights, points)
    assert ((ours - best) / size).max() < 1e-4


@SOLVERS
def test_rods_fit_to_a_thousandth_of_their_length_however_thin(solver):
    rng = np.random.default_rng(11)
    thickness = np.logspace(-6, -0.5, PARTS)[:, None]
    size = np.concatenate([np.ones_like(thickness), thickness, thickness], axis=-1)
    template = rng.normal(scale=10, size=[PARTS, POINTS, 3]) * size[:, None]
    template -= template.mean(axis=1, keepdims=True)
    points = template @ _rotations(rng, 400, PARTS) + [0, 0, 600]
    template, points = np.float32(template.reshape(-1, 3)), np.float32(points.reshape(400, -1, 3))
    weights = np.float32(np.repeat(np.eye(PARTS), POINTS, axis=0))
    got = (
        similarity.fit_similarity(points, template, weights, solver=solver)
        .numpy()
        .astype(np.float64)
    )
    residual, size = _residual(got[..., :3, :3], got[..., :3, 3], template, weights, points)
    assert (residual / size).max() < 1e-3
    well = (thickness[:, 0] < 1e-5) | (thickness[:, 0] > 5e-3)
    assert (residual / size)[:, well].max() < 1e-4


def _matrices(rng, count):
    """Covariances of every kind with all sorts of singular values, [N, 3, 3], and their names."""

    def log(low):
        return 10 ** rng.uniform(low, 0, count)

    def between(low, high):
        return rng.uniform(low, high, count)

    one = np.ones(count)
    values = {
        "generic": np.stack([one, between(0.05, 1), between(0, 0.05)], -1),
        "reflected": np.stack([one, between(0.2, 1), -between(0, 0.18)], -1),
        "planar": np.stack([one, between(0.02, 1), 0 * one], -1),
        "repeated": np.stack([one, one, one], -1),
        "two repeated": np.stack([one, one, between(-0.98, 1)], -1),
        "just unique": np.stack([one, 0.5 + 0.02 * one, -0.5 * one], -1),
        "nearly a mirror": np.stack([one, one, -1 + 0.02 * one], -1),
        "nearly collinear": np.stack([one, 1e-3 * log(-6), 1e-3 * log(-6)], -1),
        "collinear": np.stack([one, 0 * one, 0 * one], -1),
        "mirror": np.stack([one, one, -one], -1),
        "zero": np.zeros([count, 3]),
    }
    return {
        name: _rotations(rng, count) @ (value[..., None] * _rotations(rng, count))
        for name, value in values.items()
    }


def _gradient(matrix, upstream, solver):
    matrix = tf.constant(matrix, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(matrix)
        rotation = similarity.polar_rotation(matrix, solver)
    return rotation, tape.gradient(rotation, matrix, output_gradients=upstream).numpy()


@SOLVERS
def test_gradient_of_the_rotation_is_that_of_finite_differences(solver):
    rng = np.random.default_rng(1)
    for name, matrix in _matrices(rng, 2000).items():
        matrix = np.float32(matrix).astype(np.float64)
        upstream = np.float32(rng.normal(size=matrix.shape))
        rotation, got = _gradient(matrix, upstream, solver)
        expected_rotation, singular = svd_rotation(matrix)
        unique = _unique(singular)
        assert np.isfinite(got).all(), name
        # Bounded where the rotation is not unique: by 3 / damping and the norms of both factors.
        assert np.abs(got).max() < 3 / 5e-4 * 30, name
        if not unique.any():
            continue
        assert unique.all(), name
        assert np.abs(rotation - expected_rotation).max() < 1e-4, name
        expected = np.zeros_like(matrix)
        for i, j in np.ndindex(3, 3):
            step = np.zeros([3, 3])
            step[i, j] = 2e-5
            change = svd_rotation(matrix + step)[0] - svd_rotation(matrix - step)[0]
            expected[:, i, j] = np.sum(change * upstream, axis=(-2, -1)) / 4e-5
        # Relative to what the upstream gradient may turn into, or where the rotation hardly
        # turns a small difference of large numbers would be the measure.
        gap = np.sum(singular[:, 1:], axis=-1)
        size = np.maximum(
            np.linalg.norm(expected, axis=(-2, -1)),
            np.linalg.norm(upstream, axis=(-2, -1)) / 10 / gap,
        )
        error = np.linalg.norm(got - expected, axis=(-2, -1)) / size
        assert error.max() < 1e-3, (name, error.max())


@pytest.mark.parametrize("scale", ["umeyama", "symmetric", "none"])
@SOLVERS
def test_gradient_of_the_fit_is_that_of_finite_differences(scale, solver):
    template, weights, points = _sets("planar", batch=6, seed=2)
    points = points + np.random.default_rng(3).normal(scale=2, size=points.shape)
    points = np.float32(points)
    rng = np.random.default_rng(4)
    upstream = rng.normal(size=[6, PARTS, 3, 4]) * [1, 1, 1, 0.05]

    def fit64(points):
        rotation, best, _, _ = _svd_fit(template, weights, points)
        q = template.reshape(PARTS, -1, 3).astype(np.float64)
        p = points.reshape(len(points), PARTS, -1, 3)
        w = weights.sum(axis=1).reshape(PARTS, -1, 1).astype(np.float64)
        w = w / w.sum(axis=1, keepdims=True)
        q_mean, p_mean = np.sum(w * q, axis=1), np.sum(w * p, axis=2)
        if scale == "none":
            best = np.ones_like(best)
        elif scale == "symmetric":
            spread = np.sum(w * (p - p_mean[:, :, None]) ** 2, axis=(2, 3))
            best = np.sqrt(spread / np.sum(w * (q - q_mean[:, None]) ** 2, axis=(1, 2)))
        linear = best[..., None, None] * rotation
        translation = p_mean - np.einsum("bpij,pj->bpi", linear, q_mean)
        return np.concatenate([linear, translation[..., None]], axis=-1)

    variable = tf.constant(points)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        found = similarity.fit_similarity(variable, template, weights, scale, solver)[..., :3, :]
        total = tf.reduce_sum(found * upstream)
    np.testing.assert_allclose(found, fit64(points.astype(np.float64)), rtol=1e-4, atol=2e-3)
    gradient = tape.gradient(total, variable).numpy().astype(np.float64)
    for _ in range(10):
        direction = rng.normal(size=points.shape)
        up = fit64(points + 1e-4 * direction)
        down = fit64(points - 1e-4 * direction)
        # One value for each part: parts share no points.
        expected = np.sum((up - down) * upstream, axis=(-2, -1)) / 2e-4
        got = np.sum((gradient * direction).reshape(6, PARTS, -1), axis=-1)
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-3)


@SOLVERS
def test_fit_recovers_a_similarity(solver):
    template, weights, _ = _sets("random", batch=1)
    rng = np.random.default_rng(5)
    rotation = _rotations(rng, 1)
    points = np.float32(1.3 * template @ rotation[0].T + [10, 20, 700])[None]
    got = similarity.fit_similarity(points, template, weights, solver=solver)
    np.testing.assert_allclose(got[0, :, :3, :3], np.tile(1.3 * rotation, [PARTS, 1, 1]), atol=1e-4)
    np.testing.assert_allclose(got[0, :, :3, 3], np.tile([[10, 20, 700]], [PARTS, 1]), atol=1e-2)
    np.testing.assert_array_equal(got[0, :, 3], np.tile([[0, 0, 0, 1]], [PARTS, 1]))


def test_rigid_motion_of_the_points_moves_the_fit_by_it():
    template, weights, points = _sets("random", batch=20, seed=6)
    rotation = _rotations(np.random.default_rng(7))
    before = similarity.fit_similarity(points, template, weights).numpy()
    after = similarity.fit_similarity(np.float32(points @ rotation.T), template, weights).numpy()
    singular = _svd_fit(template, weights, points)[3]
    np.testing.assert_allclose(
        after[..., :3, :][_unique(singular)],
        (rotation @ before[..., :3, :])[_unique(singular)],
        atol=5e-2,
    )  # mm at 600 mm


@pytest.mark.parametrize("scale", ["umeyama", "symmetric", "none"])
@SOLVERS
def test_points_that_collapse_give_finite_fits_and_gradients(scale, solver):
    template, weights, points = _sets("random", batch=4)
    points[0] = 0
    points[1] = points[1, :1]
    points[2] = np.float32(1e-4) * points[2]
    points[3, :, 0] = 600
    variable = tf.constant(points)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        found = similarity.fit_similarity(variable, template, weights, scale, solver)
        total = tf.reduce_sum(found**2)
    assert np.isfinite(found).all()
    assert np.isfinite(tape.gradient(total, variable)).all()


@pytest.mark.parametrize("factor", [1e-25, 1e-6, 1e6, 1e15])
@SOLVERS
def test_rotation_does_not_depend_on_the_unit(factor, solver):
    matrix = np.random.default_rng(8).normal(size=[100, 3, 3])
    unit = similarity.polar_rotation(tf.constant(matrix, tf.float32), solver)
    np.testing.assert_allclose(
        similarity.polar_rotation(tf.constant(matrix * factor, tf.float32), solver), unit, atol=1e-4
    )


def test_vertices_without_weight_for_a_part_do_not_move_it():
    template, weights, points = _sets("random", batch=2)
    moved = points.copy()
    moved[:, POINTS:] += 30  # all but the first part
    before = similarity.fit_similarity(points, template, weights)[:, 0]
    after = similarity.fit_similarity(moved, template, weights)[:, 0]
    np.testing.assert_allclose(before, after, atol=1e-3)


@pytest.mark.parametrize("jit", [False, True])
@SOLVERS
def test_graph_of_unknown_batch_agrees_with_eager_and_horn_s_has_no_decomposition(jit, solver):
    template, weights, points = _sets("random", batch=3, seed=9)

    def run(points):
        with tf.GradientTape() as tape:
            tape.watch(points)
            found = similarity.fit_similarity(points, template, weights, solver=solver)
            total = tf.reduce_sum(found[..., :3, :3] ** 2) + tf.reduce_sum(found[..., 3])
        return found, tape.gradient(total, points)

    graph = tf.function(
        run, jit_compile=jit, input_signature=[tf.TensorSpec([None, PARTS * POINTS, 3])]
    )
    operations = {each.type for each in graph.get_concrete_function().graph.get_operations()}
    assert FORBIDDEN & operations == ({"Svd"} if solver == "svd" else set())
    for batch in (1, 3):
        for got, expected in zip(
            graph(points[:batch]), run(tf.constant(points[:batch])), strict=True
        ):
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-2)


@SOLVERS
def test_half_precision_points_are_fitted_in_float32(solver):
    template, weights, points = _sets("random", batch=2)
    found = similarity.fit_similarity(
        tf.constant(points, tf.float16), template, weights, solver=solver
    )
    assert found.dtype == tf.float32


def test_what_does_not_fit_together_is_named():
    template, weights, points = _sets("random", batch=1)
    with pytest.raises(ValueError, match=r"weights \[V, P\]"):
        similarity.fit_similarity(points, template[:-1], weights)
    with pytest.raises(ValueError, match="umeyama"):
        similarity.fit_similarity(points, template, weights, scale="best")
    with pytest.raises(ValueError, match="svd or horn"):
        similarity.fit_similarity(points, template, weights, solver="qr")
