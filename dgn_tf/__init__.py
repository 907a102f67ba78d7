"""Dual Grid Net: a depth camera frame in, the dense 3D surface of the hand out."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dgn_tf.predictor import HandMesh, HandMeshPredictor

__all__ = ["HandMesh", "HandMeshPredictor"]


def __getattr__(name: str):
    """Imports the predictor when it is first asked for: importing `dgn_tf` does no work."""
    if name in __all__:
        from dgn_tf import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
