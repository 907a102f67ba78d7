"""Runs a program's `main` in the tests' own process, which spares it the start of another."""

import importlib

from absl import flags


def run(program: str, *arguments) -> None:
    """As `python -m program arguments`; InputError where that would end with one line.

    The program's module is not to be imported at the top of the test's file: those are of one
    program alone, whose flags they are.
    """
    module = importlib.import_module(program)
    flags.FLAGS.unparse_flags()
    flags.FLAGS([program, *map(str, arguments)])
    module.main([])
