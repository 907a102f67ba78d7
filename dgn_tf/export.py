"""Exports a trained model as a SavedModel that plain TensorFlow and TensorFlow Serving load.

    python -m dgn_tf.export --weights=runs/synthetic/best --output_dir=saved_models/dgn

writes `saved_models/dgn/1/` (signatures `serving_default`, `centred`, `crop`, `png`, `locate`; see
`dgn_tf.serving.module`) and `weights.h5`, `flags.txt`, `config.json`, `template.npz` beside it.
"""

import os
import pathlib
import shutil

from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError

_WEIGHTS = flags.DEFINE_string(
    "weights", None, "Model folder of a run (OUTPUT_DIR/best), or of an exported model.",
    required=True,
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder of the model, such as saved_models/dgn; made where missing.",
    required=True,
)
_VERSION = flags.DEFINE_integer(
    "version", 1, "Version: the name of the SavedModel's folder in --output_dir.", lower_bound=1
)
_LOCALISER = flags.DEFINE_string(
    "localiser", "", "What finds the hand in whole frames: the folder of a localiser, or `blob`, "
    "the nearest blob of a hand's size; empty: the localiser that ships.",
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace the version where it exists.")


def main(_):
    from dgn_tf import model_folder
    from dgn_tf.localize.finders import load_finder
    from dgn_tf.serving.saving import save_model

    output = pathlib.Path(_OUTPUT_DIR.value)
    version = output / str(_VERSION.value)
    if version.exists() and not _OVERWRITE.value:
        raise InputError(f"{version} exists; choose another --version or say --overwrite.")
    source = model_folder.find_model_folder(_WEIGHTS.value)
    network = model_folder.load_network(source)
    finder = load_finder(_LOCALISER.value)
    # A version is replaced only once the new one is whole.
    fresh = output / f".{version.name}.new-{os.getpid()}"
    try:
        save_model(network, fresh, finder)
        if source.resolve() != output.resolve():
            model_folder.copy_model_folder(source, output)
        if version.exists():
            shutil.rmtree(version)
        fresh.rename(version)
    except OSError as error:
        raise InputError(f"--output_dir={output} can't be written: {error.strerror}.") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    size = sum(file.stat().st_size for file in version.rglob("*") if file.is_file())
    print(f"{version}: {size / 2**20:.1f} MiB, template {network.template.name} "
          f"({network.template.embedding}, hash {network.template.hash[:12]})")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    errors.run(main)
