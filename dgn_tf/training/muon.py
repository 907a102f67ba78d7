"""AdamW whose matrices of weights move along orthogonalised momentum (Muon)."""

import math

import keras
import tensorflow as tf

# Quintic iteration of K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks"
# (2024): singular values in (0, 1] go to about 1 (0.7 .. 1.2) in five steps.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5

# Narrower matrices (heads of a few channels) stay with AdamW, as do biases and norms.
_NARROWEST = 32


def orthogonalised(matrix, steps: int = _STEPS):
    """U V^T of `matrix` = U S V^T [m, n], up to the iteration's 0.7 .. 1.2 in place of S."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = tf.transpose(matrix) if tall else matrix
    x = x / (tf.norm(x) + 1e-7)
    for _ in range(steps):
        gram = tf.matmul(x, x, transpose_b=True)
        x = a * x + tf.matmul(b * gram + c * tf.matmul(gram, gram), x)
    return tf.transpose(x) if tall else x


@keras.utils.register_keras_serializable("dgn_tf")
class Muon(keras.optimizers.AdamW):
    """Muon for kernels, AdamW for the rest, at one rate.

    A kernel counts as the matrix [everything before, channels out]. Its step has AdamW's usual
    size (0.2 of the rate in each weight's root mean square), so rates and decay carry over
    (J. Liu et al., "Muon is scalable for LLM training", 2025).

    Args:
        learning_rate, weight_decay, **kwargs: see `keras.optimizers.AdamW`.
        momentum: of the kernels' gradients, Nesterov's.
    """

    def __init__(self, learning_rate=0.001, weight_decay=0.004, momentum=0.95, **kwargs):
        super().__init__(learning_rate, weight_decay, **kwargs)
        self.momentum = momentum

    def update_step(self, gradient, variable):
        shape = variable.shape
        if shape.rank < 2 or min(math.prod(shape[:-1]), shape[-1]) < _NARROWEST:
            super().update_step(gradient, variable)
            return
        rate = tf.cast(self.learning_rate, variable.dtype)
        moment = self._momentums[self._index_dict[self._var_key(variable)]]
        moment.assign(self.momentum * moment + (1 - self.momentum) * gradient)
        ahead = self.momentum * moment + (1 - self.momentum) * gradient
        matrix = tf.reshape(ahead, [-1, shape[-1]])
        size = 0.2 * math.sqrt(max(matrix.shape))
        variable.assign_sub(rate * size * tf.reshape(orthogonalised(matrix), shape))

    def get_config(self):
        return super().get_config() | {"momentum": self.momentum}
