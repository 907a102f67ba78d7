"""What holds for every fault: it costs no more memory than a machine has."""

import resource

import pytest

MOST_KB = 2_000_000
TENSORFLOW_KB = 700_000  # what a process has that did nothing but import it


def peak_kb(who: int) -> int:
    return resource.getrusage(who).ru_maxrss


@pytest.fixture(autouse=True)
def no_fault_takes_two_gigabytes():
    before = peak_kb(resource.RUSAGE_SELF)
    yield
    assert peak_kb(resource.RUSAGE_SELF) < before + MOST_KB
    assert peak_kb(resource.RUSAGE_CHILDREN) < MOST_KB + TENSORFLOW_KB
