import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.layers import DepthToSpace, Hourglass, ResidualBlock, SpaceToDepth

CHANNELS = (8, 12, 16)


def _image(batch=2, size=16, channels=4, seed=0):
    return tf.constant(
        np.random.default_rng(seed).normal(size=[batch, size, size, channels]), tf.float32
    )


def test_pixel_shuffle_round_trip():
    image = _image()
    packed = SpaceToDepth(2)(image)
    assert packed.shape == [2, 8, 8, 16]
    np.testing.assert_array_equal(DepthToSpace(2)(packed), image)


@pytest.mark.parametrize("block", ["plain", "bottleneck"])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_hourglass_keeps_the_resolution_and_trains_every_weight(block, norm):
    layer = Hourglass((8, 12), blocks=2, block=block, norm=norm)
    layer(_image())
    # Without a norm, branches start at zero and their first convolutions get no gradient.
    rng = np.random.default_rng(3)
    layer.set_weights(
        [value + rng.normal(scale=0.05, size=value.shape) for value in layer.get_weights()]
    )
    with tf.GradientTape() as tape:
        outputs = layer(_image(), training=True)
        total = tf.reduce_sum(outputs**2 * tf.random.stateless_uniform(outputs.shape, [1, 2]))
    assert outputs.shape == [2, 16, 16, 8]
    gradients = tape.gradient(total, layer.trainable_weights)
    assert len(gradients) > 20
    for weight, gradient in zip(layer.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.name
        assert np.isfinite(gradient).all(), weight.name
        assert np.any(gradient != 0), weight.name


def test_every_output_pixel_sees_the_whole_image():
    layer = Hourglass((8, 8, 8, 8), norm="none")
    image = _image()
    with tf.GradientTape() as tape:
        tape.watch(image)
        value = tf.reduce_sum(layer(image)[:, 0, 0])
    seen = np.abs(tape.gradient(value, image)).max(axis=-1)
    assert np.count_nonzero(seen) > 0.5 * seen.size


def test_hourglass_normalised_by_batch_does_not_mix_examples_when_it_infers():
    layer = Hourglass(CHANNELS)
    image = _image(3)
    layer(image, training=True)
    np.testing.assert_allclose(
        layer(image, training=False)[:1], layer(image[:1], training=False), atol=1e-5
    )


@pytest.mark.parametrize("jit", [False, True])
def test_graph_of_unknown_batch_agrees_with_eager(jit):
    layer = Hourglass((4, 6))
    layer(_image())

    def run(image):
        with tf.GradientTape() as tape:
            outputs = layer(image, training=False)
            total = tf.reduce_mean(outputs**2)
        return [outputs, *tape.gradient(total, layer.trainable_weights)]

    graph = tf.function(run, jit_compile=jit, input_signature=[tf.TensorSpec([None, 16, 16, 4])])
    for batch in (1, 3):
        for got, expected in zip(graph(_image(batch)), run(_image(batch)), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_a_graph_for_inference_has_the_slope_that_was_asked_for(activation):
    """What TensorFlow fuses there: convolution, bias, the shortcut's sum and the activation."""
    layer = Hourglass((16, 16), norm="none", activation=activation)
    image = _image()
    layer(image)
    for variable in layer.trainable_weights:
        variable.assign(0.3 * tf.random.stateless_normal(variable.shape, [7, variable.shape[-1]]))
    np.testing.assert_allclose(tf.function(layer)(image), layer(image), rtol=1e-4, atol=1e-4)


def test_mixed_precision_computes_in_half_and_keeps_float32_weights():
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        mixed, full = Hourglass(CHANNELS), Hourglass(CHANNELS, dtype="float32")
        image = _image()
        assert mixed(image).dtype == tf.float16
        assert full(image).dtype == tf.float32
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert {weight.dtype for weight in mixed.trainable_weights} == {tf.float32}
    full.set_weights(mixed.get_weights())
    np.testing.assert_allclose(mixed(image), full(image), atol=0.1, rtol=0.05)


@pytest.mark.parametrize(
    "layer",
    [
        SpaceToDepth(4),
        DepthToSpace(2),
        ResidualBlock(6, "bottleneck", "none"),
        Hourglass(CHANNELS, 2, "bottleneck", "none"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_are_restored_from_their_config(layer):
    restored = tf.keras.layers.deserialize(tf.keras.layers.serialize(layer))
    image = _image()
    expected = layer(image)
    assert restored(image).shape == expected.shape
    restored.set_weights(layer.get_weights())
    np.testing.assert_allclose(restored(image), expected, atol=1e-6)


def test_weights_survive_a_file(tmp_path):
    def model():
        inputs = tf.keras.Input([16, 16, 4])
        return tf.keras.Model(inputs, Hourglass(CHANNELS, name="hourglass")(inputs))

    first, second = model(), model()
    first.save_weights(tmp_path / "model.weights.h5")
    second.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(first(_image()), second(_image()))


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="divisible by 4"):
        Hourglass(CHANNELS)(_image(size=18))
    with pytest.raises(ValueError, match="plain or bottleneck"):
        Hourglass(CHANNELS, block="round")
    with pytest.raises(ValueError, match="batch or none"):
        Hourglass(CHANNELS, norm="layer")
    with pytest.raises(ValueError, match="at least one"):
        Hourglass(CHANNELS, blocks=0)
