"""A run's folder: what it was started with, and its checkpoints, for exact resume."""

import json
import os
import pathlib
import subprocess

import tensorflow as tf

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
    write_beside(folder / "flags.txt", flags)
    write_beside(file, json.dumps({"settings": settings, "commit": commit()}, indent=1) + "\n")
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


def write_beside(file: pathlib.Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    part = file.with_name(file.name + ".part")
    part.write_text(text)
    os.replace(part, file)


def has_checkpoint(folder) -> bool:
    """Whether a run in `folder` has come to its first checkpoint."""
    return tf.train.latest_checkpoint(str(pathlib.Path(folder) / "checkpoints")) is not None


class Checkpoints:
    """The last checkpoints of network, optimiser (moments, averages, step count) and `others`."""

    def __init__(self, folder, network, optimizer, keep: int = 2, **others):
        self._checkpoint = tf.train.Checkpoint(network=network, optimizer=optimizer, **others)
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(pathlib.Path(folder) / "checkpoints"), max_to_keep=keep
        )
        # Reading makes it. Later the chief alone would, where variables are all workers' to make.
        self._counter = self._checkpoint.save_counter

    def save(self, step: int) -> None:
        self._manager.save(checkpoint_number=step)

    def restore(self) -> bool:
        """Restores the newest checkpoint; False where there is none.

        Raises:
            InputError: a checkpoint lies there but can't be read.
        """
        latest = self._manager.latest_checkpoint
        if latest is None:
            return False
        try:
            self._checkpoint.restore(latest).assert_existing_objects_matched()
        except (tf.errors.OpError, AssertionError) as error:
            first = reason(error)
            raise InputError(f"checkpoint {latest} can't be restored: {first}") from None
        return True
