"""The network's estimates as hands that synthesis can render (Sec. 4.4), kept step by step.

An estimate's parts are similarities of their own and may come apart; the hand that is rendered has
joint angles (Eq. 12), a shape of the template's and a view. So every synthetic frame, whatever the
estimate was, shows a hand that there could be, with forearm, and its truth is exact.
"""

import threading

import numpy as np
import tensorflow as tf

from dgn_tf.hand_fit.legal_hands import LegalHands
from dgn_tf.synthesis.pose_prior import GivenHands, joined

# Batch k is made of the estimates of steps k - LAG and before. More than the loader keeps ready,
# so that it need not wait for the training: 4 + 2 batches and those in hand.
LAG = 16
WINDOW = 16  # steps whose estimates a batch chooses from
DEPTH = LAG + WINDOW  # steps kept: a resumed run makes the batches of the steps done again

# An estimate farther than this from the hand that it gives (joints, root mean square) is none.
FARTHEST_MM = 15.0


class EstimateRing(tf.Module):
    """The hands of the last `DEPTH` steps, written by the training step, saved with checkpoints.

    Args:
        template: `HandTemplate` of the estimates.
        views: unlabelled views in a step.
    """

    def __init__(self, template, views: int):
        super().__init__(name="estimates")
        self._legal = LegalHands(template)
        self._parts, self._shapes = len(template.parents), len(template.shape_joints)
        fields = 1 + self._parts * 3 + self._shapes + 9
        # One variable: a step writes it, and the host reads it, at once.
        self._rows = tf.Variable(tf.zeros([DEPTH, views, fields]), trainable=False, name="rows")

    def write(self, step, transforms, usable):
        """Puts a step's estimates in the place of those of `DEPTH` steps before.

        Args:
            step: [] integer.
            transforms: [B, P, 4, 4] T, camera_from_template, mm.
            usable: [B] bool: the views with a hand to fit.

        Returns:
            [] share of the usable views whose estimates are near a hand.
        """
        angles, shape, rotation, distance = self._legal(transforms)
        angles, rotation = tf.reshape(angles, [-1, self._parts * 3]), tf.reshape(rotation, [-1, 9])
        row = tf.concat([angles, shape, rotation], axis=1)
        finite = tf.reduce_all(tf.math.is_finite(row), axis=1)
        kept = usable & finite & (distance < FARTHEST_MM)
        row = tf.concat([tf.cast(kept, tf.float32)[:, tf.newaxis], row], axis=1)
        row = tf.where(kept[:, tf.newaxis], row, tf.zeros_like(row))
        place = tf.cast(step % DEPTH, tf.int32)
        self._rows.scatter_update(tf.IndexedSlices(row[tf.newaxis], place[tf.newaxis]))
        count = tf.reduce_sum(tf.cast(usable, tf.float32))
        return tf.reduce_sum(tf.cast(kept, tf.float32)) / tf.maximum(count, 1.0)

    def read(self, step: int) -> GivenHands:
        """The hands of one of the last `DEPTH` steps; views without one are left out."""
        rows = self._rows[step % DEPTH].numpy().astype(np.float64)
        rows = rows[rows[:, 0] > 0, 1:]
        angles, shape, rotation = np.split(
            rows, [self._parts * 3, self._parts * 3 + self._shapes], axis=1
        )
        hands = GivenHands(angles.reshape(-1, self._parts, 3), shape, rotation.reshape(-1, 3, 3))
        return hands.rows(slice(None))


# From the training to the loader of its data: the estimates that later batches are made of.


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
