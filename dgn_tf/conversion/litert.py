"""LiteRT (TensorFlow Lite) files of the network: one crop in, the hand out, built-in ops alone.

`fp32` is the network as it is. `fp16` and `int8` store its convolutions' kernels in half, or in
8 bits with a scale for each output channel; they are turned back when the file is loaded and
everything is computed in float32. The converter's own quantisation would round constants and
products of the geometry as well: its half turns the fit's smallest numbers to zero (NaN), its
8 bits put the mesh centimetres off.
"""

import tempfile

import numpy as np
import tensorflow as tf

from dgn_tf.conversion.accelerator import for_accelerator
from dgn_tf.serving.module import frozen_forward, input_specs

OUTPUTS = (
    "vertices",
    "keypoints",
    "transforms",
    "joint_angles",
    "confidence",
    "keypoint_confidence",
)
AGREEMENT_MM = 0.05  # of the float32 file's vertices with the network's
_SMALLEST = 1024  # values of a kernel


def convert(network, precision: str) -> bytes:
    """The file's bytes.

    Its signature `crop` takes depth [1, S, S] mm, intrinsics [1, 4], centre [1, 3] mm and cube [1]
    mm, and gives `OUTPUTS`, each as the SavedModel's. Right hands: mirror left ones before.

    Raises:
        RuntimeError: an op is not built in, or float32 disagrees with the network.
    """
    with for_accelerator(network, geometry_apart=False):
        forward = frozen_forward(network)

    def crop(**inputs):
        outputs = forward(**inputs)
        return {name: outputs[name] for name in OUTPUTS}

    module = tf.Module()
    module.forward = forward
    specs = input_specs(network.config.image_size, batch=1)
    signature = tf.function(crop, autograph=False).get_concrete_function(**specs)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, {"crop": signature})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, ["crop"])
        content = converter.convert()
    _check(network, content)
    return content if precision == "fp32" else store_kernels(content, precision)


def store_kernels(content: bytes, precision: str) -> bytes:
    """Stores the convolutions' kernels of a float32 file in half (`fp16`) or 8 bits (`int8`)."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    dequantize = schema.OperatorCodeT()
    dequantize.builtinCode = dequantize.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    dequantize.version = 3 if precision == "fp16" else 5  # of half, of 8 bits by channel
    model.operatorCodes.append(dequantize)
    graph = model.subgraphs[0]
    added: list = []
    for kernel in sorted(_kernels(model, schema)):
        tensor = graph.tensors[kernel]
        values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32)
        values = values.reshape(tensor.shape)
        small = schema.TensorT()
        small.name = tensor.name + b"/stored"
        small.shape, small.buffer = tensor.shape, tensor.buffer
        if precision == "fp16":
            stored = values.astype(np.float16)
            small.type = schema.TensorType.FLOAT16
        else:
            stored, small.quantization = _eight_bits(values, schema)
            small.type = schema.TensorType.INT8
        model.buffers[tensor.buffer].data = np.frombuffer(stored.tobytes(), np.uint8)
        tensor.buffer = 0  # it is computed now
        graph.tensors.append(small)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs, operator.outputs = [len(graph.tensors) - 1], [kernel]
        added.append(operator)
    graph.operators = [*added, *graph.operators]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _kernels(model, schema) -> set[int]:
    """Tensors that are kernels of convolutions, large, and alone in their buffer."""
    graph = model.subgraphs[0]
    shared = [tensor.buffer for tensor in graph.tensors]
    kernels = set()
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode != schema.BuiltinOperator.CONV_2D:
            continue
        index = operator.inputs[1]
        tensor = graph.tensors[index]
        data = model.buffers[tensor.buffer].data
        if tensor.type != schema.TensorType.FLOAT32 or data is None:
            continue
        if len(data) >= 4 * _SMALLEST and shared.count(tensor.buffer) == 1:
            kernels.add(index)
    return kernels


def _eight_bits(values, schema):
    """[O, H, W, I] as int8 with a scale for each O."""
    largest = np.abs(values).max(axis=(1, 2, 3))
    scale = (np.maximum(largest, 1e-12) / 127).astype(np.float32)
    rounded = np.clip(np.round(values / scale[:, None, None, None]), -127, 127).astype(np.int8)
    parameters = schema.QuantizationParametersT()
    parameters.scale, parameters.zeroPoint = scale.tolist(), [0] * len(scale)
    parameters.quantizedDimension = 0
    return rounded, parameters


def runner(content: bytes, threads: int | None = None):
    """The signature `crop` of a file's bytes, to be called with arrays by name."""
    interpreter = tf.lite.Interpreter(model_content=content, num_threads=threads)
    return interpreter.get_signature_runner("crop")


def custom_ops(content: bytes) -> list[str]:
    """Names of the ops that LiteRT itself does not have (Flex ones too)."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    return sorted(code.customCode.decode() for code in model.operatorCodes if code.customCode)


def _check(network, content):
    from dgn_tf.serving.saving import example_crops

    if custom_ops(content):
        raise RuntimeError(f"LiteRT lacks {', '.join(custom_ops(content))}; nothing was written.")
    inputs = example_crops(network.config.image_size, batch_size=1)
    expected = network({name: tf.constant(value) for name, value in inputs.items()})
    difference = np.abs(runner(content)(**inputs)["vertices"] - expected["vertices"].numpy()).max()
    if not difference <= AGREEMENT_MM:
        raise RuntimeError(
            f"the LiteRT file's vertices differ by {difference:.3g} mm from the "
            "network's; nothing was written."
        )
