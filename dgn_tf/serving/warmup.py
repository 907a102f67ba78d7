"""Warm-up requests for TensorFlow Serving, which runs them before it calls a version available.

The file is a TFRecord of `tensorflow.serving.PredictionLog`. Its few nested messages are encoded
here, so that the export does not need tensorflow-serving-api:

    PredictionLog  { PredictLog predict_log = 6; }
    PredictLog     { PredictRequest request = 1; }
    PredictRequest { ModelSpec model_spec = 1; map<string, TensorProto> inputs = 2; }
    ModelSpec      { string name = 1; string signature_name = 3; }
"""

import pathlib

import numpy as np
import tensorflow as tf

WARMUP_FILE = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"  # in a version's folder
BATCH_SIZES = (1, 8)
MODEL_NAME = "dgn"  # the server does not look at it
_HEIGHT, _WIDTH = 60, 80  # the networks see crops of one size, whatever a frame's


def write_warmup(folder, crop: dict) -> None:
    """Writes the requests of `warmup_requests` into the SavedModel `folder`.

    Args:
        folder: of the SavedModel.
        crop: inputs of the signature `crop` for a batch of one, but `left`.
    """
    file = pathlib.Path(folder) / WARMUP_FILE
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for signature, inputs in warmup_requests(crop):
            writer.write(encode_log(signature, inputs))


def warmup_requests(crop: dict) -> list[tuple[str, dict]]:
    """(signature, inputs, numpy): each signature that predicts at each of `BATCH_SIZES`."""
    depth = _frame()
    image = tf.io.encode_png(depth.astype(np.uint16)[..., np.newaxis]).numpy()
    intrinsics = np.array([80, 80, _WIDTH / 2, _HEIGHT / 2], np.float32)
    centre = np.array([0, 0, 600], np.float32)
    one = {
        "serving_default": {"depth": depth, "intrinsics": intrinsics},
        "centred": {"depth": depth, "intrinsics": intrinsics, "centre": centre},
        "crop": {name: value[0] for name, value in crop.items()},
        "png": {"png": image, "intrinsics": intrinsics, "depth_unit": np.float32(1)},
    }
    return [
        (
            signature,
            {name: np.stack([value] * size) for name, value in inputs.items()}
            | {"left": np.arange(size) % 2 == 1},
        )
        for signature, inputs in one.items()
        for size in BATCH_SIZES
    ]


def encode_log(signature: str, inputs: dict) -> bytes:
    """A serialised PredictionLog of one request."""
    request = _field(1, _field(1, MODEL_NAME.encode()) + _field(3, signature.encode()))
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))


def _frame():
    """A hand-sized lumpy disc, 600 mm away, whole mm: [60, 80] float32."""
    rows, columns = np.mgrid[:_HEIGHT, :_WIDTH].astype(np.float32)
    x, y = (columns - _WIDTH / 2) * 7.5, (rows - _HEIGHT / 2) * 7.5  # mm at 600 mm
    surface = np.round(600 + 10 * np.sin(x / 15) + 0.1 * y)
    return np.where(x**2 + y**2 < 75**2, surface, 0).astype(np.float32)


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value > 127:
        octets.append(value & 127 | 128)
        value >>= 7
    return bytes([*octets, value])
