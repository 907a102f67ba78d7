"""Right or left, decided once for a recording."""

import types

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from dgn_tf import frame_command, frame_report
from dgn_tf.hand_side import decide
from dgn_tf.predictor import NoHandError


def test_a_recording_is_decided_by_all_frames_together():
    # Two of five look like a left hand's by a little, the others like a right hand's by much.
    side = decide([1.2, -0.1, 0.9, -0.3, 0.8])
    assert (side.hand, side.agreeing, side.frames) == ("right", 3, 5)
    assert side.probability > 0.95
    assert str(side).startswith("right hand (probability 0.")
    assert "3 of 5 frames say so alone" in str(side)


def test_mirrored_evidence_is_the_other_hand_as_surely():
    evidence = [0.4, -0.2, 0.1]
    right, left = decide(evidence), decide([-value for value in evidence])
    assert (right.hand, left.hand) == ("right", "left")
    assert right.probability == pytest.approx(left.probability)


def test_more_frames_of_the_same_make_it_surer_but_less_than_by_their_number():
    one, four = decide([0.3]), decide([0.3] * 4)
    assert 0.5 < one.probability < four.probability
    assert four.probability == pytest.approx(decide([0.6]).probability)
    assert decide([100.0] * 9).probability <= 1.0


def test_evidence_is_wanted():
    with pytest.raises(ValueError, match="one frame at least"):
        decide([])


class Evidence:
    """A predictor that says of each file what it was given; of an absent one: no hand."""

    def __init__(self, evidence):
        self.evidence, self.asked = evidence, []

    def side_evidence(self, depth, intrinsics, centre, name):
        self.asked.append(name)
        if name not in self.evidence:
            raise NoHandError(f"{name}: no hand")
        return self.evidence[name]


def hand_of(evidence, files):
    frame = types.SimpleNamespace(depth=None, intrinsics=None)
    frames = types.SimpleNamespace(files=files, centre=None, read=lambda file: frame)
    predict = Evidence(evidence)
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(hand="auto"):
        return frame_command.hand_of(predict, frames), predict.asked


def test_auto_asks_every_frame_and_passes_over_those_without_a_hand(capsys):
    hand, asked = hand_of({"a": -1.5, "c": 0.2, "d": -1.0}, ["a", "b", "c", "d"])
    assert hand == "left" and asked == ["a", "b", "c", "d"]
    assert "--hand=auto: left hand (probability 0.9" in capsys.readouterr().out
    hand, _ = hand_of({"a": 0.1, "b": -0.08}, ["a", "b"])
    said = capsys.readouterr().out
    assert hand == "right" and "not sure: name the hand by --hand=right or --hand=left" in said
    assert hand_of({}, ["a"])[0] == "right"  # the frame's own error follows


def test_auto_asks_sixty_four_frames_of_a_long_recording_evenly():
    files = [str(number) for number in range(1000)]
    _, asked = hand_of(dict.fromkeys(files, 1.0), files)
    numbers = np.array([int(name) for name in asked])
    assert len(numbers) == 64 and numbers[0] == 0 and set(np.diff(numbers)) <= {15, 16}


def test_a_named_hand_is_not_asked_for():
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(hand="left"):
        assert frame_command.hand_of(None, None) == "left"


def test_a_frames_line_says_how_sure_the_model_is():
    def mesh(confidence, meaning):
        return types.SimpleNamespace(
            confidence=np.full(4, confidence),
            confidence_is=meaning,
            hand="left",
            centre=np.array([0, 0, 512.4]),
        )

    line = frame_report.frame_line("a.png", mesh(0.71, "probability that"))
    assert line == "a.png: left hand at 512 mm, confidence 0.71"
    assert frame_report.frame_line("a.png", mesh(0.49, "probability that")).endswith("0.49, LOW")
    line = frame_report.frame_line("a.png", mesh(0.3, "uncalibrated: a formula"))
    assert line.endswith("0.30 (uncalibrated), LOW")


def test_the_log_odds_are_those_that_made_the_sides():
    from experiments.which_hand import log_odds_per_mm

    rng = np.random.default_rng(1)
    mm = rng.normal(size=20000)
    true = rng.random(20000) < 1 / (1 + np.exp(-2.5 * mm))
    assert log_odds_per_mm(np.where(true, mm, -mm)) == pytest.approx(2.5, abs=0.1)
