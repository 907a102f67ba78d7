"""What all tests share: threads, quiet imports, flags that don't mix, data that don't ship."""

import os
import pathlib
import sys

import pytest
from absl import flags

# Before anything imports TensorFlow or numba; the Makefile's values win.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="session")
def checkout() -> pathlib.Path:
    """The folder of setup.cfg."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Data that can't ship (labels, frames): $DGN_SHARED, or shared/data beside the checkout."""
    folder = pathlib.Path(os.environ.get("DGN_SHARED") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no shared data: set DGN_SHARED to their folder")
    return folder


def _forget_modules_with_flags():
    for module, defined in list(flags.FLAGS.flags_by_module_dict().items()):
        if not module.startswith(("dgn_tf.", "data_prep.")):
            continue
        for flag in list(defined):
            if flag.name in flags.FLAGS:
                delattr(flags.FLAGS, flag.name)
        package, _, name = module.rpartition(".")
        vars(sys.modules[package]).pop(name, None)
        sys.modules.pop(module, None)


def pytest_collectstart(collector):
    """Before a file of tests is imported: see `flags_of_one_module`."""
    _forget_modules_with_flags()


@pytest.fixture(autouse=True)
def flags_of_one_module():
    """Forgets the modules one runs that were imported before, with their flags.

    Each defines flags for a process of its own, and several define the same name (--output_dir);
    a process of tests imports many of them. A test that parses flags imports its module itself.
    """
    _forget_modules_with_flags()
