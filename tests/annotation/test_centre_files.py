import numpy as np
import pytest

from data_prep.multi_view.centres import read_centres
from dgn_tf.annotation.joint_data import centre_arrays, write_centres
from dgn_tf.errors import InputError


def labels():
    generator = np.random.default_rng(3)
    for index in (2, 4, 5):
        centre = generator.uniform([-100, -100, 400], [100, 100, 900], [2, 3])
        if index == 4:
            centre[1] = 0  # a view without a frame
        yield {"index": index, "centre": centre, "annotated": np.array([1, index != 5])}


def test_the_converter_reads_back_what_is_written(tmp_path):
    centres = centre_arrays(labels(), (1, 3), 6)
    write_centres(tmp_path, centres)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["centres_1.txt", "centres_3.txt"]
    for camera, wanted in centres.items():
        read, _ = read_centres(tmp_path / f"centres_{camera}.txt")
        np.testing.assert_allclose(read, wanted, atol=6e-4)  # NaN where NaN


def test_rows_are_the_frames_and_views_not_annotated_have_none():
    centres = centre_arrays(labels(), (1, 3), 6)
    known = {
        camera: np.flatnonzero(np.isfinite(places).all(axis=1)) + 1
        for camera, places in centres.items()
    }
    assert known[1].tolist() == [2, 4, 5] and known[3].tolist() == [2]
    assert len(centres[1]) == 6
    np.testing.assert_array_equal(centres[3][1], next(labels())["centre"][1])


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("of somebody")
    with pytest.raises(InputError, match="centres_1.txt: can't be written"):
        write_centres(tmp_path / "file", centre_arrays(labels(), (1, 3), 6))
