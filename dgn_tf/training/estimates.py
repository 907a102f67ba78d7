"""The network's estimates as hands that synthesis can render (Sec. 4.4), kept step by step.

An estimate's parts are similarities of their own and may come apart; the hand that is rendered has
joint angles (Eq. 12), a shape of the template's and a view. So every synthetic frame, whatever the
estimate was, shows a hand that there could be, with forearm, and its truth is exact.
"""

import numpy as np
import tensorflow as tf

from dgn_tf.hand_fit.legal_hands import LegalHands
from dgn_tf.synthesis.pose_prior import GivenHands

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
