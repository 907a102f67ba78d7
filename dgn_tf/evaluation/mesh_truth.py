"""True meshes of frames: `--truth` and `--truth_template`, in the layout of `nyu_like/truth`."""

import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.geometry import mirror
from dgn_tf.npz_file import read_arrays
from dgn_tf.template.checks import directed_edges


class MeshTruth:
    """The true mesh of some frames, in the rig's frame, which is camera 1's.

    Args:
        file: .npz with index [M], the frames' numbers (from 1), origin [M, 3] and vertices
            [M, V, 3]: a posed vertex is origin + vertices, mm, camera 1, x right, y down,
            z forward.
        template_file: .npz with vertices [V, 3] at rest (any unit) and faces [F, 3].

    Attributes:
        faces: [F, 3] int64.
        wrist_loop: [L] vertices of the longest closed border, in order; empty where there is none.

    Raises:
        InputError: a file can't be read, lacks an array, or the two contradict each other.
    """

    def __init__(self, file, template_file):
        template = _read(template_file, "--truth_template", {"vertices": 2, "faces": 2})
        self.faces = template["faces"].astype(np.int64)
        rest = len(template["vertices"])
        if self.faces.shape[1:] != (3,) or not len(self.faces):
            raise InputError(
                f"--truth_template={template_file}: faces are to be [F, 3], got "
                f"{list(self.faces.shape)}."
            )
        if self.faces.min() < 0 or self.faces.max() >= rest:
            raise InputError(
                f"--truth_template={template_file}: faces are to name vertices 0 .. {rest - 1}, "
                f"got {self.faces.min()} .. {self.faces.max()}."
            )
        self.wrist_loop = longest_border(self.faces)

        truth = _read(file, "--truth", {"index": 1, "origin": 2, "vertices": 3})
        frames = len(truth["index"])
        shapes = {"origin": (frames, 3), "vertices": (frames, rest, 3)}
        for name, shape in shapes.items():
            if truth[name].shape != shape:
                raise InputError(
                    f"--truth={file}: {name} is {list(truth[name].shape)}, wanted {list(shape)} by "
                    "its index and --truth_template."
                )
            if not np.isfinite(truth[name]).all():
                raise InputError(f"--truth={file}: {name} has values that are not finite.")
        self._rows = {int(index): row for row, index in enumerate(truth["index"])}
        if len(self._rows) < frames:
            raise InputError(f"--truth={file}: index names a frame twice.")
        self._origin, self._offsets = truth["origin"], truth["vertices"]

    def __len__(self) -> int:
        return len(self._rows)

    def is_of(self, template) -> bool:
        """Whether the mesh is that of a HandTemplate: as many vertices, in the same faces."""
        return self._offsets.shape[1] == len(template.vertices) and np.array_equal(
            self.faces, template.faces
        )

    def vertices_mm(
        self, index: np.ndarray, camera_from_rig: np.ndarray, left: np.ndarray | None = None
    ) -> np.ndarray:
        """True vertices of frames as a camera sees them.

        Args:
            index: [B] the frames' numbers.
            camera_from_rig: [B, 4, 4] mm, rigid.
            left: [B], not 0 where the hand is a left one and camera and rig are mirrored, as
                records have it; None: nowhere.

        Returns:
            [B, V, 3] float32 mm, camera frame; NaN for a frame that has no truth.
        """
        result = np.full([len(index), *self._offsets.shape[1:]], np.nan, np.float32)
        for number, frame in enumerate(np.asarray(index)):
            row = self._rows.get(int(frame))
            if row is not None:
                points = self._origin[row].astype(np.float64) + self._offsets[row]
                if left is not None and left[number]:
                    points = mirror.mirror_points(points)
                transform = np.asarray(camera_from_rig[number], np.float64)
                result[number] = points @ transform[:3, :3].T + transform[:3, 3]
        return result


def longest_border(faces: np.ndarray) -> np.ndarray:
    """Vertices of the longest closed loop of border edges, in order: [L], empty without border.

    A border edge has a face on one side alone. Small holes and edges where more than two faces
    meet, as scanned and welded meshes have them, make loops of a few edges, or none.
    """
    edges = directed_edges(np.asarray(faces, np.int64))
    count = int(edges.max()) + 1
    code, reverse = edges @ [count, 1], edges @ [1, count]
    following = dict(edges[~np.isin(code, reverse)].tolist())
    left = set(following)
    longest: list[int] = []
    for start in sorted(following):
        path, vertex = [], start
        while vertex in left:
            left.remove(vertex)
            path.append(vertex)
            vertex = following[vertex]
        if vertex in path:  # else the path ran into another one, or ended
            loop = path[path.index(vertex) :]
            longest = max(longest, loop, key=len)
    return np.asarray(longest, np.int64)


def _read(file, flag, ranks):
    """The named arrays of an .npz, each a numeric array of that rank."""
    if not os.path.isfile(file):
        raise InputError(f"{flag}={file} does not exist; wanted an .npz with {', '.join(ranks)}.")
    try:
        arrays = read_arrays(file, ranks)
    except (OSError, ValueError) as error:
        raise InputError(f"{flag}={file} can't be read as an .npz ({error}).") from None
    for name, rank in ranks.items():
        if name not in arrays:
            raise InputError(f"{flag}={file} lacks {name}; wanted {', '.join(ranks)}.")
        if arrays[name].ndim != rank or arrays[name].dtype.kind not in "iuf":
            raise InputError(
                f"{flag}={file}: {name} is to be a numeric array of rank {rank}, got "
                f"{arrays[name].dtype} {list(arrays[name].shape)}."
            )
    return arrays


# Labels of one set of key points for models of another: by name, where names meet.


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
