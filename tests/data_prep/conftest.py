"""A small data set in NYU's layout and its records, shared by the tests of the converter."""

import pathlib
import shutil

import pytest

from tests.data_prep import nyu_folder
from tests.view_records import grouped


@pytest.fixture(scope="session")
def convert():
    # Modules with flags are forgotten before each test: imported here, kept by the closure.
    from data_prep.nyu_to_tfrecord import convert_split

    def convert(nyu, output, split="test", **settings):
        settings = {"workers": 1, "steps_per_shard": 2, "progress": False, **settings}
        return convert_split(nyu, output, split, **grouped(settings))

    return convert


@pytest.fixture(scope="session")
def nyu(tmp_path_factory):
    return nyu_folder.write_nyu(tmp_path_factory.mktemp("nyu") / "data")


@pytest.fixture(scope="session")
def records(convert, nyu, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    convert(nyu, folder)
    return folder / "test"


@pytest.fixture
def copy(nyu, tmp_path):
    return pathlib.Path(shutil.copytree(nyu, tmp_path / "nyu"))
