import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.serving import warmup
from tests.exported_model import exported_model, signatures


@pytest.fixture(scope="module")
def requests():
    """The file's requests, read by the official protos."""
    apis = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    file = exported_model() / "1" / warmup.WARMUP_FILE
    logs = [
        apis.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(file))
    ]
    assert all(log.WhichOneof("log_type") == "predict_log" for log in logs)
    return [log.predict_log.request for log in logs]


def test_every_signature_is_warmed_up_alone_and_in_a_batch(requests):
    found = [
        (request.model_spec.signature_name, len(tf.make_ndarray(request.inputs["left"])))
        for request in requests
    ]
    names = ("serving_default", "centred", "crop", "png")
    assert found == [(name, size) for name in names for size in warmup.BATCH_SIZES]
    assert len(found) <= 1000  # more are refused by the server
    assert {request.model_spec.name for request in requests} == {"dgn"}


def test_each_request_runs_finds_the_hand_and_gives_finite_outputs(requests):
    for request in requests:
        inputs = {
            name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()
        }
        outputs = signatures()[request.model_spec.signature_name](**inputs)
        assert outputs["found"].numpy().all(), request.model_spec
        for name, value in outputs.items():
            assert np.isfinite(value.numpy().astype(float)).all(), name


def test_the_file_is_small():
    assert (exported_model() / "1" / warmup.WARMUP_FILE).stat().st_size < 2**20


@pytest.mark.parametrize("length", [0, 1, 127, 128, 300, 70_000])
def test_encoded_messages_are_read_back_whatever_their_length(length):
    apis = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    data = np.arange(length, dtype=np.float32)
    log = apis.PredictionLog.FromString(warmup.encode_log("crop", {"depth": data}))
    request = log.predict_log.request
    assert request.model_spec.signature_name == "crop"
    np.testing.assert_array_equal(tf.make_ndarray(request.inputs["depth"]), data)
