"""What the shape fit gets wrong in the mean, learnt on synthetic users and undone."""

import dataclasses
import os

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.npz_file import read_fields, write_fields

_DAMPING = 0.3  # of the ridge regression, in users at one deviation of each shape


@dataclasses.dataclass(frozen=True, eq=False)
class ShapeBias:
    """A linear map from fitted coefficients to true ones.

    The network knows hands near the mean shape, and some shapes look alike in depth: the fit's
    error is partly the same for all users of a kind, and that part can be predicted.

    Attributes:
        matrix: [K, K], offset: [K]: true = fitted @ matrix + offset.
        names: of the K shapes.
        weights_sha256: hex, of the network's weights.h5.
        users, frames: how many it was learnt on, and frames of each.
    """

    matrix: np.ndarray
    offset: np.ndarray
    names: tuple[str, ...]
    weights_sha256: str
    users: int
    frames: int

    def __call__(self, shape: np.ndarray) -> np.ndarray:
        """[K] corrected coefficients."""
        return shape @ self.matrix + self.offset

    def save(self, file: str | os.PathLike) -> None:
        """Writes an .npz, beside, then renamed."""
        write_fields(self, file)

    @classmethod
    def load(cls, file: str | os.PathLike, names: tuple[str, ...], sha256: str) -> "ShapeBias":
        """Reads what `save` wrote.

        Args:
            file: the .npz.
            names: of the shapes that are fitted.
            sha256: of the weights that fit them.

        Raises:
            InputError: it is damaged, or of another network.
        """
        values = read_fields(cls, file, "python -m dgn_tf.learn_shape_bias makes it anew")
        found = cls(
            values["matrix"],
            values["offset"],
            tuple(map(str, values["names"])),
            str(values["weights_sha256"]),
            int(values["users"]),
            int(values["frames"]),
        )
        if found.weights_sha256 != sha256 or found.names != names:
            raise InputError(
                f"{file} belongs to other weights or shapes; make it anew with "
                "dgn_tf.learn_shape_bias, or remove it."
            )
        return found


def learn_bias(
    fitted: np.ndarray, true: np.ndarray, names: tuple[str, ...], sha256: str, frames: int
) -> ShapeBias:
    """Ridge regression of true coefficients on fitted ones.

    Args:
        fitted, true: [U, K] of U users.
        names: of the shapes.
        sha256: of the weights.
        frames: of each user.
    """
    middle, target = fitted.mean(axis=0), true.mean(axis=0)
    apart = fitted - middle
    square = apart.T @ apart + _DAMPING * np.eye(fitted.shape[1])
    matrix = np.linalg.solve(square, apart.T @ (true - target))
    return ShapeBias(matrix, target - middle @ matrix, names, sha256, len(fitted), frames)
