"""What all tests share: threads, quiet imports, flags that don't mix, data that don't ship."""

import contextlib
import ctypes
import gc
import os
import pathlib
import sys

import pytest
from absl import flags

# Before anything imports TensorFlow or numba; the Makefile's values win.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
# A process of tests trains too, and so do those that it starts: no program may say otherwise.
os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "0")

ROOT = pathlib.Path(__file__).parents[1]


def pytest_collection_finish():
    """What was imported stays: the collector need not look through TensorFlow again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


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


@pytest.fixture(autouse=True, scope="module")
def memory_given_back():
    """What a file's graphs took goes back to the system: a process of tests runs some hundred."""
    yield
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # where the C library is not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


# The modules one runs define flags for a process of their own, and several define the same name
# (--output_dir). A process of tests imports many of them: so each file of tests has those that it
# imports at its top, and each test besides those that it imports itself.
_OWN = ("dgn_tf.", "data_prep.", "experiments.", "benchmarks.")
_MODULES_OF_FILE = pytest.StashKey[list]()


def _modules_with_flags() -> list:
    """(name, module, its flags) of those of the project that are imported."""
    return [
        (name, sys.modules[name], list(defined))
        for name, defined in flags.FLAGS.flags_by_module_dict().items()
        if name.startswith(_OWN) and name in sys.modules and defined
    ]


def _forget(modules) -> None:
    for name, _, defined in modules:
        for flag in defined:
            if flag.name in flags.FLAGS:
                delattr(flags.FLAGS, flag.name)
        package, _, last = name.rpartition(".")
        vars(sys.modules[package]).pop(last, None)
        del sys.modules[name]


def _restore(modules) -> None:
    for name, module, defined in modules:
        sys.modules[name] = module
        package, _, last = name.rpartition(".")
        setattr(sys.modules[package], last, module)
        for flag in defined:
            flags.DEFINE_flag(flag, module_name=name)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Imports each file of tests without the flags of the files before."""
    if not isinstance(collector, pytest.Module):
        return (yield)
    report = yield
    collector.stash[_MODULES_OF_FILE] = _modules_with_flags()
    _forget(_modules_with_flags())
    return report


@pytest.fixture(autouse=True)
def flags_of_this_file(request):
    """Only the modules that the test's file imports at its top are there, with their flags.

    None are left behind: fixtures of a session, which come first, import theirs into a clean
    process.
    """
    _forget(_modules_with_flags())
    _restore(request.node.getparent(pytest.Module).stash[_MODULES_OF_FILE])
    yield
    _forget(_modules_with_flags())
