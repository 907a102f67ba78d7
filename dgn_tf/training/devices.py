"""The devices that a run trains on: this process's one, all of its GPUs, or those of workers.

Every worker runs the same program with the same flags; worker 0, the chief, alone validates and
writes. A run's arithmetic does not depend on the devices but for rounding.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterable

import tensorflow as tf
from absl import logging

from dgn_tf.errors import InputError
from dgn_tf.json_file import parse_json
from dgn_tf.records.batches import Share

ONE, MIRRORED, MULTIWORKER = STRATEGIES = ("one", "mirrored", "multiworker")
# How TensorFlow reports that another process is gone or hangs.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
)


class Devices:
    """Where a model is built, fed and run.

    Attributes:
        strategy: TensorFlow's; None: a single device and nothing to agree on.
        workers: processes that train together.
        replicas: devices of all of them.
        chief: this process validates and writes.
    """

    def __init__(self, strategy=None, workers: int = 1, index: int = 0):
        self.strategy, self.workers, self._index = strategy, workers, index
        self.replicas = strategy.num_replicas_in_sync if strategy else 1
        self.chief = index == 0

    def scope(self):
        """The context in which model, optimiser and checkpoints are made."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def batches(self, make: Callable[..., tf.data.Dataset]):
        """What `fit` is given: from each worker its share, a part of it for each of its devices.

        Args:
            make: gives endless batches of its argument `share`.
        """
        if self.strategy is None:
            return make(share=Share())
        return self.strategy.distribute_datasets_from_function(self._of_worker(make))

    def _of_worker(self, make):
        def dataset(context):
            share = Share(context.input_pipeline_id, context.num_input_pipelines)
            found = make(share=share)
            local = self.replicas // self.workers
            if local > 1:
                found = found.map(lambda batch: _cut(batch, local)).unbatch().prefetch(local)
            # Endless by name, too: else the workers ask each other before each step.
            return found.repeat()

        return dataset

    def check_agreement(self, settings: dict, step: int) -> None:
        """Makes sure that the workers go on from the same step of the same run.

        Raises:
            InputError: they have other flags, or other checkpoints.
        """
        if self.workers == 1:
            return
        text = json.dumps(settings, sort_keys=True).encode()
        flags = int.from_bytes(hashlib.sha256(text).digest()[:7], "big")
        flags_of, step_of = self._gathered([flags, step])
        if len(set(flags_of)) > 1:
            raise InputError("the workers have different flags: start all with the same command.")
        if len(set(step_of)) > 1:
            raise InputError(
                f"the workers' checkpoints are of steps {step_of}: --output_dir wants to be one "
                "folder that all workers see."
            )

    def barrier(self) -> None:
        """Returns when all workers have come here."""
        if self.workers > 1:
            self._gathered([self._index])

    def _gathered(self, numbers: list[int]) -> list[list[int]]:
        """The numbers of all replicas: for each number a list."""
        here = tf.constant([numbers], tf.int64)

        @tf.function
        def gather():
            return tf.distribute.get_replica_context().all_gather(here, axis=0)

        found = self.strategy.experimental_local_results(self.strategy.run(gather))[0]
        return found.numpy().T.tolist()

    @contextlib.contextmanager
    def workers_alive(self, folder):
        """Turns TensorFlow's errors about another worker that is gone into an InputError."""
        if self.workers == 1:
            yield
            return
        try:
            yield
        except _LOST as error:
            raise InputError(
                f"worker {self._index} lost {self._lost(str(error))}. The last checkpoint in "
                f"{folder} is intact: start all workers again with the same command."
            ) from error

    def _lost(self, error: str) -> str:
        """Names the other worker that TensorFlow's error speaks of, else its last line."""
        tasks = {int(task) for task in re.findall(r"/job:\w+/(?:replica:\d+/)?task:(\d+)", error)}
        tasks.discard(self._index)
        if len(tasks) == 1:
            return f"worker {tasks.pop()}: it ended, hangs or can't be reached"
        lines = [line for line in error.splitlines() if line.strip()]
        return f"the connection to another worker ({' '.join(lines[-1:])})"


def open_devices(name: str, frames: Iterable[int], wait_s: float) -> Devices:
    """The devices of --strategy; with workers, once all of them are there.

    Args:
        name: one of `STRATEGIES`.
        frames: of each kind in a batch, such as real and synthetic ones: those of the workers
            must be equally many.
        wait_s: how long to wait for other workers, s.

    Raises:
        InputError: TF_CONFIG is wrong, a worker does not come, or the batch can't be cut into
            equal parts.
    """
    if name == ONE:
        return Devices()
    tf.get_logger().setLevel("WARNING")  # TensorFlow names every collective operation
    frames = list(frames)
    if name == MIRRORED:
        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        check_frames(frames, 1, len(found))
        strategy = tf.distribute.MirroredStrategy([device.name for device in found])
        logging.info("mirrored on %d devices: %s", len(found), [device.name for device in found])
        return Devices(strategy)
    own = read_cluster(os.environ.get(VARIABLE))
    check_frames(frames, len(own.workers))
    wait_for_workers(own, wait_s, logging.info)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    check_frames(frames, len(own.workers), strategy.num_replicas_in_sync)
    return Devices(strategy, len(own.workers), own.index)


