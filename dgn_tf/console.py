"""The programs as commands: `dgn-predict` does what `python -m dgn_tf.predict` does."""

import runpy
from collections.abc import Callable


def _command(module: str) -> Callable[[], None]:
    def run() -> None:
        runpy.run_module(module, run_name="__main__", alter_sys=True)

    return run


animate = _command("dgn_tf.animate")
annotate = _command("dgn_tf.annotate")
benchmark = _command("dgn_tf.benchmark")
build_template = _command("data_prep.build_template")
calibrate = _command("dgn_tf.calibrate")
calibrate_confidence = _command("dgn_tf.calibrate_confidence")
evaluate = _command("dgn_tf.evaluate")
export = _command("dgn_tf.export")
fit_template = _command("data_prep.fit_template")
learn_shape_bias = _command("dgn_tf.learn_shape_bias")
live = _command("dgn_tf.live")
nyu_to_tfrecord = _command("data_prep.nyu_to_tfrecord")
place_keypoints = _command("data_prep.place_keypoints")
predict = _command("dgn_tf.predict")
rig_to_tfrecord = _command("data_prep.rig_to_tfrecord")
sample_frames = _command("data_prep.sample_frames")
serving_client = _command("dgn_tf.serving_client")
synthetic_to_tfrecord = _command("data_prep.synthetic_to_tfrecord")
train = _command("dgn_tf.train")
train_localiser = _command("dgn_tf.train_localiser")
