"""Synthetic hands: on-line synthesis, records, and the per-pixel targets of an embedding."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dgn_tf.data.online import online_dataset
    from dgn_tf.data.pixel_targets import targets
    from dgn_tf.data.reader import record_dataset
    from dgn_tf.data.settings import SynthesisConfig
    from dgn_tf.data.synthesis import synthesize_batch

__all__ = [
    "SynthesisConfig",
    "online_dataset",
    "record_dataset",
    "render_frame",
    "synthesize_batch",
    "targets",
]

# Looked up at first use: a writer of records wants no TensorFlow graph code, a reader no renderer.
_HOMES = {
    "SynthesisConfig": "settings",
    "online_dataset": "online",
    "record_dataset": "reader",
    "render_frame": "frames",
    "synthesize_batch": "synthesis",
    "targets": "pixel_targets",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
