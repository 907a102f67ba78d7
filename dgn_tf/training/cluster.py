"""The worker processes that train together: who they are (TF_CONFIG), and waiting for them."""

import dataclasses
import socket
import time
from collections.abc import Callable

from dgn_tf.errors import InputError
from dgn_tf.json_file import parse_json

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
