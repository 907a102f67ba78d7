"""A run's folder: what it was started with, and its checkpoints, for exact resume."""

import contextlib
import csv
import json
import math
import pathlib
import subprocess
from collections.abc import Iterator

import tensorflow as tf
from absl import logging

from dgn_tf import writing
from dgn_tf.errors import InputError, reason
from dgn_tf.json_file import read_json

RUN = "run.json"


def open_run_folder(
    folder,
    settings: dict,
    flags: str,
    may_change: frozenset[str],
    defaults: dict | None = None,
) -> bool:
    """Writes flags, settings and commit of a new run; checks those of a run to resume.

    Args:
        folder: `--output_dir`.
        settings: flag name -> value, JSON-able: all that decides the run's arithmetic.
        flags: the same as a flagfile, for `flags.txt`.
        may_change: settings that a resumed run may change, such as the number of steps.
        defaults: setting -> value, for runs that began before there was such a setting.

    Returns:
        Whether the folder held a run.

    Raises:
        InputError: it holds a run of other settings; the message names them.
    """
    folder = pathlib.Path(folder)
    file = folder / RUN
    if file.is_file():
        try:
            before = read_json(file)["settings"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{file} is damaged; start anew in another --output_dir.") from None
        # As JSON gives them back: tuples are lists there.
        before = json.loads(json.dumps(defaults or {})) | before
        changed = [
            f"--{name} was {before.get(name)}, is {value}"
            for name, value in settings.items()
            if name not in may_change and before.get(name) != json.loads(json.dumps(value))
        ]
        if changed:
            raise InputError(
                f"{folder} holds a run with other flags ({'; '.join(changed)}): resume it with "
                "its own flags, or give another --output_dir."
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"--output_dir={folder} is not empty and holds no run; give another.")
    resumed = file.is_file()
    folder.mkdir(parents=True, exist_ok=True)
    writing.write_output(folder / "flags.txt", flags)
    writing.write_output(
        file, json.dumps({"settings": settings, "commit": commit()}, indent=1) + "\n"
    )
    return resumed


def commit() -> str:
    """The commit of the checkout that runs, with `-dirty` where files differ; or `unknown`."""
    here = pathlib.Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


@contextlib.contextmanager
def writing_here(folder) -> Iterator[None]:
    """What can't be written in a run's folder in the block ends it with one line.

    Raises:
        InputError: the disk is full, say; the message tells how to go on.
    """
    try:
        with writing.os_errors():
            yield
    except OSError as error:
        raise InputError(
            f"--output_dir={folder} can't be written ({writing.reason_of(error)}): what was there "
            "is whole. Make room and give the same command again: the run goes on from its last "
            "checkpoint."
        ) from None


def begin_alone(folder, held: contextlib.ExitStack) -> None:
    """Makes a run's folder and keeps others out of it until `held` is left.

    Raises:
        InputError: it can't be made, or another run is writing there.
    """
    folder = pathlib.Path(folder)
    with writing_here(folder):
        folder.mkdir(parents=True, exist_ok=True)
    held.enter_context(writing.alone(folder))


def mend_log(file: pathlib.Path, epochs: int) -> None:
    """Leaves of a run's log.csv what is whole, of the first `epochs` epochs: the rest comes again.

    A killed run may have left half a line, and lines of epochs beyond its last checkpoint.
    """
    lines = _whole_lines(file)
    kept = [
        line
        for line in lines[1:]
        if _is_number(line.split(",")[0]) and float(line.split(",")[0]) < epochs
    ]
    if not kept or not lines[0].startswith("epoch"):
        file.unlink(missing_ok=True)
        return
    writing.write_output(file, "".join([lines[0], *kept]))


def _whole_lines(file):
    """Lines of a file with their ends, but for a last one that has none; none without the file."""
    if not file.is_file():
        return []
    text = file.read_bytes().replace(b"\0", b"?").decode(errors="replace")  # of a power cut
    return [line + "\n" for line in text.split("\n")[:-1]]


def whole_rows(file: pathlib.Path) -> list[dict[str, str]]:
    """The whole lines of a run's log.csv: column -> text. None where there is no such file."""
    rows = list(csv.reader(_whole_lines(file)))
    return [
        dict(zip(rows[0], row, strict=True))
        for row in rows[1:]
        if len(row) == len(rows[0]) and "epoch" in rows[0]
    ]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def best_in_log(file: pathlib.Path, column: str) -> float:
    """The lowest finite figure of a column of a run's log.csv; inf where there is none."""
    found = [row[column] for row in whole_rows(file) if column in row]
    return min((float(text) for text in found if _is_number(text)), default=math.inf)


def has_checkpoint(folder) -> bool:
    """Whether a run in `folder` has come to its first checkpoint."""
    return bool(_checkpoints_in(pathlib.Path(folder) / "checkpoints"))


def _checkpoints_in(folder: pathlib.Path) -> list[str]:
    """Checkpoints' prefixes, the newest first: by their files, which say more than the list that
    lies beside them when that was damaged.
    """
    steps = [
        int(file.stem.removeprefix("ckpt-"))
        for file in folder.glob("ckpt-*.index")
        if file.stem.removeprefix("ckpt-").isdecimal()
    ]
    return [str(folder / f"ckpt-{step}") for step in sorted(steps, reverse=True)]


class Checkpoints:
    """The last checkpoints of network, optimiser (moments, averages, step count) and `others`."""

    def __init__(self, folder, network, optimizer, keep: int = 2, **others):
        self._folder = pathlib.Path(folder)
        self._checkpoint = tf.train.Checkpoint(network=network, optimizer=optimizer, **others)
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(self._folder / "checkpoints"), max_to_keep=keep
        )
        # Reading makes it. Later the chief alone would, where variables are all workers' to make.
        self._counter = self._checkpoint.save_counter

    def save(self, step: int) -> None:
        """Saves the checkpoint of a step; InputError where the disk is full, say."""
        with writing_here(self._folder):
            self._manager.save(checkpoint_number=step)

    def restore(self) -> bool:
        """Restores the newest checkpoint that is whole; False where there is none at all.

        Raises:
            InputError: checkpoints lie there, and none can be read.
        """
        failed = []
        for prefix in _checkpoints_in(self._folder / "checkpoints"):
            try:
                self._checkpoint.restore(prefix).assert_existing_objects_matched()
            except (tf.errors.OpError, AssertionError, ValueError, TypeError) as error:
                failed.append(f"checkpoint {prefix} can't be restored: {reason(error)}")
                continue
            for fault in failed:
                logging.warning("%s; the run goes on from the one before, %s", fault, prefix)
            return True
        if failed:
            raise InputError(f"{failed[0]}; start anew in another --output_dir.")
        return False
