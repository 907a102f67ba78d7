"""Fits the confidence of a model's vertices and key points, and measures it.

    python -m dgn_tf.calibrate_confidence --weights=saved_models/dgn --plot=runs/confidence.png

writes `confidence.npz` into the model folder: from then on `dgn_tf.export` and whatever loads the
folder give probabilities that a point lies within 10 mm of the truth. It is fitted on synthetic
frames drawn as those of training are, of a stream of their own, and measured on as many others, on
as many of each kind of sensor, and on --records where given; on frames of a real camera it is as
good as synthesis is like them.
"""

import dataclasses
import pathlib

from absl import flags

from dgn_tf import errors

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "weights", None, "Model folder (OUTPUT_DIR/best, saved_models/dgn).", required=True
)
flags.DEFINE_string(
    "config", "", "JSON of the frames' sampler; empty: what training draws, from other numbers."
)
flags.DEFINE_integer("frames", 480, "To fit, and as many to measure.", lower_bound=32)
flags.DEFINE_integer("seed", 11, "Of the frames.", lower_bound=0)
flags.DEFINE_string("records", "", "Folder of synthetic records to measure on as well.")
flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")
flags.DEFINE_string("plot", "", "Calibration plot, .png, .pdf or .svg; empty: none.")

BATCH = 32
SALT = 1006  # of frames that neither training nor a split has


def main(_):
    import numpy as np

    from dgn_tf import model_folder, plots
    from dgn_tf.confidence.fitting import collector, fit, measure
    from dgn_tf.confidence.probability import keypoint_neighbours
    from dgn_tf.json_file import known, write_json
    from dgn_tf.records.batches import Batching
    from dgn_tf.records.reader import record_dataset
    from dgn_tf.synthesis.batches import synthesize_batch
    from dgn_tf.synthesis.sensor import SENSORS
    from dgn_tf.synthesis.settings import SynthesisConfig

    if FLAGS.plot:
        plots.check_plot_file(FLAGS.plot)
    folder = model_folder.find_model_folder(FLAGS.weights)
    network = model_folder.load_network(folder, calibrated=False)
    template = network.template
    config = SynthesisConfig(salt=SALT)
    if FLAGS.config:
        config = SynthesisConfig.load(FLAGS.config)

    def frames(seed, config=config):
        for start in range(0, FLAGS.frames, BATCH):
            count = min(BATCH, FLAGS.frames - start)
            yield synthesize_batch(template, config, seed, start, count)

    neighbours = keypoint_neighbours(template)
    collect = collector(network)
    weights_sha256 = model_folder.weights_sha256(folder)
    model = fit(collect(frames(FLAGS.seed)), neighbours, weights_sha256)
    sets = {"held out": frames(FLAGS.seed + 1)}
    drawn = np.flatnonzero(config.sensor_shares)
    for kind in drawn if len(drawn) > 1 else ():
        alone = dataclasses.replace(config, sensor_shares=tuple(np.eye(len(SENSORS))[kind]))
        sets[SENSORS[kind]] = frames(FLAGS.seed + 1, alone)
    if FLAGS.records:
        sets["records"] = record_dataset(
            FLAGS.records,
            template,
            batching=Batching(batch_size=BATCH, shuffle=False, repeat=False),
        )
    figures, curves = {}, {}
    for name, batches in sets.items():
        figures[name], curves[name] = measure(model, collect(batches), neighbours)
        for what, values in figures[name].items():
            print(f"{name}, {what}: " + ", ".join(f"{k} {v:.3f}" for k, v in values.items()))
    model.save(folder / model_folder.CONFIDENCE)
    print(f"{pathlib.Path(folder) / model_folder.CONFIDENCE}: written")
    if FLAGS.json:
        write_json(known(figures), FLAGS.json)
    if FLAGS.plot:
        plots.plot_calibration(curves, FLAGS.plot)


if __name__ == "__main__":
    errors.run(main)
