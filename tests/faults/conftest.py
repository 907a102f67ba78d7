"""What holds for every fault: it costs no more memory than a machine has."""

import resource

import pytest

MOST_KB = 2_000_000
TENSORFLOW_KB = 700_000  # what a process has that did nothing but import it


def peak_kb(who: int) -> int:
    return resource.getrusage(who).ru_maxrss


@pytest.fixture(autouse=True)
def no_fault_takes_two_gigabytes():
    # Peaks are those of all tests so far: only what a test adds to them is its own.
    own, children = peak_kb(resource.RUSAGE_SELF), peak_kb(resource.RUSAGE_CHILDREN)
    yield
    assert peak_kb(resource.RUSAGE_SELF) < own + MOST_KB
    assert peak_kb(resource.RUSAGE_CHILDREN) <= max(children, MOST_KB + TENSORFLOW_KB)
