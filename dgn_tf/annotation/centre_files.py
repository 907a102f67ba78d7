"""Writes where the crops were centred as text files, which `--center=file` of data_prep reads."""

import os
import pathlib
from collections.abc import Iterable

import numpy as np

from dgn_tf.errors import InputError


def centre_arrays(labels: Iterable[dict], cameras: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Centres by camera number: [N, 3] mm, camera frame, N the last index.

    Args:
        labels: of each record, see `schema.parse_labels`: index, centre [C, 3] mm, annotated [C].
        cameras: [C] their numbers, from 1.

    Returns:
        Row index - 1 is a frame's; NaN where the view is not annotated.
    """
    found = [(int(record["index"]), record["centre"], record["annotated"]) for record in labels]
    last = max(index for index, _, _ in found)
    centres = {camera: np.full([last, 3], np.nan) for camera in cameras}
    for index, centre, annotated in found:
        for view, camera in enumerate(cameras):
            if annotated[view]:
                centres[camera][index - 1] = centre[view]
    return centres


def write_centres(folder, centres: dict[int, np.ndarray]) -> None:
    """Writes `centres_{camera}.txt`: a line `x y z` a frame, mm, `invalid` thrice where NaN.

    Raises:
        InputError: a file can't be written; it is written beside, then renamed.
    """
    for camera, places in centres.items():
        file = pathlib.Path(folder) / f"centres_{camera}.txt"
        lines = [
            "{:.3f} {:.3f} {:.3f}".format(*place) if np.isfinite(place).all()
            else "invalid invalid invalid"
            for place in places
        ]  # fmt: skip
        beside = file.with_name(file.name + ".part")
        try:
            beside.write_text("\n".join(lines) + "\n")
            os.replace(beside, file)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise InputError(f"{file}: can't be written ({error.strerror}).") from None
