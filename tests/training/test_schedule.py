"""The learning rate's rise, hold and fall."""

import tensorflow as tf

from dgn_tf.training.schedule import WarmupHoldDecay


class WarmupHoldDecayTest(tf.test.TestCase):
    def test_rises_holds_and_falls(self):
        rate = WarmupHoldDecay(1.0, warmup_steps=10, decay_start=100, decay_end=200, final=0.1)
        self.assertAllClose([rate(0), rate(4), rate(9)], [0.1, 0.5, 1.0])
        self.assertAllClose([rate(50), rate(100)], [1.0, 1.0])
        self.assertAllClose(rate(150), 0.55)
        self.assertAllClose([rate(200), rate(999)], [0.1, 0.1])

    def test_moving_the_fall_changes_no_step_before_it(self):
        early = WarmupHoldDecay(1.0, 10, decay_start=60, decay_end=100)
        late = WarmupHoldDecay(1.0, 10, decay_start=600, decay_end=1000)
        for step in range(0, 61, 5):
            self.assertAllClose(early(step), late(step))

    def test_config_round_trip(self):
        rate = WarmupHoldDecay(2e-3, 300, 6000, 10000, 0.02)
        again = WarmupHoldDecay.from_config(rate.get_config())
        self.assertAllClose([again(s) for s in (1, 700, 8000)], [rate(s) for s in (1, 700, 8000)])


if __name__ == "__main__":
    tf.test.main()
