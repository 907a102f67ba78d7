"""Which ops a SavedModel may hold. A SavedModel is code: its ops are read before it is loaded.

TensorFlow has ops that read and write any file, run programs of other runtimes or reach the
network. None is needed to turn depth into a mesh, so that only ops that compute are let through;
the checkpoint ops that every SavedModel carries are allowed where its saver calls them, and
nowhere else. What loading makes and runs besides is `object_graph`'s to say. The check parses
`saved_model.pb` as data: nothing of it runs.
"""

import collections
import math
import pathlib

from dgn_tf.errors import InputError, reason
from dgn_tf.serving import object_graph

MAX_BYTES = 512 * 2**20
# Of all constants together, as their shapes say: a few bytes can stand for any number of them.
MAX_CONSTANTS = 2**27

# Pure computation: values in, values out.
COMPUTE_OPS = frozenset(
    """
    Abs Acos Add AddN AddV2 All Angle Any ArgMax ArgMin Asin Assert Atan Atan2 AvgPool BatchMatMul
    BatchMatMulV2 BatchMatMulV3 BatchToSpaceND BiasAdd BitwiseAnd BitwiseOr BroadcastArgs
    BroadcastGradientArgs BroadcastTo Bucketize Cast Ceil CheckNumerics ClipByValue Concat ConcatV2
    Const Conv2D Cos Cosh Cross Cumsum DecodePng DecodeRaw DepthToSpace DepthwiseConv2dNative
    Diag DiagPart Div DivNoNan DynamicStitch Einsum Elu Empty EnsureShape Equal Erf Exp ExpandDims
    Expm1 Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather
    GatherNd GatherV2 Greater GreaterEqual Identity IdentityN InvertPermutation IsFinite IsInf
    IsNan L2Loss LeakyRelu Less LessEqual LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot
    LogicalOr MatMul MatrixDiagPartV3 MatrixDiagV3 MatrixSetDiagV3 Max MaxPool MaxPoolV2 Maximum
    Mean Min Minimum MirrorPad Mul MulNoNan Neg NoOp NonMaxSuppressionV4 NotEqual OneHot OnesLike
    Pack Pad PadV2 Placeholder PlaceholderWithDefault Pow PreventGradient Prod Range Rank RealDiv
    Reciprocal Relu Relu6 Reshape ResizeBilinear ResizeNearestNeighbor ReverseV2 Rint Round Rsqrt
    ScatterNd Select SelectV2 Selu Shape ShapeN Sigmoid Sign Sin Sinh Size Slice Softmax Softplus
    Softsign SpaceToBatchND SpaceToDepth Split SplitV Sqrt Square SquaredDifference Squeeze
    StopGradient StridedSlice StringJoin Substr Sub Sum Tan Tanh TensorScatterUpdate Tile TopK
    TopKV2 Transpose Unpack UnsortedSegmentSum Where Xdivy Xlogy ZerosLike
    _FusedConv2D _FusedMatMul
    """.split()
)
# Functions, loops and lists; the functions they call are checked with the rest.
FUNCTION_OPS = frozenset(
    """
    Case If StatelessIf StatelessCase While StatelessWhile PartitionedCall StatefulPartitionedCall
    _Arg _Retval TensorListElementShape TensorListFromTensor TensorListGetItem TensorListLength
    TensorListReserve TensorListSetItem TensorListStack
    """.split()
)
VARIABLE_OPS = frozenset(
    """
    AssignVariableOp DisableCopyOnRead ReadVariableOp ResourceGather VarHandleOp VarIsInitializedOp
    """.split()
)
# TF-TRT's own; its engines are part of the model, see `object_graph`.
ACCELERATOR_OPS = frozenset(
    "CreateTRTResourceHandle DestroyResourceOp GetCalibrationDataOp InitializeTRTResource "
    "TRTEngineOp".split()
)
# These read and write files: allowed in the functions that the saver names, and nowhere else.
# Loading runs the restoring one.
SAVE_OPS = frozenset("MergeV2Checkpoints SaveV2 ShardedFilename StaticRegexFullMatch".split())
RESTORE_OPS = frozenset(["RestoreV2"])
ALLOWED_OPS = COMPUTE_OPS | FUNCTION_OPS | VARIABLE_OPS | ACCELERATOR_OPS


