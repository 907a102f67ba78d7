"""Flags made from the classes of `dgn_tf.config`, and the `--help` of all programs."""

import dataclasses
import inspect
import json
import os
import pathlib
import sys
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from absl import flags

from dgn_tf.setting import settings_of
from dgn_tf.shipped import config_file

# What this module defines counts as the flags of the module that asks for them.
flags.disclaim_key_flags()

_DEFINE: dict[Any, Callable] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    list[str]: flags.DEFINE_list,
}
_HELP = {"--help", "-help", "--helpshort", "-helpshort", "-?"}
_topics: dict[str, str] = {}  # flag -> heading of its part of the help

Settings = TypeVar("Settings")


def define_flags(settings: type) -> None:
    """Defines a flag for each setting of a class, of the same name, default and range."""
    kinds = typing.get_type_hints(settings)
    for topic in settings.__bases__:
        if dataclasses.is_dataclass(topic):
            heading = inspect.cleandoc(topic.__doc__ or "")
            _topics.update((field.name, heading) for field, _ in settings_of(topic))
    for field, said in settings_of(settings):
        kind = kinds[field.name]
        if isinstance(kind, types.UnionType):  # with None
            kind = typing.get_args(kind)[0]
        default: Any = field.default
        limits: tuple = (said.low, said.high) if kind in (int, float) else ()
        if said.choices:
            flags.DEFINE_enum(field.name, default, said.choices, said.help)
        else:
            _DEFINE[kind](field.name, default, said.help, *limits)


def from_flags(settings: type[Settings]) -> Settings:
    """The settings of a class as the command line gives them."""
    return settings(
        **{field.name: flags.FLAGS[field.name].value for field, _ in settings_of(settings)}
    )


def as_flagfile(values: dict) -> str:
    """Name -> value as the lines of a flag file; what is None has none."""
    return "".join(f"--{k}={_text(v)}\n" for k, v in values.items() if v is not None)


def _text(value) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return json.dumps(value) if isinstance(value, bool) else str(value)


def parse(argv):
    """absl's parser; help of any kind ends the program with 0, whoever reads it or stops to."""
    before_values = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
    if _HELP & set(before_values):
        end_with(help_text())
    try:
        return flags.FLAGS(_with_packaged_flagfiles(argv))
    except SystemExit:  # absl's --helpfull and --helpxml, which end with 1
        end_with("")


def _with_packaged_flagfiles(arguments: list[str]) -> list[str]:
    """`arguments` with the lines of the package's own flag files in place of --flagfile=configs/...

    Files that are there, as in a checkout, are left to absl.
    """
    found = []
    for argument in arguments:
        path = argument.removeprefix("--flagfile=")
        if path == argument or (packaged := config_file(path)) == path:
            found.append(argument)
            continue
        lines = [line.strip() for line in pathlib.Path(packaged).read_text().splitlines()]
        found += _with_packaged_flagfiles([line for line in lines if line.startswith("--")])
    return found


def end_with(text: str) -> typing.NoReturn:
    """Prints and ends the program with 0, also where the reader (`head`) has gone."""
    try:
        print(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Else the interpreter complains as it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def help_text() -> str:
    """What the program that runs is for, and every flag that it takes, by topic."""
    main = sys.modules["__main__"]
    by_topic: dict[str, list[flags.Flag]] = {}
    for flag in flags.FLAGS.get_key_flags_for_module(main):
        by_topic.setdefault(_topics.get(flag.name, "Flags"), []).append(flag)
    parts = [inspect.cleandoc(main.__doc__ or "")]
    # Topics in the order of their class's bases; dataclasses have their fields the other way.
    for heading in dict.fromkeys([*_topics.values(), "Flags"]):
        if not (found := by_topic.get(heading)):
            continue
        parts.append(f"{heading}:\n\n" + "\n".join(map(_described, found)))
    return "\n\n".join([*parts, "--helpfull lists the flags of absl too, such as --flagfile."])


def _described(flag: flags.Flag) -> str:
    notes = []
    if flag.default_as_str not in (None, "''"):
        notes.append(f"default: {flag.default_as_str}")
    if flag.parser.syntactic_help:
        notes.append(flag.parser.syntactic_help)
    name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
    note = f" ({'; '.join(notes)})" if notes else ""
    return flags.text_wrap(f"{name}: {flag.help}{note}", indent="    ", firstline_indent="  ")
