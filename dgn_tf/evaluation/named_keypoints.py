"""Labels of one set of key points for models of another: by name, where names meet."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from dgn_tf.errors import InputError

# What synthetic records tell in terms of their own template's mesh.
_OF_MESH = ("face", "barycentric", "correspondence_mask")


def columns_by_name(names: Sequence[str], template, where: str) -> np.ndarray:
    """Returns [J] int, the place among `names` of each of the template's key points; -1: none.

    Args:
        names: of the labels' key points, in their order.
        template: HandTemplate of what is measured.
        where: names the labels in errors.

    Raises:
        InputError: none of the evaluated key points has a label.
    """
    place = {name: column for column, name in enumerate(names)}
    columns = np.array([place.get(name, -1) for name in template.keypoint_names])
    if (columns[template.evaluated] < 0).all():
        raise InputError(
            f"{where}: labels none of the key points that are evaluated for the template "
            f"{template.name}; take a template that shares some."
        )
    return columns


def in_order(batch: dict, columns: np.ndarray) -> dict:
    """Returns the batch with keypoints [B, J, 3] and keypoints_valid [B, J] by `columns`.

    What has no label is not valid.
    """
    keypoints = np.asarray(batch["keypoints"])
    valid = np.asarray(batch.get("keypoints_valid", np.ones(keypoints.shape[:2], np.float32)))
    return {
        **batch,
        "keypoints": keypoints[:, columns],
        "keypoints_valid": np.where(columns >= 0, valid[:, columns], 0),
    }


def of_other_template(batches: Iterable[dict], columns: np.ndarray) -> Iterator[dict]:
    """Yields batches of another template's records: its mesh is another one's (other_vertices)."""
    for batch in batches:
        arrays = {name: np.asarray(value) for name, value in batch.items() if name not in _OF_MESH}
        arrays["other_vertices"] = arrays.pop("vertices")
        yield in_order(arrays, columns)
