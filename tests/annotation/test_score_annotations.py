import pytest

from dgn_tf.errors import InputError
from experiments.score_annotations import read_annotations
from tests.view_records import write_view_records


def test_a_camera_that_the_records_do_not_have_is_named(tmp_path):
    folder = write_view_records(tmp_path / "r", steps=2, cameras=2, shards=1)
    with pytest.raises(InputError, match="no camera 3 in these records, which have 1, 2"):
        read_annotations(str(folder), 3)
