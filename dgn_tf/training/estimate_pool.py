"""From the training to the loader of its data: the estimates that later batches are made of."""

import threading

import numpy as np

from dgn_tf.synthesis.pose_prior import GivenHands, joined
from dgn_tf.training.estimates import DEPTH, LAG, WINDOW, EstimateRing


class EstimatePool:
    """The hands that the network estimated in the last steps, for the threads that render them.

    What batch k gets depends on the seed, k and the estimates of steps k - LAG - WINDOW + 1 to
    k - LAG alone, not on how far ahead of the training the loader is.

    Args:
        seed: of the choice.
        patience_s: how long a batch waits for a step. The loader keeps fewer than LAG batches
            ready, and so never waits at all; a longer wait is an error of the program.
    """

    def __init__(self, seed: int, patience_s: float = 600.0):
        self._seed, self._patience_s = seed, patience_s
        self._steps: dict[int, GivenHands] = {}
        self._newest = -1
        self._arrival = threading.Condition()

    def restore(self, ring: EstimateRing, step: int) -> None:
        """Takes over what a run that is at `step` has in its checkpoint."""
        for done in range(max(0, step - DEPTH), step):
            self.put(done, ring.read(done))

    def put(self, step: int, hands: GivenHands) -> None:
        """Hands over a step's estimates; steps come in their order."""
        with self._arrival:
            self._steps[step], self._newest = hands, step
            self._steps.pop(step - DEPTH, None)
            self._arrival.notify_all()

    def take(self, batch: int, count: int) -> GivenHands | None:
        """At most `count` hands for a batch, as many as there are; None where there is none.

        Raises:
            TimeoutError: the training doesn't come to the step.
        """
        last = batch - LAG
        if last < 0:
            return None
        with self._arrival:
            if not self._arrival.wait_for(lambda: self._newest >= last, self._patience_s):
                raise TimeoutError(
                    f"batch {batch} waits for the estimates of step {last}; the training has "
                    f"done step {self._newest} alone."
                )
            first = max(0, last - WINDOW + 1)
            found = [self._steps[step] for step in range(first, last + 1)]
        total = [len(hands.angles) for hands in found]
        chosen = np.random.default_rng([self._seed, batch]).permutation(sum(total))[:count]
        if not len(chosen):
            return None
        return joined(found).rows(chosen)
