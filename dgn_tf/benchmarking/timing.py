"""Timing of things against each other on a machine whose speed drifts."""

import time
from collections.abc import Callable

import numpy as np


def alternate(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each job in each round; every round runs all jobs, one after the other.

    What slows the machine down for a while slows all jobs of that round, so ratios of the same
    round hold where absolute times don't. Each job runs once before, untimed: it may compile. Odd
    rounds run in the opposite order, so that no job is always the one after a certain other.

    Args:
        jobs: name -> what to time; it returns when the work is done.
        rounds: R.

    Returns:
        name -> [R] seconds.
    """
    for job in jobs.values():
        job()
    seconds = {name: np.empty(rounds) for name in jobs}
    for number in range(rounds):
        names = list(jobs) if number % 2 == 0 else list(reversed(jobs))
        for name in names:
            start = time.perf_counter()
            jobs[name]()
            seconds[name][number] = time.perf_counter() - start
    return seconds


def ratio(above: np.ndarray, below: np.ndarray) -> float:
    """Median over the rounds of above / below."""
    return float(np.median(above / below))


def repeated(job: Callable[[], object], times: int) -> Callable[[], None]:
    """`job` that often in a row: for jobs that are short against the clock's and cache's noise."""

    def run():
        for _ in range(times):
            job()

    return run
