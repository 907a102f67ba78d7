"""The devices that a run trains on: this process's one, all of its GPUs, or those of workers.

Every worker runs the same program with the same flags; worker 0, the chief, alone validates and
writes. A run's arithmetic does not depend on the devices but for rounding.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable

import tensorflow as tf
from absl import logging

from dgn_tf.errors import InputError
from dgn_tf.records.batches import Share
from dgn_tf.training import cluster

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
    own = cluster.read_cluster(os.environ.get(cluster.VARIABLE))
    check_frames(frames, len(own.workers))
    cluster.wait_for_workers(own, wait_s, logging.info)
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
