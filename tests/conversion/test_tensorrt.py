"""TF-TRT as far as a host without TensorRT goes: the library probe, and what it will be given."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from dgn_tf import model_folder
from dgn_tf.conversion import tensorrt
from dgn_tf.conversion.accelerator import GEOMETRY, for_accelerator, ops_on_path
from dgn_tf.errors import InputError
from dgn_tf.localize.finders import BlobFinder
from dgn_tf.serving.allow_list import read_saved_model
from dgn_tf.serving.module import OF_NETWORK, frozen_forward
from dgn_tf.serving.saving import example_crops, save_model
from tests.exported_model import SIZE, network

CONVERTERS = json.loads((pathlib.Path(__file__).parent / "tensorrt_converters.json").read_text())[
    "ops"
]
# What the path from depth to vertices holds that no converter knows, and why it may stay.
OUTSIDE: dict[str, str] = {}


def has_tensorrt():
    try:
        tensorrt.library_version("libnvinfer.so.8")
    except (OSError, AttributeError):
        return False
    return True


def test_the_list_of_converters_is_that_of_this_tensorflow():
    from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils

    assert sorted(set(_pywrap_py_utils.get_registered_op_converters())) == CONVERTERS


def test_every_op_from_depth_to_vertices_has_a_converter():
    with for_accelerator(network(), geometry_apart=False):
        ops = ops_on_path(frozen_forward(network()), "vertices")
    assert ops["Conv2D"] and ops["MatMul"]
    assert set(ops) - set(CONVERTERS) == set(OUTSIDE)


def test_below_float32_only_the_networks_are_in_the_graph_that_is_converted():
    with for_accelerator(network(), True, OF_NETWORK):
        forward = frozen_forward(network())
    graph = forward.graph.as_graph_def()
    frozen = convert_variables_to_constants_v2(forward).graph.as_graph_def()  # as TF-TRT does
    calls = [node for node in graph.node if node.op.endswith("PartitionedCall")]
    assert len(calls) == len(GEOMETRY)
    ops = {node.op for node in graph.node}
    assert {"Conv2D", "MatMul", "Relu"} <= ops
    assert not ops & {"Sqrt", "Rsqrt", "Cross", "GatherV2", "Exp", "ArgMax"}  # fit, crop, lookups
    of_functions = [node for f in graph.library.function for node in f.node_def]
    assert not {"Conv2D", "BiasAdd"} & {node.op for node in of_functions}
    # An output that is not used makes Grappler rewrite the function, which TF-TRT can't import.
    assert not any("_GrapplerSpecializedFunc" in f.attr for f in frozen.library.function)


def test_the_network_is_as_before_after_the_conversion_form():
    before = network()(network().example_inputs())["vertices"]
    chunk = network().extension.chunk
    with for_accelerator(network(), geometry_apart=True):
        apart = network()(network().example_inputs())["vertices"]
    np.testing.assert_allclose(apart, before, atol=1e-3)
    assert network().extension.chunk is chunk
    assert not set(GEOMETRY) & vars(network()).keys()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_forward_pass_that_was_saved_apart_serves_all_signatures(precision, tmp_path):
    """The way that engines take back into the model, with the graph not yet converted."""
    tensorrt.save_forward(network(), precision, tmp_path / "forward")
    forward = tf.saved_model.load(str(tmp_path / "forward"))
    save_model(network(), tmp_path / "1", BlobFinder(), precision, forward)
    read_saved_model(tmp_path / "1")
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    assert set(loaded.signatures) >= {"serving_default", "centred", "crop", "png"}
    crops = {name: tf.constant(value) for name, value in example_crops(SIZE).items()}
    actual = loaded.signatures["crop"](left=tf.zeros([2], tf.bool), **crops)["vertices"]
    np.testing.assert_allclose(actual, network()(crops)["vertices"], atol=0.05)


def test_the_report_counts_ops_in_engines_and_outside():
    graph = tf.compat.v1.GraphDef()
    graph.node.add(name="x", op="Placeholder")
    engine = graph.node.add(name="TRTEngineOp_0", op="TRTEngineOp", input=["x"])
    engine.attr["segment_func"].func.name = "segment"
    graph.node.add(name="call", op="PartitionedCall", input=["TRTEngineOp_0"])
    for name, ops in [("segment", ["Conv2D", "Conv2D", "Relu"]), ("decode", ["Sqrt"])]:
        function = graph.library.function.add()
        function.signature.name = name
        for op in ops:
            function.node_def.add(op=op)
    assert tensorrt.summary(graph) == {
        "engines": {"TRTEngineOp_0": {"Conv2D": 2, "Relu": 1}},
        "outside": {"PartitionedCall": 1, "Placeholder": 1},
        "outside_functions": {"Sqrt": 1},
    }


@pytest.mark.skipif(has_tensorrt(), reason="TensorRT is here")
def test_a_host_without_tensorrt_gets_one_line_and_no_output(tmp_path):
    model_folder.save_model_folder(network(), tmp_path / "best")
    quiet = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "dgn_tf.export",
            f"--weights={tmp_path / 'best'}",
            f"--output_dir={tmp_path / 'out'}",
            "--tensorrt",
            "--precision=int8",
        ],
        capture_output=True,
        text=True,
        check=False,
        env=quiet,
    )
    assert done.returncode == 1  # not -6: an abort
    assert len(done.stderr.splitlines()) == 1
    assert "libnvinfer.so.8 (TensorRT 8.6.1" in done.stderr
    assert "leave --tensorrt out" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_library_that_is_no_tensorrt_is_told(monkeypatch):
    monkeypatch.setattr(tensorrt, "_LIBRARIES", ("libc.so",))
    monkeypatch.setattr(tensorrt, "linked_version", lambda: (6, 0, 0))
    with pytest.raises(InputError, match=r"libc\.so\.6 .*getInferLibVersion"):
        tensorrt.require_tensorrt()
