"""bfloat16 products on CPUs that have them: twice float32's rate, the same range of values.

TensorFlow's graph optimiser rewrites every `tf.function` that is called while it is on:
convolutions and matrix products, and what lies between them, run in bfloat16 (8 bits of precision).
Variables, the optimiser's moments and everything else stay float32, so a model trained so is an
ordinary float32 model. Where the processor lacks the instructions TensorFlow leaves the graph alone
or oneDNN emulates them: nothing is gained.
"""

import contextlib

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
