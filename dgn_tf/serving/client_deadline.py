"""HTTP answers that end in time: `requests` bounds the wait for each part of one alone.

A server that sends a byte now and then, be it of the headers, would keep a client for ever. Here a
timer closes the connection at the deadline, which ends whatever waits for it.
"""

import contextlib
import functools
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import requests
from requests.adapters import HTTPAdapter

_thread = threading.local()


class Deadline:
    """Of one request.

    Attributes:
        passed: whether it has ended the request.
    """

    def __init__(self) -> None:
        self.passed = False
        self._connections: list[Any] = []
        self._lock = threading.Lock()

    def watch(self, used) -> None:
        """Notes a connection that the request uses; TimeoutError where it is too late for it."""
        with self._lock:
            if self.passed:
                raise TimeoutError("the deadline has passed")
            self._connections.append(used)

    def end(self) -> None:
        """Closes the request's connections, from another thread."""
        with self._lock:
            self.passed = True
            for used in self._connections:
                with contextlib.suppress(OSError):  # it is closed already
                    if used.sock is not None:
                        used.sock.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[Deadline]:
    """Bounds the requests that this thread makes with a `session` inside the block."""
    limit = Deadline()
    timer = threading.Timer(seconds, limit.end)
    timer.daemon = True
    _thread.limit = limit
    timer.start()
    try:
        yield limit
    finally:
        timer.cancel()
        _thread.limit = None


def session() -> requests.Session:
    """A session whose requests `deadline` can end."""
    made = requests.Session()
    made.mount("http://", _Adapter())
    made.mount("https://", _Adapter())
    return made


class _Watched:
    """A connection that tells the deadline of its thread when it is opened and when it is used."""

    def connect(self):
        self._tell()
        return super().connect()  # type: ignore[misc]

    def putrequest(self, *args, **kwargs):
        self._tell()
        return super().putrequest(*args, **kwargs)  # type: ignore[misc]

    def _tell(self):
        limit = getattr(_thread, "limit", None)
        if limit is not None:
            limit.watch(self)


@functools.cache
def _watched(pool):
    """The kind of pool, with connections that are watched."""
    kept = type("_Connection", (_Watched, pool.ConnectionCls), {})
    return type("_Pool", (pool,), {"ConnectionCls": kept})


def _watch(manager) -> None:
    pools = manager.pool_classes_by_scheme.items()
    manager.pool_classes_by_scheme = {scheme: _watched(pool) for scheme, pool in pools}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args, **kwargs):
        super().init_poolmanager(*args, **kwargs)
        _watch(self.poolmanager)

    def proxy_manager_for(self, proxy, **kwargs):
        """The proxy's connections: those of the environment's `http_proxy` and `https_proxy`."""
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not known:
            _watch(manager)
        return manager


# When a client tries again: the server can't be reached just now, and there is time left.


FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


class Unavailable(Exception):
    """No server answers, or it is not ready: the same request may succeed later."""


class RequestError(Exception):
    """No answer that can be used: refused, too late, or still unavailable."""


class Refused(RequestError):
    """The server refused the request: it would refuse the same again."""


def with_retries(attempt: Callable[[float], Any], retries: int, timeout_s: float) -> Any:
    """Calls `attempt` until it succeeds, while it raises `Unavailable`.

    Pauses double, up to `LONGEST_PAUSE_S`, and are shortened at random by up to half, so that
    clients which lost a server together don't come back together.

    Args:
        attempt: takes the seconds that are left.
        retries: how often at most it is called again.
        timeout_s: for all calls and pauses together.

    Returns:
        What `attempt` returns.

    Raises:
        RequestError: by `attempt`, or after the last `Unavailable`.
    """
    start = time.monotonic()
    number = 0
    while True:
        try:
            return attempt(max(start + timeout_s - time.monotonic(), 1e-3))
        except Unavailable as error:
            pause = min(FIRST_PAUSE_S * 2**number, LONGEST_PAUSE_S) * random.uniform(0.5, 1)
            number += 1
            if number > retries:
                raise RequestError(f"{error} (tried {number} times; --retries)") from None
            if time.monotonic() + pause > start + timeout_s:
                raise RequestError(
                    f"{error} (tried {number} times in {timeout_s:g} s; --timeout_s)"
                ) from None
            time.sleep(pause)


def too_late(timeout_s: float) -> RequestError:
    """The error of an answer that did not come in time."""
    return RequestError(
        f"no answer within the deadline of {timeout_s:g} s; the server is busy or "
        "far away, allow more with --timeout_s"
    )
