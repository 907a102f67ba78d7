"""Programs without TensorFlow's greetings: ten lines about devices and instructions, at import."""

import os
import sys


def quiet_programs() -> None:
    """Asks TensorFlow for fatal errors alone, in a process that is a program of this project.

    To be called as a package is imported, which comes before TensorFlow's import: `python -m` has
    "-m" for the program's name until its module runs, and commands are called dgn-*. What Python
    raises is not touched, nor a value that is set.
    """
    program = os.path.basename(sys.argv[0]) if sys.argv else ""
    if program == "-m" or program.startswith("dgn-"):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