def check_frames(frames: Iterable[int], workers: int, replicas: int | None = None) -> None:
    """Raises InputError where a batch can't be cut in equal parts for workers and replicas."""
    frames = list(frames)
    total, replicas = sum(frames), replicas or workers
    wrong = next((count for count in frames if count % workers), None)
    if wrong is not None:
        of = f", {wrong} of them of one kind (--real_fraction)" if wrong != total else ""
        raise InputError(
            f"--batch_size={total}{of}, can't be cut in {workers} equal parts, one for each "
            f"worker; choose a multiple of {workers}."
        )
    if total % replicas:
        raise InputError(
            f"--batch_size={total} can't be cut in {replicas} equal parts, one for each device; "
            f"choose a multiple of {replicas}."
        )


def _cut(batch: dict, parts: int) -> dict:
    """[B, ...] -> [parts, B / parts, ...]."""
    return {name: tf.reshape(value, [parts, -1, *value.shape[1:]]) for name, value in batch.items()}


# The worker processes that train together: who they are (TF_CONFIG), and waiting for them.


VARIABLE = "TF_CONFIG"
EXAMPLE = (
    '{"cluster": {"worker": ["localhost:12001", "localhost:12002"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers' addresses, host:port, and the place of this one; the first is the chief."""

    workers: tuple[str, ...]
    index: int

    @property
    def address(self) -> tuple[str, int]:
        return host_and_port(self.workers[self.index])

    @property
    def others(self) -> dict[int, str]:
        return {i: worker for i, worker in enumerate(self.workers) if i != self.index}


def host_and_port(worker: str) -> tuple[str, int]:
    """("host", port) of "host:port", or of "[address]:port" for IPv6; ValueError otherwise."""
    host, colon, port = worker.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(f"{worker!r} is no host:port")
    return host.strip("[]"), int(port)


def read_cluster(text: str | None) -> Cluster:
    """The cluster that TensorFlow's environment variable describes.

    Args:
        text: of TF_CONFIG; None where it is not set.

    Raises:
        InputError: there is none, it is no JSON, or it names no place among workers.
    """
    if not text:
        raise InputError(
            f"--strategy=multiworker wants the environment variable {VARIABLE} in every worker, "
            f"such as {EXAMPLE} with another index in each; --strategy=mirrored needs none."
        )
    try:
        found = parse_json(text)
        jobs, task = dict(found["cluster"]), dict(found["task"])
        chief, workers = list(jobs.pop("chief", [])), list(jobs.pop("worker", []))
        kind, index = task["type"], int(task["index"])
    except (ValueError, KeyError, TypeError) as error:
        wrong = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{VARIABLE}={text}: {wrong}; wanted is such as {EXAMPLE}.") from None
    places = {"chief": chief, "worker": workers}
    if jobs or kind not in places:
        other = next(iter(jobs), kind)
        raise InputError(f"{VARIABLE} names {other!r}: workers and one chief alone train here.")
    if not 0 <= index < len(places[kind]) or len(chief) > 1:
        raise InputError(
            f"{VARIABLE}: there is no {kind} {index} among {len(places[kind])}; indices go from 0."
        )
    addresses = tuple(map(str, chief + workers))
    try:
        known = [host_and_port(address) for address in addresses]
    except ValueError as error:
        raise InputError(f"{VARIABLE}: {error}; wanted is such as {EXAMPLE}.") from None
    if len(set(known)) < len(known):
        raise InputError(f"{VARIABLE}: two workers have the same address in {list(addresses)}.")
    return Cluster(addresses, index + (len(chief) if kind == "worker" else 0))


def wait_for_workers(cluster: Cluster, wait_s: float, say: Callable[[str], None]) -> None:
    """Returns once every other worker has been seen at its address.

    TensorFlow by itself waits for an hour and then aborts the process.

    Args:
        cluster: see `read_cluster`.
        wait_s: how long at most, s.
        say: told once whom it waits for.

    Raises:
        InputError: this worker's own port is taken, or another one does not come.
    """
    host, port = cluster.address
    try:
        listener = socket.create_server(("", port), backlog=128)
    except OSError as error:
        raise InputError(
            f"{VARIABLE}: port {port} of this worker {cluster.index} ({host}) can't be used "
            f"({error.strerror}): a worker of an earlier start may still end, else name another."
        ) from None
    missing = cluster.others
    if missing:
        say(f"worker {cluster.index} waits for worker {_names(missing)}")
    end = time.monotonic() + wait_s
    with listener:
        while True:
            missing = {i: worker for i, worker in missing.items() if not _answers(worker)}
            if not missing:
                return
            if time.monotonic() > end:
                raise InputError(
                    f"worker {_names(missing)} did not come within {wait_s:g} s: start every "
                    f"worker with the same command and its own index in {VARIABLE}, or raise "
                    "--worker_wait_s."
                )
            time.sleep(0.1)


def _names(workers: dict[int, str]) -> str:
    return ", ".join(f"{index} ({worker})" for index, worker in workers.items())


def _answers(worker: str) -> bool:
    try:
        with socket.create_connection(host_and_port(worker), timeout=1) as connection:
            # Without a listener a socket may be given the very port that it is to connect to.
            return connection.getsockname() != connection.getpeername()
    except OSError:
        return False
