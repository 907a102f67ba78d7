"""Run by test_devices in a process of its own: checks of a step that two CPU devices share."""

import numpy as np
import tensorflow as tf

from dgn_tf.layers.hourglass import BatchNorm
from dgn_tf.training import step as replicas
from dgn_tf.training.schedule import Muon


def two_devices():
    """MirroredStrategy over two halves of this process's CPU; before any other TensorFlow."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def halves(strategy, *arrays):
    """Each array's first half for the first replica, its second for the other."""

    def shared(array):
        pieces = np.split(array, 2)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(pieces[context.replica_id_in_sync_group])
        )

    return [shared(array) for array in arrays]


def check_means(strategy, rng):
    """Means over unevenly spread frames, and their gradients, are those of the whole batch."""
    values = rng.normal(size=8).astype(np.float32)
    for counted in ([1, 1, 1, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1, 1, 0], [0] * 8):
        frames = np.float32(counted)

        def part(values, frames):
            with tf.GradientTape() as tape:
                tape.watch(values)
                mean = tf.reduce_sum(values * frames) / tf.maximum(tf.reduce_sum(frames), 1)
                mean = replicas.part_of_mean(mean, tf.reduce_sum(frames))
            return replicas.summed(mean), tape.gradient(mean, values)

        run = tf.function(lambda *arrays, part=part: strategy.run(part, args=arrays))
        found = run(*halves(strategy, values, frames))
        means, gradients = map(strategy.experimental_local_results, found)
        count = max(frames.sum(), 1)
        np.testing.assert_allclose(means, [(values * frames).sum() / count] * 2, atol=1e-6)
        np.testing.assert_allclose(np.concatenate(gradients), frames / count, atol=1e-6)


def check_batch_norm(strategy, rng):
    """Outputs, gradients and moving averages are those of Keras' layer over the whole batch."""
    inputs = (rng.normal(size=[4, 3, 3, 2]) * 3 + 20).astype(np.float32)
    weights = rng.normal(size=inputs.shape).astype(np.float32)

    def step(layer, inputs, weights):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
            loss = tf.reduce_sum(outputs * weights)
        gradients = tape.gradient(loss, [inputs, layer.gamma, layer.beta])
        return outputs, gradients[0], replicas.summed(gradients[1:])

    single = tf.keras.layers.BatchNormalization(momentum=0.9)
    single.build(inputs.shape)
    wanted = step(single, tf.constant(inputs), tf.constant(weights))
    with strategy.scope():
        layer = BatchNorm(momentum=0.9)
        layer.build(inputs.shape)

    run = tf.function(lambda *arrays: strategy.run(lambda *x: step(layer, *x), args=arrays))
    found = tf.nest.flatten(run(*halves(strategy, inputs, weights)))
    found = [strategy.experimental_local_results(value) for value in found]
    np.testing.assert_allclose(np.concatenate(found[0]), wanted[0], atol=1e-5)
    np.testing.assert_allclose(np.concatenate(found[1]), wanted[1], atol=1e-5)
    for both, of_single in zip(found[2:], wanted[2], strict=True):
        np.testing.assert_allclose(both, [of_single] * 2, atol=1e-4)
    for ours, theirs in zip(layer.weights, single.weights, strict=True):
        assert ours.name.split("/")[-1] == theirs.name.split("/")[-1]
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, err_msg=ours.name)


def check_muon(strategy, rng):
    """Steps along orthogonalised momentum are those of one process with all gradients."""
    parts = rng.normal(size=[3, 2, 40, 32]).astype(np.float32)  # of three steps, two replicas
    first = rng.normal(size=[40, 32]).astype(np.float32)

    def begun():
        kernel, optimizer = tf.Variable(first), Muon(0.1, jit_compile=False)
        optimizer.build([kernel])
        return kernel, optimizer

    def step(gradient, kernel, optimizer):
        replicas.apply_if(tf.constant(True), optimizer, replicas.summed([gradient]), [kernel])

    alone, optimizer = begun()
    for part in parts:
        optimizer.apply_gradients([(tf.constant(part.sum(axis=0)), alone)])
    with strategy.scope():
        kernel, optimizer = begun()

    def of_replica(part):
        step(part[0], kernel, optimizer)

    run = tf.function(lambda part: strategy.run(of_replica, args=(part,)))
    for part in parts:
        run(*halves(strategy, part))
    assert np.abs(kernel.numpy() - first).mean() > 0.01
    for copy in strategy.experimental_local_results(kernel):
        np.testing.assert_allclose(copy.numpy(), alone.numpy(), atol=1e-5)


if __name__ == "__main__":
    strategy = two_devices()
    rng = np.random.default_rng(4)
    check_means(strategy, rng)
    check_batch_norm(strategy, rng)
    check_muon(strategy, rng)
    print("two replicas agree with one")
