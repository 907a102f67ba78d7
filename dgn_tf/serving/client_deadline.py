"""HTTP answers that end in time: `requests` bounds the wait for each part of one alone.

A server that sends a byte now and then, be it of the headers, would keep a client for ever. Here a
timer closes the connection at the deadline, which ends whatever waits for it.
"""

import contextlib
import functools
import socket
import threading
from collections.abc import Iterator
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
