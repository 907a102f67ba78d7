"""ONNX files of a model's signatures: standard operators alone, no loop, no branch.

A file holds one signature of `serving.module`, with its names, any batch and any size of whole
frames. Refusals in words have no form in ONNX: what is wrong is a hand that is not found.
"""

import hashlib
import json
import pathlib

import numpy as np

from dgn_tf.errors import InputError

SIGNATURES = ("crop", "centred", "serving_default", "locate")  # the last two need a finder
OPSET = 17
PASSED = "_out"  # ends an output's name that is an input's too: ONNX knows one of a name
DESCRIPTION, SAVED_MODEL = "hand", "saved_model_sha256"  # names of the file's properties

# What a file may hold: computation on its inputs and its own constants. No control flow, which
# could run for ever, nothing of another domain, and (see `read`) no data outside of the file.
OPERATORS = frozenset(
    """
    Abs Acos Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast Ceil Clip Concat
    Constant ConstantOfShape Conv Cos CumSum DepthToSpace Div Einsum Equal Erf Exp Expand EyeLike
    Flatten Floor Gather GatherElements GatherND Gemm GlobalAveragePool GlobalMaxPool Greater
    GreaterOrEqual Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log MatMul Max MaxPool Mean Min
    Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or Pad Pow Range Reciprocal ReduceL2 ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round
    ScatterElements ScatterND Shape Sigmoid Sign Sin Size Slice Softmax Softplus SpaceToDepth Split
    Sqrt Squeeze Sub Sum Tan Tanh Tile TopK Transpose Unsqueeze Where Xor
    """.split()
)
_FLOATS = (1, 11)  # ONNX's numbers of float32 and float64
MAX_BYTES = 256 * 2**20


def require_onnx() -> None:
    """InputError that names the extra where its packages are missing."""
    try:
        import onnx  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError:
        raise InputError(
            "--onnx wants onnx and tf2onnx; install them: pip install 'dgn_tf[onnx]'."
        ) from None


def file_of(version_folder, signature: str) -> pathlib.Path:
    """Where the file of a signature lies: beside the version's folder, such as `1.crop.onnx`."""
    folder = pathlib.Path(version_folder)
    return folder.with_name(f"{folder.name}.{signature}.onnx")


def convert(network, finder, saved_model) -> dict[str, bytes]:
    """The files' bytes by signature, weights in float32.

    Of a `BlobFinder` only what needs no finder: its histogram has no form in ONNX that TensorRT
    takes, and in the one that there is OpenVINO's threads race.

    Args:
        network: a built `DualGridNet` with its weights.
        finder: of `dgn_tf.localize.finders`.
        saved_model: folder of the SavedModel that was exported of them; the files name it.

    Raises:
        RuntimeError: an operator is not among `OPERATORS`.
    """
    from dgn_tf.conversion.accelerator import for_accelerator
    from dgn_tf.localize.finders import BlobFinder
    from dgn_tf.serving.module import ServingModule
    from dgn_tf.serving.saving import hand_description

    with for_accelerator(network, geometry_apart=False):
        module = ServingModule(network, finder, branches=False)  # owns the functions' variables
    signatures = module.signatures()
    properties = {
        DESCRIPTION: json.dumps(hand_description(network, finder)),
        SAVED_MODEL: fingerprint(saved_model),
    }
    names = SIGNATURES[:2] if isinstance(finder, BlobFinder) else SIGNATURES
    return {name: _converted(signatures[name], name, properties) for name in names}


