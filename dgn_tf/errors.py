"""Errors that a user can mend, and how the modules one runs report them."""

import faulthandler
import os
import re
import sys
from collections.abc import Callable, Sequence

from absl import app, flags

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class InputError(ValueError):
    """What was wanted, what came, and which file or flag to change, in one line.

    What a file says of itself may stand in the message: control characters of it, such as those
    that begin a new line or command a terminal, become spaces.
    """

    def __init__(self, message: object = ""):
        super().__init__(_CONTROL.sub(" ", str(message)))


_LONGEST_EXIT_S = float(os.environ.get("DGN_LONGEST_EXIT_S", "60"))

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

    So does one that was raised while a graph ran, such as a loader's: TensorFlow has it in the
    text of an error of its own. Before, flags are compared: no program writes a file that it reads.
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
        except Exception as error:
            if (reason := input_error_within(error)) is None:
                raise
            _fail(reason)
        finally:
            # All is written and said. Threads of loaders have been seen to keep a process from
            # its end: a clock outside of Python ends it then, with exit code 1.
            faulthandler.dump_traceback_later(_LONGEST_EXIT_S, exit=True, file=2)

    app.run(guarded, flags_parser=_parse_flags)


def input_error_within(error: BaseException) -> str | None:
    """The message of the InputError that an error of TensorFlow reports; None for any other."""
    if not type(error).__module__.startswith("tensorflow."):
        return None
    # "InvalidArgumentError: {{function_node ...}} InputError: the message\nTraceback ..."
    found = re.search(r"\bInputError: (.+?)(?:\nTraceback|\n\n|\n\t|$)", str(error), re.DOTALL)
    return found and found[1].strip()


def _parse_flags(argv):
    """`command_line.parse` with absl's several lines about a wrong flag made one."""
    from dgn_tf import command_line

    try:
        return command_line.parse(argv)
    except flags.Error as error:
        _fail(f"{error} See --help.")


def _fail(message: str) -> None:
    # `python -m dgn_tf.train` has the whole path in argv[0], a package's program its __main__.py.
    name = os.path.basename(sys.argv[0].removesuffix("/__main__.py"))
    print(f"{name}: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)
