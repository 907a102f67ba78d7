"""The shares of a batch: without overlap, and together the batch of a single process."""

import numpy as np
import pytest

from dgn_tf.records.batches import Batching, Share
from dgn_tf.records.reader import record_dataset
from dgn_tf.records.view_crops import AugmentConfig
from dgn_tf.records.views import view_dataset
from dgn_tf.synthesis.online import online_dataset
from dgn_tf.synthesis.settings import SynthesisConfig
from dgn_tf.template import DEFAULT_TEMPLATE_PATH, HandTemplate
from tests.tiny_template import tiny_template
from tests.view_records import write_view_records
from tests.written_records import write_records

BATCH, STEPS = 6, 2


def datasets(kind, folder):
    """The kind's dataset as a function of the share, from its second batch on."""
    if kind == "online":
        hand, config = HandTemplate.load(DEFAULT_TEMPLATE_PATH), SynthesisConfig()
        return lambda **share: online_dataset(
            hand, config, Batching(BATCH, seed=3, start_step=1, threads=1, **share)
        )
    template = tiny_template()
    if kind == "records":
        records = str(write_records(folder, template, count=18))
        return lambda **share: record_dataset(
            records, template, Batching(BATCH, start_step=1, **share)
        )
    views = str(write_view_records(folder, 18))
    return lambda **share: view_dataset(
        views, Batching(BATCH, start_step=1, **share), 1, AugmentConfig(), size=32
    )


@pytest.mark.parametrize("kind", ["online", "records", "views"])
@pytest.mark.parametrize("parts", [2, 3])
def test_shares_are_disjoint_and_together_the_batch(kind, parts, tmp_path):
    make = datasets(kind, tmp_path)
    whole = list(make().take(STEPS).as_numpy_iterator())
    shares = [
        list(make(share=Share(part, parts)).take(STEPS).as_numpy_iterator())
        for part in range(parts)
    ]
    for batch, *pieces in zip(whole, *shares, strict=True):
        assert all(len(piece["cube"]) == BATCH // parts for piece in pieces)
        for name, value in batch.items():
            together = np.concatenate([piece[name] for piece in pieces])
            np.testing.assert_array_equal(together, value, err_msg=name)
        # No frame twice: each has a centre of its own.
        assert len(np.unique(batch["centre"], axis=0)) == BATCH


def test_unequal_shares_are_refused():
    assert Share(1, 3).rows(6) == range(2, 4)
    with pytest.raises(ValueError, match="5 frames can't be cut in 2 equal parts"):
        Share(0, 2).rows(5)