def _converted(function, name: str, properties: dict[str, str]) -> bytes:
    """A signature's concrete function as an ONNX file."""
    import onnx
    import tensorflow as tf
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(function)
    inputs = [tensor for tensor in frozen.inputs if tensor.dtype != tf.resource]
    outputs = dict(zip(sorted(function.structured_outputs), frozen.outputs, strict=True))
    with frozen.graph.as_default():  # an output may be an input itself
        given = {key: tf.identity(value, f"output/{key}") for key, value in outputs.items()}
    model, _ = tf2onnx.convert._convert_common(
        frozen.graph.as_graph_def(),
        name=name,
        opset=OPSET,
        input_names=[tensor.name for tensor in inputs],
        output_names=[tensor.name for tensor in given.values()],
        custom_op_handlers={"SelectV2": (_select, [])},
    )
    called = {tensor.name: tensor.name.split(":")[0] for tensor in inputs}
    passed = set(called.values()) & set(given)
    for key, tensor in given.items():
        called[tensor.name] = key + PASSED if key in passed else key
    _rename(model.graph, called)
    _name_sizes(model.graph)
    del model.opset_import[:]
    model.opset_import.add(domain="", version=OPSET)
    onnx.helper.set_model_props(model, properties)
    foreign = forbidden(model)
    if foreign:
        raise RuntimeError(f"ONNX of {name}: {foreign}; nothing was written.")
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _select(graph, node, *_):
    """tf.where as ONNX's own: tf2onnx writes sums of products, in which NaN chooses itself."""
    from tf2onnx.onnx_opset.controlflow import Select

    node.domain = ""
    if graph.get_dtype(node.output[0]) in _FLOATS:
        node.type = "Where"
    else:  # runtimes lack it for bool
        Select.version_9(graph, node)


def _rename(graph, names: dict[str, str]) -> None:
    """Renames tensors of a graph, its inputs and outputs among them."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _name_sizes(graph) -> None:
    """Calls the sizes that a request chooses by names, the same in all inputs and outputs."""
    for value in (*graph.input, *graph.output):
        sizes = [size for size in value.type.tensor_type.shape.dim if not size.dim_value]
        for size, name in zip(sizes, ("batch", "height", "width"), strict=False):
            size.dim_param = name


def fingerprint(saved_model) -> str:
    """SHA-256 of a SavedModel's graph, variables and assets, hex: its ONNX files name it."""
    folder, found = pathlib.Path(saved_model), hashlib.sha256()
    parts = [sorted((folder / name).glob("*")) for name in ("variables", "assets")]
    for file in (folder / "saved_model.pb", *parts[0], *parts[1]):
        found.update(file.read_bytes())
    return found.hexdigest()


def read(path) -> tuple[bytes, dict[str, str]]:
    """The bytes of a file that holds nothing but computation, and its properties.

    Raises:
        InputError: it is missing, too large, damaged, or holds other operators or outside data.
    """
    import onnx
    from google.protobuf.message import DecodeError

    path = pathlib.Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has more than {MAX_BYTES >> 20} MiB; export it anew.")
        content = path.read_bytes()
        model = onnx.load_from_string(content)
    except FileNotFoundError:
        raise InputError(
            f"{path} is missing; write it by python -m dgn_tf.export --onnx."
        ) from None
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from None
    except DecodeError:
        raise InputError(f"{path} is damaged or no ONNX file; export it anew.") from None
    fault = forbidden(model)
    if fault:
        raise InputError(f"{path}: {fault}; use a file that python -m dgn_tf.export --onnx made.")
    return content, {entry.key: entry.value for entry in model.metadata_props}


def forbidden(model) -> str:
    """What a file holds that it must not, in words; empty: nothing."""
    import onnx

    if not model.graph.node or model.functions or model.training_info:
        return "an empty graph, functions or training"
    if {entry.domain for entry in model.opset_import} - {"", "ai.onnx"}:
        return "operators of another domain"
    for node in (*model.graph.node, *model.graph.initializer):
        if not all(isinstance(name, str) for name in _names(node)):  # no UTF-8: it comes as bytes
            return "names that are no text"
    other = {node.op_type for node in model.graph.node if node.op_type not in OPERATORS}
    if other or any(node.domain not in ("", "ai.onnx") for node in model.graph.node):
        return f"operators that are not allowed ({', '.join(sorted(other)) or 'of a domain'})"
    tensors = [*model.graph.initializer]
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                return f"a graph within the operator {node.op_type}"
            tensors += [attribute.t] if attribute.HasField("t") else [*attribute.tensors]
    if model.graph.sparse_initializer or any(
        tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data
        for tensor in tensors
    ):
        return "data outside of the file"
    elements = sum(int(np.prod(tensor.dims, dtype=np.float64)) for tensor in tensors)
    return "constants that are too large" if elements * 4 > MAX_BYTES else ""


def _names(item) -> list:
    """What a node or an initialiser is called and calls."""
    if hasattr(item, "op_type"):
        return [item.name, item.op_type, item.domain, *item.input, *item.output]
    return [item.name]
