"""When a client tries again: the server can't be reached just now, and there is time left."""

import random
import time
from collections.abc import Callable
from typing import Any

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
