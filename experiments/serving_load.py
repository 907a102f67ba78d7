"""Loads a stand-in for TensorFlow Serving on loopback: latency, loss, wrong answers, memory.

    python -m experiments.serving_load --saved_model=saved_models/dgn --json=runs/serving_load.json

The server (`tests/serving/stand_in_server.py`) runs in a process of its own. `--grpc=host:port`
measures a server that runs already, the real one, without its memory.
"""

import collections
import concurrent.futures
import contextlib
import functools
import json
import os
import subprocess
import sys
import time

import numpy as np
from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError
from dgn_tf.serving.inference_only import assume_frozen_weights

_SAVED_MODEL = flags.DEFINE_string(
    "saved_model", "saved_models/dgn", "Exported model: served, and run in this process."
)
_GRPC = flags.DEFINE_string("grpc", "", "host:port of a server; empty: the stand-in is started.")
_ROUNDS = flags.DEFINE_integer("rounds", 60, "Frames for the latency.", lower_bound=5)
_REQUESTS = flags.DEFINE_integer("requests", 1000, "In flight at once.", lower_bound=8)
_CLIENTS = flags.DEFINE_integer("clients", 8, "Clients that share them.", lower_bound=1)
_MEMORY_REQUESTS = flags.DEFINE_integer(
    "memory_requests",
    10_000,
    "Crops over which the server's memory is watched; 0: none.",
    lower_bound=0,
)
_JSON = flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")

INTRINSICS = (475.0, 475.0, 319.5, 239.5)


def main(_):
    import dgn_tf
    from dgn_tf.json_file import write_json

    predictor = dgn_tf.HandMeshPredictor(_SAVED_MODEL.value, INTRINSICS)
    with server(_SAVED_MODEL.value, _GRPC.value) as (address, process):
        with dgn_tf.HandMeshClient(
            address, intrinsics=INTRINSICS, timeout_s=600, assets=_SAVED_MODEL.value
        ) as client:
            result: dict = {"load_before": os.getloadavg()[0], "processors": os.cpu_count()}
            result["latency"] = measure_latency(predictor, client, _ROUNDS.value)
        if process:
            result["rss_start_mb"] = resident_mb(process)
        result["flight"] = measure_flight(predictor, address, _REQUESTS.value, _CLIENTS.value)
        if process and _MEMORY_REQUESTS.value:
            result["memory"] = measure_memory(
                address, process, _MEMORY_REQUESTS.value, image_size(predictor)
            )
    result["load_after"] = os.getloadavg()[0]
    print(json.dumps(result, indent=1))
    if _JSON.value:
        write_json(result, _JSON.value)


@contextlib.contextmanager
def server(saved_model, address):
    """(host:port, process or None) of the server under test; the stand-in ends with the block."""
    if address:
        yield address, None
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.serving.stand_in_server", f"--model_base_path={saved_model}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise InputError(
                "the stand-in server did not start; run this in the checkout, with "
                "the extra serving installed."
            )
        yield f"127.0.0.1:{json.loads(line)['grpc']}", process
    finally:
        process.terminate()
        process.wait()


@functools.cache
def frame(index: int) -> np.ndarray:
    """A 640 x 480 frame, mm, of a hand as in the sample frames."""
    from data_prep.sample_frames import sample_config
    from dgn_tf.synthesis.whole_frames import render_frame
    from dgn_tf.template import load_template

    found = render_frame(load_template(), sample_config("flat"), 7, index, intrinsics=INTRINSICS)
    return found["depth"].astype(np.float32)


def measure_latency(predictor, client, rounds: int) -> dict:
    """p50 and p99 in ms of one frame, served and in this process, in alternation."""
    from benchmarks import timing

    depth = frame(0)
    jobs = {"in_process": lambda: predictor(depth), "served": lambda: client(depth)}
    for job in jobs.values():
        for _ in range(5):
            job()
    seconds = timing.alternate(jobs, rounds)
    quantiles = {
        f"{name}_ms_p{q}": float(1e3 * np.percentile(values, q))
        for name, values in seconds.items()
        for q in (50, 99)
    }
    ratio = quantiles["served_ms_p50"] / quantiles["in_process_ms_p50"]
    return {**quantiles, "served_to_in_process_p50": ratio}


def measure_flight(predictor, address, requests: int, clients: int) -> dict:
    """All requests in flight at once, over a channel for each client; every answer is compared."""
    frames = [frame(index) for index in range(8)]
    expected = [predictor(depth).vertices for depth in frames]
    counts: collections.Counter = collections.Counter()
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        shares = [range(number, requests, clients) for number in range(clients)]
        for counted in pool.map(lambda share: _client(address, frames, expected, share), shares):
            counts.update(counted)
    seconds = time.perf_counter() - start
    return {
        "requests": requests,
        "clients": clients,
        "answered": counts["answered"],
        "wrong": counts["wrong"],
        "lost": requests - counts["answered"],
        "errors": {key: n for key, n in counts.items() if key not in ("answered", "wrong")},
        "per_second": requests / seconds,
    }


def _client(address, frames, expected, share):
    """One client: sends all of its share, then waits for the answers."""
    import grpc
    import tensorflow as tf

    counts: collections.Counter = collections.Counter()
    with _channel(address) as channel:
        predict = _stub(channel)
        calls = [
            (index % 8, predict.future(_frame_request(frames[index % 8]), timeout=900))
            for index in share
        ]
        for which, call in calls:
            try:
                vertices = tf.make_ndarray(call.result().outputs["vertices"])[0]
            except grpc.RpcError as error:
                counts[error.code().name] += 1
                continue
            counts["answered"] += 1
            counts["wrong"] += int(not np.allclose(vertices, expected[which], atol=1e-2))
    return counts


def measure_memory(address, process, requests: int, size: int) -> dict:
    """Resident MB of the server's process over requests to the signature `crop`."""
    from dgn_tf.serving.saving import example_crops

    crop = {**example_crops(size, 1), "left": np.array([False])}
    request = _request("crop", crop)
    readings = []
    with _channel(address) as channel:
        predict = _stub(channel)
        for index in range(requests):
            predict(request, timeout=600)
            if index % max(requests // 10, 1) == 0 or index == requests - 1:
                readings.append(resident_mb(process))
    half = len(readings) // 2
    return {
        "requests": requests,
        "rss_mb": readings,
        "growth_second_half_mb": readings[-1] - readings[half],
    }


def image_size(predictor) -> int:
    """Side of the model's crops in pixels."""
    return int(predictor.description.info["image_size"])


def resident_mb(process) -> float:
    """Resident memory of a process in MB."""
    with open(f"/proc/{process.pid}/status") as status:
        kilobytes = next(line.split()[1] for line in status if line.startswith("VmRSS"))
    return round(int(kilobytes) * 1024 / 1e6, 1)


def _channel(address):
    import grpc

    # A pool of its own: channels to one address share a connection otherwise.
    return grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])


def _stub(channel):
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict


def _frame_request(depth):
    intrinsics = np.array([INTRINSICS], np.float32)
    return _request(
        "serving_default",
        {"depth": depth[np.newaxis], "intrinsics": intrinsics, "left": np.array([False])},
    )


def _request(signature, inputs):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    return predict_pb2.PredictRequest(
        model_spec={"name": "dgn", "signature_name": signature},
        inputs={name: tf.make_tensor_proto(value) for name, value in inputs.items()},
    )


if __name__ == "__main__":
    assume_frozen_weights()  # the server's process does so too
    errors.run(main)
