"""Crops on which quantised engines are calibrated: from records, or synthesised."""

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.network_config import NETWORK_INPUTS


def calibration_crops(network, records: str, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """The first `count` crops of `records`, or synthetic ones where `records` is empty.

    Args:
        network: that the crops are for.
        records: folder or glob of `data_prep.synthetic_to_tfrecord`, or a folder of
            `data_prep.nyu_to_tfrecord` (camera 1 of its training split, or of the split named).
        count: N.
        seed: of synthetic crops.

    Returns:
        float32 depth [N, S, S], intrinsics [N, 4], centre [N, 3], cube [N], mm and pixels.

    Raises:
        InputError: the records can't be read, are of another template, or too few.
    """
    if not records:
        from dgn_tf.synthesis.batches import synthesize_batch
        from dgn_tf.synthesis.settings import SynthesisConfig

        config = SynthesisConfig(size=network.config.image_size)
        batch = synthesize_batch(network.template, config, seed, 0, count)
        return {name: np.asarray(batch[name], np.float32) for name in NETWORK_INPUTS}
    kept: dict[str, list] = {name: [] for name in NETWORK_INPUTS}
    found = 0
    for batch in _batches(network, records):
        for name in NETWORK_INPUTS:
            kept[name].append(np.asarray(batch[name], np.float32))
        found += len(kept["cube"][-1])
        if found >= count:
            return {name: np.concatenate(parts)[:count] for name, parts in kept.items()}
    raise InputError(
        f"--calibration_records={records} hold {found} frames, {count} are wanted; "
        "write more, or lower --calibration_frames."
    )


def _batches(network, records, size=32):
    from dgn_tf.evaluation.view_records import ViewFrames, find_view_records
    from dgn_tf.records.reader import record_dataset

    views = find_view_records(records, "train", False)
    if views is not None:
        frames = ViewFrames(views, 1, network.template, None)
        return frames.batches(size, network.config.image_size)
    return record_dataset(records, network.template, size, shuffle=False, repeat=False)
