"""From a camera, or a recording of one, to moving hands: `python -m dgn_tf.live`, `HandTracker`."""
