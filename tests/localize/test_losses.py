import numpy as np
import tensorflow as tf

from dgn_tf.localize import raster
from dgn_tf.localize.raster import BLOCK, COLUMNS, HEIGHT, ROWS, WIDTH
from dgn_tf.localize.training import block_truth, localiser_terms

INTRINSICS = np.float32([[120.0, 120.0, 79.5, 63.5]])


def scene(seed=0, frames=1):
    """Two hands' pixels among others; owner, centres, sides."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(500, 560, [frames, HEIGHT, WIDTH]).astype(np.float32)
    depth[rng.random(depth.shape) < 0.2] = 0
    owner = np.full(depth.shape, -1, np.int8)
    owner[:, 20:50, 30:61] = 0
    owner[:, 70:90, 100:130] = 1
    batch = {
        "depth": depth,
        "intrinsics": np.repeat(INTRINSICS, frames, axis=0),
        "owner": owner,
        "centre": rng.uniform(-100, 100, [frames, 2, 3]).astype(np.float32),
        "left": np.tile([True, False], [frames, 1]),
        "visible": np.ones([frames, 2], bool),
    }
    return {name: tf.constant(value) for name, value in batch.items()}


def outputs_for(batch, **values):
    found = raster.surfaces(batch["depth"], batch["intrinsics"])
    shape = found["front"].shape[:3]
    outputs = {"hand": tf.zeros(shape), "left": tf.zeros(shape), "offset": tf.zeros([*shape, 3])}
    given = {"point": found["point"], "pixels": found["pixels"][..., 0], "near": found["near"]}
    return {**outputs, **given, **values}


def test_truth_agrees_with_a_loop():
    batch = scene()
    outputs = outputs_for(batch)
    truth = {name: value.numpy()[0] for name, value in block_truth(batch, outputs).items()}
    depth, owner = batch["depth"].numpy()[0], batch["owner"].numpy()[0]
    for row in range(ROWS):
        for column in range(0, COLUMNS, 3):
            rows = slice(BLOCK * row, BLOCK * (row + 1))
            columns = slice(BLOCK * column, BLOCK * (column + 1))
            z, who = depth[rows, columns], owner[rows, columns]
            near = (z > 0) & (z <= z[z > 0].min(initial=1e6) + raster.SURFACE_MM)
            counts = [(near & (who == hand)).sum() for hand in (0, 1)]
            share = sum(counts) / max(near.sum(), 1)
            np.testing.assert_allclose(truth["share"][row, column], share, atol=1e-6)
            if sum(counts):
                np.testing.assert_allclose(
                    truth["left"][row, column], counts[0] / sum(counts), atol=1e-6
                )
                centre = np.average(batch["centre"][0], axis=0, weights=counts)
                np.testing.assert_allclose(truth["centre"][row, column], centre, rtol=1e-5)


def test_true_outputs_cost_least():
    batch = scene(frames=2)
    blank = outputs_for(batch)
    truth = block_truth(batch, blank)
    chance = tf.clip_by_value(truth["share"], 1e-5, 1 - 1e-5)  # a cross entropy's minimum
    logit = tf.math.log(chance / (1 - chance))
    right = {
        "hand": logit,
        "left": 60 * (truth["left"] - 0.5),
        "offset": truth["centre"] - blank["point"],
    }
    terms = localiser_terms(outputs_for(batch, **right), batch)
    assert float(terms["left"].numpy().max()) < 1e-4
    assert float(terms["offset"].numpy().max()) < 1e-3
    for name, moves in (
        ("hand", (0.5, -0.5)),
        ("left", (-30.0 * tf.sign(right["left"]),)),
        ("offset", (20.0, -20.0)),
    ):
        for move in moves:
            wrong = {**right, name: right[name] + move}
            moved = localiser_terms(outputs_for(batch, **wrong), batch)
            assert moved[name].shape == (2,)
            assert (moved[name].numpy() > terms[name].numpy() + 1e-3).all(), name


def test_a_frame_without_hands_teaches_where_no_hand_is_and_nothing_else():
    batch = scene()
    batch["visible"] = tf.zeros([1, 2], tf.bool)
    terms = localiser_terms(outputs_for(batch), batch)
    assert float(terms["hand"][0]) > 1 and float(terms["left"][0]) == 0
    assert float(terms["offset"][0]) == 0


def test_gradients_are_finite_on_empty_frames():
    batch = scene()
    batch["depth"] = tf.zeros_like(batch["depth"])
    hand = tf.Variable(tf.zeros([1, ROWS, COLUMNS]))
    with tf.GradientTape() as tape:
        loss = tf.add_n(list(localiser_terms(outputs_for(batch, hand=hand + 0), batch).values()))
    assert np.isfinite(tape.gradient(loss, hand).numpy()).all()
