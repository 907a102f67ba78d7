"""The learning rate over a run, and the optimiser that follows it."""

import math

import keras
import tensorflow as tf

from dgn_tf.training.muon import Muon


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
