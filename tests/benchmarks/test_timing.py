"""Alternating measurement."""

import numpy as np
import pytest

from benchmarks import timing


def test_every_job_warms_up_once_and_then_runs_once_a_round_in_changing_order():
    calls = []
    jobs = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = timing.alternate(jobs, rounds=3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert all(values.shape == (3,) and np.all(values >= 0) for values in seconds.values())


def test_drift_cancels_in_a_ratio_of_rounds():
    drift = np.array([1.0, 5.0, 2.0])
    assert timing.ratio(3 * drift, drift) == 3


def test_repeated_runs_that_often():
    calls = []
    timing.repeated(lambda: calls.append(1), 4)()
    assert len(calls) == 4


def test_spread_on_known_ratios():
    below = np.linspace(1, 3, 101)
    ratios = np.random.default_rng(0).permutation(np.arange(1, 102))  # 1 .. 101
    found = timing.spread(ratios * below, below)
    assert found["median"] == pytest.approx(51)
    assert (found["quarter"], found["three_quarters"]) == pytest.approx((26, 76))
    # Ranks 41 and 61 of 101: the binomial table's for 95 %.
    assert (found["low"], found["high"]) == pytest.approx((41, 61))


@pytest.mark.parametrize("rounds, rank", [(3, 0), (5, 0), (6, 0), (9, 1), (12, 2), (20, 5)])
def test_the_interval_has_the_ranks_of_the_sign_test(rounds, rank):
    ratios = np.arange(rounds, dtype=float)
    found = timing.spread(ratios, np.ones(rounds))
    assert (found["low"], found["high"]) == (rank, rounds - 1 - rank)


def test_the_interval_holds_the_median_in_nineteen_of_twenty_cases():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        found = timing.spread(rng.lognormal(size=12), np.ones(12))
        held += found["low"] <= 1.0 <= found["high"]
    assert held / 2000 > 0.94


def test_quantiles_are_in_milliseconds():
    assert timing.quantiles_ms(np.arange(101) / 1000) == {"ms_p50": 50.0, "ms_p99": 99.0}
