"""serving/triton: configurations as Triton reads them, of the signatures, and of the commands."""

import re

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from dgn_tf.serving import allow_list

FIELD = descriptor_pb2.FieldDescriptorProto
BACKENDS = ("onnxruntime", "tensorrt")
SIGNATURES = ("crop", "centred")
TYPES = {"TYPE_FP32": "DT_FLOAT", "TYPE_BOOL": "DT_BOOL"}
PASSED = "_out"  # ends an output's name in ONNX where an input has it too

# What of Triton's published model_config.proto the files use: message -> (name, number, type); a
# type with * is repeated. A map is a repeated message of key and value.
SCHEMA = {
    "ModelTensorReshape": [("shape", 1, "int64*")],
    "ModelInput": [
        ("name", 1, "string"),
        ("data_type", 2, "DataType"),
        ("dims", 4, "int64*"),
        ("reshape", 5, "ModelTensorReshape"),
    ],
    "ModelOutput": [
        ("name", 1, "string"),
        ("data_type", 2, "DataType"),
        ("dims", 3, "int64*"),
        ("reshape", 5, "ModelTensorReshape"),
    ],
    "Latest": [("num_versions", 1, "uint32")],
    "ModelVersionPolicy": [("latest", 1, "Latest")],
    "ModelQueuePolicy": [("max_queue_size", 4, "uint32")],
    "ModelDynamicBatching": [
        ("preferred_batch_size", 1, "int32*"),
        ("max_queue_delay_microseconds", 2, "uint64"),
        ("default_queue_policy", 6, "ModelQueuePolicy"),
    ],
    "ModelInstanceGroup": [("count", 2, "int32"), ("kind", 4, "Kind")],
    "ModelParameter": [("string_value", 1, "string")],
    "ParametersEntry": [("key", 1, "string"), ("value", 2, "ModelParameter")],
    "ModelConfig": [
        ("name", 1, "string"),
        ("backend", 17, "string"),
        ("version_policy", 3, "ModelVersionPolicy"),
        ("max_batch_size", 4, "int32"),
        ("input", 5, "ModelInput*"),
        ("output", 6, "ModelOutput*"),
        ("dynamic_batching", 11, "ModelDynamicBatching"),
        ("instance_group", 7, "ModelInstanceGroup*"),
        ("parameters", 14, "ParametersEntry*"),
    ],
}
ENUMS = {
    "DataType": {"TYPE_INVALID": 0, "TYPE_BOOL": 1, "TYPE_FP32": 11},
    "Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3},
}
SCALARS = {
    "string": FIELD.TYPE_STRING,
    "int32": FIELD.TYPE_INT32,
    "int64": FIELD.TYPE_INT64,
    "uint32": FIELD.TYPE_UINT32,
    "uint64": FIELD.TYPE_UINT64,
}


def field(name, number, kind):
    repeated, kind = kind.endswith("*"), kind.rstrip("*")
    made = FIELD(name=name, number=number)
    made.label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
    if kind in SCALARS:
        made.type = SCALARS[kind]
    else:
        made.type = FIELD.TYPE_ENUM if kind in ENUMS else FIELD.TYPE_MESSAGE
        made.type_name = f".inference.{kind}"
    return made


@pytest.fixture(scope="module")
def model_config():
    """The class of Triton's message ModelConfig, of the fields in `SCHEMA`."""
    file = descriptor_pb2.FileDescriptorProto(name="triton", package="inference", syntax="proto3")
    for name, fields in SCHEMA.items():
        file.message_type.add(name=name, field=[field(*given) for given in fields])
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


@pytest.fixture(scope="module")
def configs(checkout, model_config):
    """(backend, signature) -> ModelConfig."""
    folder = checkout / "serving" / "triton"
    return {
        (backend, name): text_format.Parse(
            (folder / backend / f"dgn_{name}" / "config.pbtxt").read_text(), model_config()
        )
        for backend in BACKENDS
        for name in SIGNATURES
    }


@pytest.fixture(scope="module")
def signatures(checkout):
    """SignatureDefs of the shipped model by name, of which the ONNX files are made."""
    version = allow_list.find_version(checkout / "saved_models" / "dgn")
    return allow_list.read_saved_model(version).meta_graphs[0].signature_def


