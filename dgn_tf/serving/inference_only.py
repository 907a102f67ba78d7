"""What a process that infers and never trains may tell TensorFlow."""

import os

FROZEN_WEIGHTS = "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"


def assume_frozen_weights() -> None:
    """Lets oneDNN keep the convolutions' weights in its own layout after their first run.

    An exported model's weights are variables (see `freezing`), and oneDNN lays a variable out anew
    at every call: a sixth to a fifth of one frame's time. Outputs differ by float rounding, and the
    process takes 10 MB more. For a program's start, before TensorFlow runs anything, and never
    where weights change: the convolutions would go on with the old ones, silently, in this process
    and in those that inherit its environment. What that says already stays.
    """
    os.environ.setdefault(FROZEN_WEIGHTS, "1")


def one_thread() -> None:
    """Lets TensorFlow and numpy run each operation on one thread, whatever processors there are.

    One frame at a time is many small operations: to share one out costs more than it brings. For a
    program's start, as above; what the environment says already stays.
    """
    for name in ("TF_NUM_INTRAOP_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
