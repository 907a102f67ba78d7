"""Alternating measurement."""

import numpy as np

from dgn_tf.benchmarking import timing


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
