"""TF_CONFIG, and waiting for the workers it names."""

import json
import re
import socket
import threading

import pytest

from dgn_tf.errors import InputError
from dgn_tf.training.devices import EXAMPLE, Cluster, read_cluster, wait_for_workers


def free_ports(count):
    """Ports that nobody listens on, all different."""
    listeners = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def config(jobs, kind="worker", index=0):
    return json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})


def test_the_chief_comes_first():
    jobs = {"worker": ["b:2", "c:3"], "chief": ["a:1"]}
    assert read_cluster(config(jobs, "chief")) == Cluster(("a:1", "b:2", "c:3"), 0)
    assert read_cluster(config(jobs, "worker", 1)) == Cluster(("a:1", "b:2", "c:3"), 2)
    assert read_cluster(EXAMPLE).address == ("localhost", 12001)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "--strategy=multiworker wants the environment variable TF_CONFIG"),
        ("{", "TF_CONFIG={: Expecting property name"),
        ("[]", "wanted is such as {"),
        ('{"cluster": {"worker": ["a:1"]}}', "no 'task'; wanted is such as"),
        (config({"worker": ["a:1"]}, index=1), "there is no worker 1 among 1; indices go from 0"),
        (config({"worker": ["a:1"], "ps": ["b:2"]}), "names 'ps': workers and one chief alone"),
        (config({"worker": ["a:1"]}, "evaluator"), "names 'evaluator'"),
        (config({"worker": ["a:1", "b"]}), "'b' is no host:port"),
        (config({"worker": ["a:1", "a:1"]}), "two workers have the same address"),
    ],
)
def test_a_broken_cluster_gets_one_line(text, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_cluster(text)
    assert "\n" not in str(caught.value)


def test_a_worker_waits_until_all_others_answer():
    own, *others = free_ports(3)
    cluster = Cluster((f"localhost:{own}", *(f"localhost:{port}" for port in others)), 0)
    said = []
    thread = threading.Thread(target=wait_for_workers, args=(cluster, 60, said.append))
    thread.start()
    with socket.create_server(("localhost", others[0])):
        thread.join(0.5)
        assert thread.is_alive()  # the other one has not come
    # The first has been seen; that it is on its way to another server now does not matter.
    with socket.create_server(("localhost", others[1])):
        thread.join(60)
    assert not thread.is_alive()
    names = ", ".join(f"{i} (localhost:{port})" for i, port in enumerate(others, 1))
    assert said == [f"worker 0 waits for worker {names}"]


def test_a_worker_that_does_not_come_is_named():
    own, other = free_ports(2)
    cluster = Cluster((f"localhost:{own}", f"localhost:{other}"), 0)
    message = f"worker 1 (localhost:{other}) did not come within 0.3 s"
    with pytest.raises(InputError, match=re.escape(message)):
        wait_for_workers(cluster, 0.3, lambda text: None)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of this worker 0"):
            wait_for_workers(Cluster((f"localhost:{port}",), 0), 1, lambda text: None)
