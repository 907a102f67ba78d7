"""What the exported graph is made of, all signatures and functions."""

import pytest
from tensorflow.python.framework import op_def_registry

from dgn_tf.serving.allow_list import read_saved_model
from tests.exported_model import exported_model

MODELS = ("small", "shipped")  # the shipped one has the localiser too


@pytest.fixture(params=MODELS)
def ops(request, checkout):
    folder = exported_model() / "1" if request.param == "small" else checkout / "saved_models/dgn/1"
    (graph,) = read_saved_model(folder).meta_graphs
    functions = graph.graph_def.library.function
    names = {function.signature.name for function in functions}
    bodies = [graph.graph_def.node, *(function.node_def for function in functions)]
    return {node.op for body in bodies for node in body} - names


def test_no_decomposition_python_or_custom_op(ops):
    assert not ops & {"Svd", "SelfAdjointEigV2", "PyFunc", "EagerPyFunc", "PyFuncStateless"}
    # No library was loaded besides TensorFlow's own: what it knows is plain TensorFlow.
    assert [op for op in sorted(ops) if op_def_registry.get(op) is None] == []
    assert {"Conv2D", "MatMul", "DecodePng"} <= ops


def test_batch_norms_are_part_of_the_convolutions(ops):
    assert not {op for op in ops if op.startswith("FusedBatchNorm")}
