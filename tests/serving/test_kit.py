"""The files of serving/, parsed as the server parses them."""

import re

import pytest
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)

from dgn_tf.serving.inference_only import FROZEN_WEIGHTS

FIELD = descriptor_pb2.FieldDescriptorProto


def field(name, number, kind, message="", repeated=False):
    label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
    return FIELD(name=name, number=number, type=kind, type_name=message or None, label=label)


@pytest.fixture(scope="module")
def messages():
    """The two messages that the wheel tensorflow-serving-api leaves out, by their published .proto:
    servables/tensorflow/session_bundle_config.proto and config/monitoring_config.proto."""
    whole, text = ".google.protobuf.Int64Value", ".google.protobuf.StringValue"
    sub = FIELD.TYPE_MESSAGE
    batching = [
        field("max_batch_size", 1, sub, whole),
        field("batch_timeout_micros", 2, sub, whole),
        field("max_enqueued_batches", 3, sub, whole),
        field("num_batch_threads", 4, sub, whole),
        field("thread_pool_name", 5, sub, text),
        field("allowed_batch_sizes", 6, FIELD.TYPE_INT64, repeated=True),
        field("pad_variable_length_inputs", 7, FIELD.TYPE_BOOL),
    ]
    prometheus = [field("enable", 1, FIELD.TYPE_BOOL), field("path", 2, FIELD.TYPE_STRING)]
    monitoring = [field("prometheus_config", 1, sub, ".kit.PrometheusConfig")]
    file = descriptor_pb2.FileDescriptorProto(
        name="kit.proto",
        package="kit",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
        message_type=[
            descriptor_pb2.DescriptorProto(name=name, field=fields)
            for name, fields in [
                ("BatchingParameters", batching),
                ("PrometheusConfig", prometheus),
                ("MonitoringConfig", monitoring),
            ]
        ],
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"kit.{name}"))


def parse(checkout, name, message):
    return text_format.Parse((checkout / "serving" / name).read_text(), message)


@pytest.mark.parametrize("name", ["models.config", "models.labels.config"])
def test_model_configs_name_the_model_and_their_versions(checkout, name):
    proto = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    config = parse(checkout, name, proto.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (
        "dgn",
        "/models/dgn",
        "tensorflow",
    )
    policy = model.model_version_policy
    if name == "models.config":
        assert policy.latest.num_versions == 1 and not model.version_labels
    else:
        assert set(model.version_labels.values()) <= set(policy.specific.versions)
        assert set(model.version_labels) == {"stable", "canary"}


def test_batching_parameters_keep_the_servers_rules(checkout, messages):
    config = parse(checkout, "batching.config", messages("BatchingParameters")())
    sizes = list(config.allowed_batch_sizes)
    assert sizes == sorted(set(sizes)) and sizes[-1] == config.max_batch_size.value
    assert not config.pad_variable_length_inputs and config.num_batch_threads.value >= 1


def test_monitoring_is_on(checkout, messages):
    config = parse(checkout, "monitoring.config", messages("MonitoringConfig")())
    assert config.prometheus_config.enable and config.prometheus_config.path.startswith("/")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("batching.config", "BatchingParameters"),
        ("monitoring.config", "MonitoringConfig"),
    ],
)
def test_a_field_that_the_server_does_not_know_is_noticed(checkout, messages, name, message):
    text = (checkout / "serving" / name).read_text() + "\nmax_batchsize { value: 3 }\n"
    with pytest.raises(text_format.ParseError, match="max_batchsize"):
        text_format.Parse(text, messages(message)())


def test_compose_mounts_configs_that_exist_and_asks_for_the_pinned_images(checkout):
    text = (checkout / "serving" / "compose.yaml").read_text()
    for name in re.findall(r"/config/([\w.]+)", text):
        assert (checkout / "serving" / name).is_file(), name
    assert set(re.findall(r"image: (.+)", text)) == {
        "tensorflow/serving:2.15.1-gpu",
        "tensorflow/serving:2.15.1",
    }
    (cpu,) = re.findall(r"profiles: \[cpu\]\n(.+)", text, re.DOTALL)
    assert f"{FROZEN_WEIGHTS}=1" in cpu and "--tensorflow_intra_op_parallelism=1" in cpu
    default = re.search(r"DGN_MODEL:-(.+?)}", text)
    assert default and (checkout / "serving" / default[1]).resolve().is_dir()
    # The server refuses a file of batching parameters without batching.
    for command in text.split("command:")[1:]:
        assert ("--enable_batching=true" in command) == ("batching_parameters_file" in command)
