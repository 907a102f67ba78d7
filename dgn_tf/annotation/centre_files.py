"""Writes where the crops were centred as text files, which `--center=file` of data_prep reads."""

import pathlib
from collections.abc import Iterable

import numpy as np

from dgn_tf.writing import write_output


def centre_arrays(
    labels: Iterable[dict], cameras: tuple[int, ...], last: int
) -> dict[int, np.ndarray]:
    """Centres by camera number: [N, 3] mm, camera frame.

    Args:
        labels: of each record, see `schema.in_camera`: index, centre [C, 3] mm, annotated [C].
        cameras: [C] their numbers, from 1.
        last: N, the last frame's index, annotated or not.

    Returns:
        Row index - 1 is a frame's; NaN where the view has no frame or is not annotated.
    """
    centres = {camera: np.full([last, 3], np.nan) for camera in cameras}
    for record in labels:
        for view, camera in enumerate(cameras):
            # A view without a frame is annotated by the others', but has no crop: z is 0.
            if record["annotated"][view] and record["centre"][view, 2] > 0:
                centres[camera][int(record["index"]) - 1] = record["centre"][view]
    return centres


def write_centres(folder, centres: dict[int, np.ndarray]) -> None:
    """Writes `centres_{camera}.txt`: a line `x y z` a frame, mm, `invalid` thrice where NaN.

    Raises:
        InputError: a file can't be written.
    """
    for camera, places in centres.items():
        file = pathlib.Path(folder) / f"centres_{camera}.txt"
        lines = [
            "{:.3f} {:.3f} {:.3f}".format(*place)
            if np.isfinite(place).all()
            else "invalid invalid invalid"
            for place in places
        ]
        write_output(file, "\n".join(lines) + "\n")
