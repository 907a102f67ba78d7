"""Which ops a SavedModel may hold. A SavedModel is code: its ops are read before it is loaded.

TensorFlow has ops that read and write any file, run programs of other runtimes or reach the
network. None is needed to turn depth into a mesh, so that only ops that compute are let through;
the checkpoint ops that every SavedModel carries are allowed where its saver calls them, and
nowhere else. The check parses `saved_model.pb` as data: nothing of it runs.
"""

import pathlib

from dgn_tf.errors import InputError

MAX_BYTES = 512 * 2**20

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
# TF-TRT's own; its engines are part of the model.
ACCELERATOR_OPS = frozenset(
    "CreateTRTResourceHandle GetCalibrationDataOp InitializeTRTResource TRTEngineOp".split()
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
    return model


def forbidden_ops(meta_graph) -> set[str]:
    """Names of the ops of a MetaGraphDef, its functions included, that are not allowed."""
    functions = {function.signature.name: function for function in _functions(meta_graph)}
    savers = _saver_functions(meta_graph)
    forbidden = set()
    bodies = [("", meta_graph.graph_def.node)]
    bodies += [(name, function.node_def) for name, function in functions.items()]
    for name, nodes in bodies:
        allowed = ALLOWED_OPS | savers.get(name, frozenset())
        # A node may call a library function by using its name as an op.
        forbidden |= {node.op for node in nodes if node.op not in allowed | functions.keys()}
    # A function named as an op would hide it, or be hidden by it.
    forbidden |= {name for name in functions if name in ALLOWED_OPS | SAVE_OPS | RESTORE_OPS}
    return forbidden


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
    savers, others = {}, set(meta_graph.object_graph_def.concrete_functions)
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
