"""Right or left, decided once for a recording."""

import pytest

from dgn_tf.hand_side import decide


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
