"""Folders of multi-view records that a run may learn from."""

import pathlib
from collections.abc import Sequence

from dgn_tf.errors import InputError
from dgn_tf.records.schema import DESCRIPTION_FILE
from dgn_tf.records.views import view_description


def training_description(
    flag: str, folder: str, cameras: Sequence[int], how_to_make: str, test_split: bool = False
) -> dict:
    """`description.json` of a split's records, once they are there and fit to learn from.

    Args:
        flag: that named the folder, such as `--real_records`.
        folder: of the split's records.
        cameras: numbers (from 1) of --real_cameras; none: every one.
        how_to_make: what the message about a missing folder says; {output} and {split} in it
            stand for the writer's --output_dir and the folder that it then writes.
        test_split: the test split will do, too.

    Raises:
        InputError: nothing there, records of another kind or of the test split, a camera that
            they lack.
    """
    flag, path = f"{flag}={folder}", pathlib.Path(folder)
    if not (path / DESCRIPTION_FILE).is_file():
        if (path / "train").is_dir():
            raise InputError(f"{flag}: the folder of several splits; name {path / 'train'}.")
        output = path.parent if path.name == "train" else path
        made = how_to_make.format(output=output, split=output / "train")
        raise InputError(f"{flag}: no finished records there; {made}.")
    description = view_description(folder)
    if description["split"] == "test" and not test_split:
        raise InputError(f"{flag} is the test split, which nothing may learn from.")
    for camera in cameras:
        if camera not in description["cameras"]:
            known = ", ".join(str(number) for number in description["cameras"])
            raise InputError(
                f"--real_cameras={camera}: {path} has cameras {known}; name some of them."
            )
    return description
