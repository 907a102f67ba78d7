"""The ladder's figures, on made-up errors."""

import numpy as np

from experiments.error_budget import ladder, rung_figures, vertex_figures
from experiments.oracles import KINDS, MEASURES


def made_up(steps, seed=0):
    rng = np.random.default_rng(seed)
    return {
        chosen: {name: rng.gamma(4.0, 3.0 / (1 + len(chosen)), 300) for name in MEASURES}
        for _, chosen in ladder(steps)
    }


def test_a_ladder_takes_one_step_more_on_each_rung():
    rungs = ladder(["a", "b", "c"])
    assert [name for name, _ in rungs] == ["as it is", "a", "b", "c"]
    assert [chosen for _, chosen in rungs] == [set(), {"a"}, {"a", "b"}, {"a", "b", "c"}]


def test_what_the_steps_take_away_adds_up_to_the_whole_way_down():
    found = made_up(["a", "b", "c"])
    rows = rung_figures(ladder(["a", "b", "c"]), found)
    for name in MEASURES:
        total = sum(row[f"{name}_less"] for row in rows)
        np.testing.assert_allclose(total, rows[0][name] - rows[-1][name])
        for row in rows:
            low, high = row[f"{name}_less_interval"]
            assert low <= row[f"{name}_less"] <= high


def test_alone_each_step_is_compared_with_the_network_as_it_is():
    rungs = ladder(["a", "b"])
    found = made_up(["a", "b"])
    rows = rung_figures(rungs, found, alone=True)
    for row in rows:
        expected = rows[0]["vertices_pr_mm"] - row["vertices_pr_mm"]
        np.testing.assert_allclose(row["vertices_pr_mm_less"], expected)


def test_a_difference_in_pairs_is_surer_than_its_ends():
    frames = np.random.default_rng(0).gamma(4.0, 3.0, 300)
    found = {
        frozenset(): {name: frames for name in MEASURES},
        frozenset("a"): {name: frames - 1 for name in MEASURES},
    }
    row = rung_figures(ladder(["a"]), found)[1]
    np.testing.assert_allclose(row["vertices_pr_mm_less_interval"], [1, 1])
    low, high = row["vertices_pr_mm_interval"]
    assert high - low > 0.5


def test_vertices_add_their_share_times_their_error():
    measured = {f"{name}_share": np.array([0.2, 0.4]) for name in KINDS}
    measured |= {f"{name}_ps_mm": np.array([2.0, 4.0]) for name in KINDS}
    for kind in vertex_figures(measured).values():
        np.testing.assert_allclose([kind["share"], kind["mean_mm"], kind["adds_mm"]], [0.3, 10, 3])
