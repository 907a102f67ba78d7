"""Exports a trained model as a SavedModel that plain TensorFlow and TensorFlow Serving load.

    python -m dgn_tf.export --weights=runs/synthetic/best --output_dir=saved_models/dgn
    python -m dgn_tf.export --weights=saved_models/dgn --output_dir=runs/small --precision=int8 \\
        --litert
    python -m dgn_tf.export --weights=saved_models/dgn --output_dir=runs/gpu --precision=int8 \\
        --tensorrt --batch_sizes=1,8,32 --calibration_records=data/synthetic

writes `saved_models/dgn/1/` (signatures `serving_default`, `centred`, `crop`, `png`, `locate`; see
`dgn_tf.serving.module`) and `weights.h5`, `flags.txt`, `config.json`, `template.npz` beside it.

--precision says, without --tensorrt, how the networks' weights are stored: in half (fp16) or in 8
bits with a scale for each output channel (int8). Arithmetic stays float32: the file shrinks, the
time does not. With --tensorrt it is the precision of the engines; `1.tensorrt.json` then tells what
stayed outside them. --litert adds `1.PRECISION.tflite`: one crop in, the hand out. --onnx adds
`1.SIGNATURE.onnx`, weights in float32, for ONNX Runtime, OpenVINO, TensorRT and Triton.
"""

import pathlib

from absl import flags

from dgn_tf import errors, writing
from dgn_tf.errors import InputError
from dgn_tf.output_files import refuse_inputs

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "weights",
    None,
    "Model folder of a run (OUTPUT_DIR/best), or of an exported model.",
    required=True,
)
flags.DEFINE_string(
    "output_dir",
    None,
    "Folder of the model, such as saved_models/dgn; made where missing.",
    required=True,
)
flags.DEFINE_integer(
    "version", 1, "Version: the name of the SavedModel's folder in --output_dir.", lower_bound=1
)
flags.DEFINE_string(
    "localiser",
    "",
    "What finds the hand in whole frames: the folder of a localiser, or `blob`, "
    "the nearest blob of a hand's size; empty: the localiser that ships.",
)
flags.DEFINE_bool("overwrite", False, "Replace the version where it exists.")
flags.DEFINE_enum(
    "precision",
    "fp32",
    ["fp32", "fp16", "int8"],
    "How weights are stored; with --tensorrt the precision of the engines.",
)
flags.DEFINE_bool(
    "tensorrt", False, "Convert the networks to TensorRT engines for this host's GPU."
)
flags.DEFINE_list("batch_sizes", "1,8,32", "Batch sizes to build --tensorrt engines for.")
flags.DEFINE_string(
    "calibration_records",
    "",
    "Folder of records that --tensorrt --precision=int8 is calibrated on; empty: synthetic frames.",
)
flags.DEFINE_integer("calibration_frames", 256, "Frames of the calibration.", lower_bound=8)
flags.DEFINE_bool(
    "onnx",
    False,
    "Write an ONNX file of each of the signatures crop, centred, serving_default and locate beside "
    "the version too.",
)
flags.DEFINE_bool("litert", False, "Write a LiteRT (.tflite) file beside the version too.")


def main(_):
    batch_sizes = _checked_flags()
    output = pathlib.Path(FLAGS.output_dir)
    version = output / str(FLAGS.version)
    writing.restore_folder(version)
    if version.exists() and not FLAGS.overwrite:
        raise InputError(f"{version} exists; choose another --version or say --overwrite.")
    from dgn_tf import model_folder
    from dgn_tf.localize.finders import load_finder

    source = model_folder.find_model_folder(FLAGS.weights)
    if source.resolve() != output.resolve():
        read = {"weights": source, "localiser": FLAGS.localiser}
        refuse_inputs({"output_dir": model_folder.files_in(output)}, read)
    network = model_folder.load_network(source)
    finder = load_finder(FLAGS.localiser)
    # A version is replaced only once the new one is whole.
    try:
        with writing.os_errors(), writing.scratch_folder(output, ".new-") as fresh:
            written = _write(network, finder, fresh, version.name, batch_sizes)
            others = [output / name for name in written[1:]]
            _refuse_folders([*model_folder.files_in(output), *others])
            if source.resolve() != output.resolve():
                model_folder.copy_model_folder(source, output)
            writing.replace_folder(fresh / version.name, version)
            for name in written[1:]:
                (fresh / name).replace(output / name)
    except OSError as error:
        raise InputError(
            f"--output_dir={output} can't be written: {writing.reason_of(error)}."
        ) from None
    print(
        f"{version}: {_megabytes(version):.1f} MiB, template {network.template.name} "
        f"({network.template.embedding}, hash {network.template.hash[:12]})"
    )
    for name in written[1:]:
        print(f"{output / name}: {_megabytes(output / name):.1f} MiB")


