"""The learning rate over a run, and the optimiser that follows it."""

import contextlib
import math

import keras
import tensorflow as tf


@keras.utils.register_keras_serializable("dgn_tf")
class WarmupHoldDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly, holds, then falls by half a cosine.

    Unlike a cosine over the whole run, the middle does not depend on where the run ends: a
    run can be stopped early or prolonged by moving the fall alone.

    Args:
        peak: the rate held.
        warmup_steps: steps of the rise from 0.
        decay_start, decay_end: steps between which the rate falls to `final` * `peak`.
    """

    def __init__(self, peak, warmup_steps, decay_start, decay_end, final=0.01):
        self.peak, self.warmup_steps = peak, warmup_steps
        self.decay_start, self.decay_end, self.final = decay_start, decay_end, final

    def __call__(self, step):
        step = tf.cast(step, tf.float32)
        rise = tf.minimum(1.0, (step + 1) / max(self.warmup_steps, 1))
        length = max(self.decay_end - self.decay_start, 1)
        progress = tf.clip_by_value((step - self.decay_start) / length, 0.0, 1.0)
        fall = self.final + (1 - self.final) * (1 + tf.cos(math.pi * progress)) / 2
        return self.peak * rise * fall

    def get_config(self):
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "decay_start": self.decay_start,
            "decay_end": self.decay_end,
            "final": self.final,
        }


def averaging_optimizer(name: str, schedule, weight_decay: float, ema_momentum: float):
    """An optimiser with moving averages of the weights; biases and norms do not decay.

    Args:
        name: `adamw` or `muon`.
        schedule: of the rate.
        weight_decay: decoupled.
        ema_momentum: of the averages; 0: none.
    """
    kind = {"adamw": keras.optimizers.AdamW, "muon": Muon}[name]
    optimizer = kind(
        schedule,
        weight_decay=weight_decay,
        use_ema=ema_momentum > 0,
        ema_momentum=ema_momentum or 0.99,
        jit_compile=False,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer


# bfloat16 products on CPUs that have them: twice float32's rate, the same range of values.
#
# TensorFlow's graph optimiser rewrites every `tf.function` that is called while it is on:
# convolutions and matrix products, and what lies between them, run in bfloat16 (8 bits of
# precision).
# Variables, the optimiser's moments and everything else stay float32, so a model trained so is an
# ordinary float32 model. Where the processor lacks the instructions TensorFlow leaves the graph
# alone
# or oneDNN emulates them: nothing is gained.


_OPTION = "auto_mixed_precision_onednn_bfloat16"


def switch_on() -> None:
    """From here on, for the whole process."""
    _switch(True)


@contextlib.contextmanager
def switched_off():
    """float32 in the functions called inside, such as a validation's."""
    import tensorflow as tf

    was_on = tf.config.optimizer.get_experimental_options().get(_OPTION, False)
    _switch(False)
    try:
        yield
    finally:
        _switch(was_on)


def _switch(on: bool) -> None:
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({_OPTION: on})


# AdamW whose matrices of weights move along orthogonalised momentum (Muon).


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