def find_version(folder) -> pathlib.Path:
    """The SavedModel in `folder`: itself, or the highest of its numbered versions.

    Raises:
        InputError: there is none.
    """
    folder = pathlib.Path(folder)
    if (folder / "saved_model.pb").is_file():
        return folder
    if not folder.is_dir():
        raise InputError(
            f"--saved_model {folder}: no such folder; give the folder of an exported "
            "model, such as saved_models/dgn."
        )
    versions = [
        entry
        for entry in folder.iterdir()
        if entry.name.isdigit() and (entry / "saved_model.pb").is_file()
    ]
    if not versions:
        raise InputError(
            f"--saved_model {folder}: holds no SavedModel (no saved_model.pb, no numbered version "
            "with one); make one with python -m dgn_tf.export."
        )
    return max(versions, key=lambda entry: int(entry.name))


def read_saved_model(folder):
    """Parses `folder`/saved_model.pb, without loading it, and checks its ops.

    Returns:
        The SavedModel protobuf.

    Raises:
        InputError: unreadable, too large, damaged, or with an op that is not allowed, by name.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    file = pathlib.Path(folder) / "saved_model.pb"
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise InputError(
                f"{file} has {size} bytes, more than the {MAX_BYTES} that a hand "
                "model may have; export it anew."
            )
        data = file.read_bytes()
    except OSError as error:
        raise InputError(
            f"{file}: {error.strerror}; --saved_model wants an exported model's folder."
        ) from None
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(data)
    except Exception:  # google.protobuf's DecodeError; its class differs between backends
        model.Clear()
    if not model.meta_graphs:
        raise InputError(
            f"{file} is damaged or no SavedModel; export the model anew with "
            "python -m dgn_tf.export."
        )
    forbidden = sorted({op for graph in model.meta_graphs for op in forbidden_ops(graph)})
    if forbidden:
        raise InputError(
            f"{file} holds ops that a hand model does not need and that are refused: "
            f"{', '.join(forbidden[:8])}; use a model that python -m dgn_tf.export made."
        )
    for graph in model.meta_graphs:
        fault = object_graph.find_fault(graph, file.parent) or _fault_of_constants(graph)
        if fault:
            raise InputError(
                f"{file} is refused: {fault}, which no exported model has; use a model that "
                "python -m dgn_tf.export made."
            )
    _check_fingerprint(file.parent)
    return model


def load_checked(folder):
    """Loads a SavedModel that `read_saved_model` has let through; raises InputError."""
    import tensorflow as tf

    try:
        return tf.saved_model.load(str(folder))
    except Exception as error:  # TensorFlow raises many kinds for a damaged model
        raise InputError(
            f"--saved_model {folder} can't be loaded ({reason(error)}); export it anew."
        ) from None


def _fault_of_constants(meta_graph) -> str | None:
    bodies = [meta_graph.graph_def.node, *(f.node_def for f in _functions(meta_graph))]
    elements = 0
    for node in (node for body in bodies for node in body):
        for value in node.attr.values():
            sizes = [dim.size for dim in value.tensor.tensor_shape.dim]
            if any(size < 0 for size in sizes):
                return f"its constant {node.name} has a negative size"
            elements += math.prod(sizes) if value.HasField("tensor") else 0
    if elements > MAX_CONSTANTS:
        return f"its constants have {elements} elements, more than {MAX_CONSTANTS}"
    return None


def _check_fingerprint(folder):
    """Compares the model with the fingerprint that TensorFlow has left beside it, where it is."""
    from tensorflow.core.protobuf import fingerprint_pb2
    from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

    file = folder / "fingerprint.pb"
    if not file.is_file():  # older than TensorFlow 2.12
        return
    wanted, found = fingerprint_pb2.FingerprintDef(), fingerprint_pb2.FingerprintDef()
    try:
        wanted.ParseFromString(file.read_bytes())
        found.ParseFromString(fingerprinting.CreateFingerprintDef(str(folder)))
    except Exception:  # DecodeError, and TensorFlow's own of a checkpoint that is not there
        found.Clear()
    differing = [name for name in _HASHES if getattr(wanted, name) != getattr(found, name)]
    if differing:
        raise InputError(
            f"{folder} is damaged: it is not what {file.name} was written for "
            f"({differing[0]} differs); copy or export the model again."
        )


def forbidden_ops(meta_graph) -> set[str]:
    """Names of the ops of a MetaGraphDef, its functions included, that are not allowed."""
    named = collections.Counter(function.signature.name for function in _functions(meta_graph))
    savers = _saver_functions(meta_graph)
    forbidden = set()
    bodies = [("", meta_graph.graph_def.node)]
    bodies += [(function.signature.name, function.node_def) for function in _functions(meta_graph)]
    for name, nodes in bodies:
        allowed = ALLOWED_OPS | savers.get(name, frozenset())
        # A node may call a library function by using its name as an op.
        forbidden |= {node.op for node in nodes if node.op not in allowed | named.keys()}
    # A function named as an op, or as another, would hide it, or be hidden by it.
    forbidden |= {name for name in named if name in ALLOWED_OPS | SAVE_OPS | RESTORE_OPS}
    forbidden |= {name for name, count in named.items() if count > 1}
    return forbidden


_HASHES = (
    "saved_model_checksum",
    "graph_def_program_hash",
    "signature_def_hash",
    "saved_object_graph_hash",
    "checkpoint_hash",
)


def _functions(meta_graph):
    """The FunctionDefs of a MetaGraphDef."""
    return meta_graph.graph_def.library.function


def _saver_functions(meta_graph) -> dict[str, frozenset]:
    """Functions that one of the saver's two nodes calls and nothing else can reach, and the file
    ops each may hold."""
    saver = meta_graph.saver_def
    roles = {
        _node(saver.save_tensor_name): SAVE_OPS,
        _node(saver.restore_op_name): RESTORE_OPS,  # last: loading runs it
    }
    savers, others = {}, object_graph.functions_named(meta_graph.object_graph_def)
    # Nodes that something else can run: by an edge, a signature, an initialiser.
    run: set[str] = set()
    for node in meta_graph.graph_def.node:
        run.update(_node(name) for name in node.input)
        if node.name in roles:
            savers.update({name: roles[node.name] for name in _calls(node)})
        else:
            others.update(_calls(node))
    for signature in meta_graph.signature_def.values():
        for tensor in [*signature.inputs.values(), *signature.outputs.values()]:
            run.add(_node(tensor.name))
    for collection in meta_graph.collection_def.values():
        run.update(_node(name) for name in collection.node_list.value)
    if run & roles.keys():
        return {}
    for function in _functions(meta_graph):
        for node in function.node_def:
            others.update(_calls(node))
    for gradient in meta_graph.graph_def.library.gradient:
        others.update([gradient.function_name, gradient.gradient_func])
    return {name: ops for name, ops in savers.items() if name not in others}


def _node(tensor: str) -> str:
    """The node of a tensor's or control input's name."""
    return tensor.lstrip("^").split(":")[0]


def _calls(node) -> set[str]:
    """Functions that a node refers to, by attribute or by its op."""
    names = {node.op}
    for value in node.attr.values():
        if value.HasField("func"):
            names.add(value.func.name)
        names.update(function.name for function in value.list.func)
    return names