def _refuse_folders(files):
    """Before the first file is replaced: a folder in one's place would stop it half way."""
    for file in files:
        if file.is_dir():
            raise InputError(f"--output_dir: {file} is a folder, where a file is to be written.")


def _checked_flags() -> list[int]:
    """The batch sizes; what makes no sense, or can't be done on this host, is refused first."""
    try:
        batch_sizes = sorted({int(size) for size in FLAGS.batch_sizes})
    except ValueError:
        batch_sizes = []
    if not batch_sizes or batch_sizes[0] < 1:
        raise InputError(
            f"--batch_sizes={','.join(FLAGS.batch_sizes)}: wanted numbers of 1 or "
            "more, such as 1,8,32."
        )
    calibrated = FLAGS.tensorrt and FLAGS.precision == "int8"
    wanting = {
        "batch_sizes": (FLAGS.tensorrt, "--tensorrt"),
        "calibration_records": (calibrated, "--tensorrt --precision=int8"),
        "calibration_frames": (calibrated, "--tensorrt --precision=int8"),
    }
    for name, (used, remedy) in wanting.items():
        if FLAGS[name].present and not used:
            raise InputError(f"--{name} has no effect without {remedy}; add that or leave it out.")
    if FLAGS.tensorrt:
        from dgn_tf.conversion.tensorrt import require_tensorrt

        require_tensorrt()
    if FLAGS.onnx:
        from dgn_tf.conversion.onnx import require_onnx

        require_onnx()
    if FLAGS.calibration_records:
        from dgn_tf.records.reader import record_files

        if not pathlib.Path(FLAGS.calibration_records).is_dir():
            record_files(FLAGS.calibration_records)
    return batch_sizes


def _write(network, finder, folder: pathlib.Path, version: str, batch_sizes) -> list[str]:
    """Writes all that is asked for into `folder`; returns the names, the SavedModel's first."""
    from dgn_tf.serving import saving

    names = [version]
    if FLAGS.tensorrt:
        saving.save_model(
            network,
            folder / version,
            finder,
            FLAGS.precision,
            _engines(network, folder, f"{version}.tensorrt.json", batch_sizes),
        )
        names.append(f"{version}.tensorrt.json")
    else:
        saving.save_model(network, folder / version, finder, FLAGS.precision)
    if FLAGS.litert:
        from dgn_tf.conversion import litert

        names.append(f"{version}.{FLAGS.precision}.tflite")
        (folder / names[-1]).write_bytes(litert.convert(network, FLAGS.precision))
    if FLAGS.onnx:
        from dgn_tf.conversion import onnx

        for signature, content in onnx.convert(network, finder, folder / version).items():
            names.append(onnx.file_of(version, signature).name)
            (folder / names[-1]).write_bytes(content)
    return names


def _engines(network, folder, report_name, batch_sizes):
    """The forward pass as TensorRT engines, loaded; writes the report of it."""
    import tensorflow as tf

    from dgn_tf.conversion import tensorrt
    from dgn_tf.conversion.accelerator import representative_crops
    from dgn_tf.json_file import write_json

    crops = representative_crops(network, FLAGS.calibration_records, FLAGS.calibration_frames)
    report = tensorrt.convert(network, FLAGS.precision, batch_sizes, crops, folder / "engines")
    write_json(report, folder / report_name, "--output_dir")
    return tf.saved_model.load(str(folder / "engines"))


def _megabytes(path: pathlib.Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 2**20


if __name__ == "__main__":
    errors.run(main)
