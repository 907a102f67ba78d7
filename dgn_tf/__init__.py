"""Dual Grid Net: a depth camera frame in, the dense 3D surface of the hand out."""

from typing import TYPE_CHECKING

from dgn_tf.quiet import quiet_programs

if TYPE_CHECKING:
    from dgn_tf.live.tracker import HandTracker, TrackedHand
    from dgn_tf.predictor import HandMesh, HandMeshPredictor
    from dgn_tf.serving.client import HandMeshClient

quiet_programs()

__all__ = ["HandMesh", "HandMeshClient", "HandMeshPredictor", "HandTracker", "TrackedHand"]


def __getattr__(name: str):
    """Imports what is asked for when it is: importing `dgn_tf` does no work."""
    if name == "HandMeshClient":
        from dgn_tf.serving.client import HandMeshClient

        return HandMeshClient
    if name in ("HandTracker", "TrackedHand"):
        from dgn_tf.live import tracker

        return getattr(tracker, name)
    if name in __all__:
        from dgn_tf import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
