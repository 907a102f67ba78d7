"""Right or left: decided once for a recording, by all of its frames together."""

import math
from collections.abc import Sequence
from typing import NamedTuple

# Log odds of a right hand for each mm by which its mesh lies nearer to one frame's points: logistic
# regression on 171 synthetic frames (experiments.which_hand), where a frame alone is right in 91 %.
_ODDS_PER_MM = 2.9


class Side(NamedTuple):
    """What the frames of a recording say of its hand.

    Attributes:
        hand: "right" or "left".
        probability: 0.5 .. 1 of it.
        agreeing: frames that say so alone.
        frames: that were asked.
    """

    hand: str
    probability: float
    agreeing: int
    frames: int

    def __str__(self) -> str:
        return (
            f"{self.hand} hand (probability {self.probability:.3f}; {self.agreeing} of "
            f"{self.frames} frames say so alone)"
        )


def decide(evidence: Sequence[float]) -> Side:
    """The side that the frames show.

    Frames of a recording resemble each other, so that n of them count as the square root of n that
    know nothing of each other: an assumption, which keeps long recordings from false certainty.

    Args:
        evidence: mm, one number a frame, of `FrameToMesh.side_evidence`; at least one.
    """
    if not evidence:
        raise ValueError("decide wants the evidence of one frame at least.")
    odds = _ODDS_PER_MM * sum(evidence) / math.sqrt(len(evidence))
    right = odds >= 0
    agreeing = sum((value >= 0) == right for value in evidence)
    probability = 1 / (1 + math.exp(-min(abs(odds), 50.0)))
    return Side("right" if right else "left", probability, agreeing, len(evidence))
