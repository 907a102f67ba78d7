"""Errors that a user can mend, and how the modules one runs report them."""

import os
import re
import sys
from collections.abc import Callable, Sequence

from absl import app, flags


class InputError(ValueError):
    """What was wanted, what came, and which file or flag to change, in one line."""


# Lines of TensorFlow's errors that tell where in a graph, and not what.
_WHERE = (
    *("Graph execution error", "Detected at node", "<stack traces", "[[{{node", 'File "', "^^^"),
    *("Traceback", "root error(s) found"),
)
_BEFORE = re.compile(r"^(\(\d+\) )?([A-Z_]+: )?(\{\{function_node \S*\}\} ?)?(assertion failed: )?")


def reason(error) -> str:
    """What an error says, in one line of at most 200 characters.

    Of TensorFlow's, whose several lines begin with where it happened, the one that tells what.
    """
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not any(where in line for where in _WHERE)]
    lines.sort(key=lambda line: "assertion failed" not in line)  # stable: those first
    return _BEFORE.sub("", lines[0])[:200] if lines else type(error).__name__


def run(main: Callable[[Sequence[str]], object]) -> None:
    """Runs an absl `main`; an InputError becomes one line on stderr and exit code 1.

    Before, flags are compared: no program writes a file that it reads.
    """
    from dgn_tf import output_files  # which raises this module's error

    def guarded(argv):
        if len(argv) > 1:
            _fail(f"unexpected argument {argv[1]!r}; flags are written --name=value.")
        try:
            output_files.check_flags(sys.argv)
            return main(argv)
        except InputError as error:
            _fail(str(error))

    app.run(guarded, flags_parser=_parse_flags)


def _parse_flags(argv):
    """`command_line.parse` with absl's several lines about a wrong flag made one."""
    from dgn_tf import command_line

    try:
        return command_line.parse(argv)
    except flags.Error as error:
        _fail(f"{error} See --help.")


def _fail(message: str) -> None:
    # os.path.basename: `python -m dgn_tf.train` has the whole path in argv[0].
    print(f"{os.path.basename(sys.argv[0])}: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)
