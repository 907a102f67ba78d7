"""Timing of things against each other on a machine whose speed drifts."""

import math
import time
from collections.abc import Callable

import numpy as np


def alternate(
    jobs: dict[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] | None = None,
) -> dict[str, np.ndarray]:
    """Seconds of each job in each round; every round runs all jobs, one after the other.

    What slows the machine down for a while slows all jobs of that round, so ratios of the same
    round hold where absolute times don't. Each job runs once before, untimed: it may compile. Odd
    rounds run in the opposite order, so that no job is always the one after a certain other.

    Args:
        jobs: name -> what to time; it returns when the work is done.
        rounds: R.
        clock: seconds; None: `time.perf_counter`. `time.process_time` leaves out what other
            processes take.

    Returns:
        name -> [R] seconds.
    """
    clock = clock or time.perf_counter
    for job in jobs.values():
        job()
    seconds = {name: np.empty(rounds) for name in jobs}
    for number in range(rounds):
        names = list(jobs) if number % 2 == 0 else list(reversed(jobs))
        for name in names:
            start = clock()
            jobs[name]()
            seconds[name][number] = clock() - start
    return seconds


def ratio(above: np.ndarray, below: np.ndarray) -> float:
    """Median over the rounds of above / below."""
    return float(np.median(above / below))


def spread(above: np.ndarray, below: np.ndarray) -> dict[str, float]:
    """above / below over the rounds: `median`, its `low` and `high`, and the middle half.

    `low` .. `high` holds the median of the rounds' distribution in at least 95 % of the cases,
    whatever that distribution is (order statistics, binomial); with fewer than 6 rounds they are
    the smallest and the largest round. `quarter` .. `three_quarters` is where half of the rounds
    lie.
    """
    ratios = np.sort(above / below)
    rank = _rank_below_median(len(ratios))
    quarter, median, three_quarters = np.percentile(ratios, [25, 50, 75])
    return {
        "median": float(median),
        "low": float(ratios[rank]),
        "high": float(ratios[-1 - rank]),
        "quarter": float(quarter),
        "three_quarters": float(three_quarters),
    }


def _rank_below_median(count: int) -> int:
    """Largest r so that the r-th smallest (from 0) of `count` is above the median in < 2.5 %."""
    chance, rank = 0.5**count, 0
    while rank + 1 < count / 2:
        # The sample of rank r + 1 is above the median where at most r + 1 samples are below.
        more = chance + math.comb(count, rank + 1) * 0.5**count
        if more >= 0.025:
            break
        chance, rank = more, rank + 1
    return rank


def quantiles_ms(seconds: np.ndarray) -> dict[str, float]:
    """`ms_p50` and `ms_p99` of seconds."""
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    return {"ms_p50": float(p50), "ms_p99": float(p99)}


def repeated(job: Callable[[], object], times: int) -> Callable[[], None]:
    """`job` that often in a row: for jobs that are short against the clock's and cache's noise."""

    def run():
        for _ in range(times):
            job()

    return run
