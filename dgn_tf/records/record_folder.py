"""A folder that a run writes records into: it alone, and no other set's."""

import json
import pathlib

from dgn_tf.errors import InputError
from dgn_tf.json_file import read_json, write_json
from dgn_tf.records.reader import RecordStore
from dgn_tf.records.schema import DESCRIPTION_FILE

PLAN_FILE = "plan.json"
# Entries that sets lack which were written before there was a choice.
_ALWAYS_WAS = {"hand": "right"}


def hand_of(description: dict) -> str:
    """Which hand a set's frames showed, "right" or "left"; its records show right ones."""
    return {**_ALWAYS_WAS, **description}["hand"]


def is_whole(shard: pathlib.Path, count: int) -> bool:
    """Whether a shard has its `count` records, all of them as they were written."""
    if not shard.exists():
        return False
    try:
        found = RecordStore([str(shard)])
        return len(found) == sum(1 for _ in found) == count
    except InputError:
        return False  # Cut or damaged, by a full disk say: to be written again.


def is_claimed(folder) -> bool:
    """Whether a set of records lies or was begun in the folder."""
    return any(pathlib.Path(folder, name).exists() for name in (PLAN_FILE, DESCRIPTION_FILE))


def claim(folder: pathlib.Path, plan: dict) -> None:
    """Makes sure that the folder is empty or holds the beginning of this very set of records.

    Args:
        folder: that exists; `plan` is written there where it holds nothing.
        plan: what the records depend on, as JSON values.

    Raises:
        InputError: the folder holds other records, or some of unknown origin.
    """
    wanted = json.loads(json.dumps(plan))
    for name in (PLAN_FILE, DESCRIPTION_FILE):
        path = folder / name
        if not path.exists():
            continue
        try:
            found = read_json(path)
        except ValueError:
            found = {}
        found = {**_ALWAYS_WAS, **found} if isinstance(found, dict) else {}
        differing = [key for key, value in wanted.items() if found.get(key) != value]
        if differing:
            raise InputError(
                f"{path}: the folder holds other records ({', '.join(differing)} differ); choose "
                "another --output_dir or delete it."
            )
        return
    strangers = sorted(path.name for path in folder.glob("[!.]*.tfrecord"))
    if strangers:
        raise InputError(
            f"{folder / strangers[0]}: records of unknown origin; choose another --output_dir or "
            "delete them."
        )
    write_json(plan, folder / PLAN_FILE, "--output_dir")