def shape_in_model(tensor) -> list[int]:
    """With the batch, as the model has it: `reshape` tells where it is not as in requests."""
    return [-1, *(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)]


def tensors(specs, inputs=()) -> dict[str, tuple]:
    """Name in ONNX -> (type, shape) of a SignatureDef's inputs or outputs."""
    return {
        name + PASSED * (name in inputs): (
            spec.DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number[spec.dtype].name,
            [size.size for size in spec.tensor_shape.dim],
        )
        for name, spec in specs.items()
    }


def test_each_lies_where_its_name_and_backend_say_and_batches_requests(configs):
    for (backend, name), config in configs.items():
        assert (config.name, config.backend) == (f"dgn_{name}", backend)
        assert config.version_policy.latest.num_versions == 1
        assert config.max_batch_size >= 8 and config.HasField("dynamic_batching")
        most = config.dynamic_batching.default_queue_policy.max_queue_size
        assert most >= config.max_batch_size  # a queue without an end would take all memory


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SIGNATURES)
def test_inputs_and_outputs_are_the_signatures(configs, signatures, backend, name):
    config, signature = configs[backend, name], signatures[name]
    data_type = type(config).DESCRIPTOR.file.enum_types_by_name["DataType"]
    for told, expected in (
        (config.input, tensors(signature.inputs)),
        (config.output, tensors(signature.outputs, signature.inputs)),
    ):
        found = {
            tensor.name: (
                TYPES[data_type.values_by_number[tensor.data_type].name],
                shape_in_model(tensor),
            )
            for tensor in told
        }
        assert found == expected
        assert len(told) == len(found) and all(tensor.dims for tensor in told)


def test_both_backends_answer_alike(configs):
    for name in SIGNATURES:
        first, second = (configs[backend, name] for backend in BACKENDS)
        assert list(first.input) == list(second.input)
        assert list(first.output) == list(second.output)
        assert first.max_batch_size == second.max_batch_size


def test_engines_are_built_for_what_their_configurations_let_through(checkout, configs):
    text = (checkout / "serving" / "triton" / "README.md").read_text().replace("\\\n", "")
    commands = re.findall(r"trtexec --onnx=\S+/1\.(\w+)\.onnx (.+)", text)
    assert [name for name, _ in commands] == list(SIGNATURES)
    for name, flags in commands:
        config = configs["tensorrt", name]
        assert f"/dgn_{name}/1/model.plan" in flags
        least, best, most = (shapes(flags, which) for which in ("min", "opt", "max"))
        for tensor in config.input:
            sizes = (least[tensor.name], best[tensor.name], most[tensor.name])
            for size in zip(shape_in_model(tensor), *sizes, strict=True):
                assert size[1] <= size[2] <= size[3]
                assert size[0] == -1 or set(size) == {size[0]}
            assert sizes[0][0] == 1 and sizes[2][0] == config.max_batch_size
        assert set(least) == set(best) == set(most) == {tensor.name for tensor in config.input}


def shapes(flags: str, which: str) -> dict[str, list[int]]:
    (found,) = re.findall(rf"--{which}Shapes=(\S+)", flags)
    pairs = (pair.split(":") for pair in found.split(","))
    return {name: [int(size) for size in sizes.split("x")] for name, sizes in pairs}


def test_a_field_that_triton_does_not_know_is_noticed(checkout, model_config):
    file = checkout / "serving" / "triton" / "onnxruntime" / "dgn_crop" / "config.pbtxt"
    with pytest.raises(text_format.ParseError, match="max_batchsize"):
        text_format.Parse(file.read_text() + "\nmax_batchsize: 3\n", model_config())


def test_the_page_keeps_to_120_columns_and_its_files_exist(checkout):
    page = checkout / "serving" / "triton" / "README.md"
    text = page.read_text()
    assert all(len(line) <= 120 for line in text.splitlines())
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (page.parent / target).exists(), target
    for folder in re.findall(r"cp -r (\S+)", text):
        assert (checkout / folder).is_dir(), folder
