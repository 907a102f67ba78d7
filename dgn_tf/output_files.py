"""Files that a program is about to write: never one that it reads, and none twice."""

import fnmatch
import glob
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from absl import flags

from dgn_tf.errors import InputError

# The flags of all programs that name a file to write; `pictures` is a folder of one.
FLAGS_OF_FILES = (
    *("json", "plot", "output", "report", "figure", "turntable", "mesh", "pictures", "worst"),
    *("predictions_out", "labels_out", "joint_data", "table", "parameters"),
)

Paths = str | os.PathLike | Iterable[str | os.PathLike] | None

# What programs read of a folder that a flag names. Others beside them, such as figures that an
# earlier run has put there, may be replaced.
_READ_OF_FOLDERS = (
    *("*.tfrecord", "*.h5", "*.pb", "*.index", "*.data-*", "*.tflite", "joint_data.mat"),
    *("config.json", "description.json", "hand.json", "flags.txt", "calibration.json"),
    *("template.npz", "mesh.npz"),
)


def check_flags(arguments: Sequence[str]) -> None:
    """Refuses what `refuse_inputs` does for the flags of the program that runs; before its work.

    An input is any other flag's file, folder or pattern, also one of several between commas or
    after NAME=; and the flag files that `arguments`, the command line, names.
    """
    values = flags.FLAGS.flag_values_dict()
    outputs = {name: values.pop(name) for name in FLAGS_OF_FILES if values.get(name)}
    for flag, path in outputs.items():
        if flag != "pictures" and os.path.isdir(path):
            raise InputError(f"--{flag}={path} is a folder; a file's name is wanted.")
    inputs = {
        flag: _paths_in(value) for flag, value in values.items() if not flag.startswith("output")
    }
    # absl takes a flag file's place by what is in it.
    inputs["flagfile"] = [text.partition("=")[2] for text in arguments if "-flagfile=" in text]
    refuse_inputs(outputs, inputs)


def check_ending(flag: str, file: str, endings: Sequence[str]) -> str:
    """The ending of a flag's file, in small letters; InputError where it is none of `endings`."""
    ending = pathlib.Path(file).suffix.lower()
    if ending not in endings:
        raise InputError(f"--{flag}={file}: wanted a name that ends in {', '.join(endings)}.")
    return ending


def _paths_in(value) -> list[str]:
    """What may be a path in a flag's value."""
    if isinstance(value, list):
        return [part for item in value for part in _paths_in(item)]
    if not isinstance(value, str):
        return []
    parts = [value, *value.split(",")]
    return [*parts, *(part.partition("=")[2] for part in parts)]


def refuse_inputs(outputs: Mapping[str, Paths], inputs: Mapping[str, Paths]) -> None:
    """Refuses targets that are inputs, also by another path, a link or a folder that holds them.

    Args:
        outputs: flag to the files that will be written; empty and None are none.
        inputs: flag to files, folders and patterns that are read; what is not there is none.

    Raises:
        InputError: a target is an input, or two targets are one file.
    """
    targets = [(flag, path) for flag, paths in outputs.items() for path in _listed(paths)]
    _refuse_twice(targets)
    there = {}
    for flag, path in targets:
        if (identity := _identity(path)) is not None:
            there[identity] = flag, path
    if not there:  # the usual case: nothing is looked for in folders of many files
        return
    for flag, paths in inputs.items():
        for file in _files(paths):
            if (identity := _identity(file)) in there:
                target_flag, target = there[identity]
                raise InputError(
                    f"--{target_flag}: {target} is an input (--{flag}: {file}) and would be "
                    "replaced; write elsewhere."
                )


def _refuse_twice(targets):
    seen: dict[str, str] = {}
    for flag, path in targets:
        other = seen.setdefault(os.path.realpath(path), flag)
        if other != flag:
            raise InputError(
                f"--{flag}: {path} is the file of --{other} too; name two different files."
            )


def _listed(paths: Paths) -> list[pathlib.Path]:
    if not paths:
        return []
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    return [pathlib.Path(path) for path in several if path]


def _identity(file) -> tuple[int, int] | None:
    """What `os.path.samefile` compares; None where there is no such file."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):  # ValueError: a NUL in its name
        return None
    return status.st_dev, status.st_ino


def _files(paths: Paths) -> Iterator[pathlib.Path]:
    for path in _listed(paths):
        named = [path] if path.exists() else [pathlib.Path(name) for name in glob.glob(str(path))]
        for found in named:
            if found.is_dir():
                yield from _files_of_folder(found)
            else:
                yield found


def _files_of_folder(folder) -> Iterator[pathlib.Path]:
    for parent, _, names in os.walk(folder):
        for name in names:
            if any(fnmatch.fnmatch(name, pattern) for pattern in _READ_OF_FOLDERS):
                yield pathlib.Path(parent, name)
