import json

import numpy as np
import pytest

from dgn_tf.live.frames import LiveFrame
from dgn_tf.live.synthetic import Truth


class Recording(list):
    rate = 30.0
    intrinsics = np.float32([1, 1, 0, 0])


class Mesh:
    def __init__(self, points, hand="right"):
        self.vertices = self.keypoints = points
        self.hand = hand


class Hand:
    def __init__(self, points, identity=0, valid=True):
        self.mesh, self.identity, self.valid = Mesh(points), identity, valid


def points(x):
    return np.array([[x, 0, 500.0], [x + 10, 0, 500.0]])


def recording(path, seen=1.0):
    """A hand whose middle's column goes along `path`, mm."""
    return Recording(
        LiveFrame(
            np.zeros([2, 2]),
            Recording.intrinsics,
            1.0,
            number / 30,
            Truth(("right",), points(x)[None], points(x)[None], np.array([seen])),
        )
        for number, x in enumerate(path)
    )


def replayed(answers):
    """A tracker that gives answers in their order."""
    rest = iter(answers)
    return lambda *_: next(rest)


def test_losses_errors_and_switches_are_counted():
    from benchmarks import tracking

    source = recording(np.zeros(5))
    found = [[Hand(points(3.0))], [], [Hand(points(3.0), valid=False)], [Hand(points(300.0))]]
    result = tracking.follow(replayed([*found, [Hand(points(3.0), identity=1)]]), source)
    assert result["in_view"] == 5 and result["lost"] == 3 and result["switched"] == 1
    assert result["error_mm"] == pytest.approx(3.0)
    hidden = recording(np.zeros(2), seen=0.4)
    hidden[0] = source[0]
    result = tracking.follow(replayed([[Hand(points(0.0))], []]), hidden)
    assert result["in_view"] == 1 and result["lost"] == 0


def test_a_path_that_is_late_has_that_lag():
    from benchmarks import tracking

    path = 150 * np.sin(np.arange(120) / 9)
    late = np.interp(np.arange(120) - 1.5, np.arange(120), path)
    found = tracking.lag(replayed([[Hand(points(x))] for x in late]), recording(path))
    assert found["lag_frames"] == pytest.approx(1.5, abs=0.1) and found["left_mm"] < 1


def test_jitter_is_that_of_the_vertices_about_their_mean():
    from benchmarks import tracking

    rng = np.random.default_rng(0)
    answers = [[Hand(points(0.0) + rng.normal(0, 1.0, [2, 3]))] for _ in range(240)]
    found = tracking.jitter(replayed(answers), recording(np.zeros(240)))
    assert found == pytest.approx(np.sqrt(3), rel=0.1)


@pytest.mark.slow
def test_the_benchmark_runs_and_writes_its_figures(tmp_path, capsys, checkout):
    from tests import programs

    file = tmp_path / "tracking.json"
    model = checkout / "saved_models" / "dgn"
    programs.run(
        *("benchmarks.tracking", f"--saved_model={model}", "--seconds=4", "--seed=5"),
        *("--filter=one_euro", "--rounds=10", f"--json={file}"),
    )
    result = json.loads(file.read_text())
    assert result["crossing"]["crossings"] == 2 and result["crossing"]["switched"] == 0
    assert result["steady_one_euro"]["jitter_mm"] < result["steady_none"]["jitter_mm"]
    assert abs(result["steady_one_euro"]["lag_frames"]) < 1
    assert result["time"]["tracked_to_crop"]["median"] > 0
