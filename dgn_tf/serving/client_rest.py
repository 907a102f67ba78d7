"""TensorFlow Serving's REST API, numpy arrays in and out; needs no TensorFlow."""

import time
from urllib.parse import quote

import numpy as np

from dgn_tf.errors import InputError, reason
from dgn_tf.hand_description import OUTPUT_NAMES
from dgn_tf.json_file import parse_json
from dgn_tf.serving.client_deadline import (
    Refused,
    RequestError,
    Unavailable,
    too_late,
    with_retries,
)

MAX_REPLY_BYTES = 64 * 2**20
# JSON's kinds of what a signature gives that is not a number.
_KINDS = {"valid": "b", "found": "b", "faces": "i", "description": "U"}
_WORDS = {"b": "truth value", "i": "whole number", "U": "text", "fiu": "number"}
_WANTED = OUTPUT_NAMES | {"faces", "description"}
_TYPES = {"b": bool, "i": np.int64, "U": object, "fiu": np.float32}


class RestTransport:
    """One model behind a URL.

    Args:
        url: such as http://localhost:8501.
        model_name: the server's name of the model.
        version: of the model; None: the label's, or the newest.
        label: of a version, such as "stable"; None: none.
        timeout_s: of a call, its retries included.
        retries: after HTTP 503 and refused connections.
    """

    prefers_png = True  # JSON spells every pixel of a float frame out

    def __init__(
        self,
        url: str,
        model_name: str,
        version=None,
        label=None,
        timeout_s: float = 10,
        retries: int = 5,
    ):
        try:
            import requests
        except ImportError as error:
            raise InputError(
                f"REST wants the extra serving ({error}): python -m pip install 'dgn_tf[serving]'."
            ) from None
        if not url.startswith(("http://", "https://")):
            raise InputError(f"--rest={url} is no URL; write http://host:port.")
        from dgn_tf.serving import client_deadline

        self._deadline = client_deadline.deadline
        self._requests, self._session = requests, client_deadline.session()
        # Nothing is sent packed: a few bytes could become any number of them.
        self._session.headers["Accept-Encoding"] = "identity"
        chosen = (
            f"/versions/{version}"
            if version is not None
            else (f"/labels/{quote(label, safe='')}" if label else "")
        )
        self._url = f"{url.rstrip('/')}/v1/models/{quote(model_name, safe='')}{chosen}:predict"
        self._timeout_s, self._retries = timeout_s, retries

    def predict(self, signature: str, inputs: dict, version: int | None = None):
        """As `GrpcTransport.predict`; the version is None, since the REST API does not tell it."""
        body = {
            "signature_name": signature,
            "inputs": {name: _jsonable(value) for name, value in inputs.items()},
        }
        reply = with_retries(
            lambda remaining: self._attempt(body, remaining), self._retries, self._timeout_s
        )
        outputs = reply.get("outputs") if isinstance(reply, dict) else None
        if not isinstance(outputs, dict):
            raise RequestError(f"{self._url} did not answer as TensorFlow Serving does")
        wanted = {name: value for name, value in outputs.items() if name in _WANTED}
        try:
            return {name: _array(name, value) for name, value in wanted.items()}, None
        except (TypeError, ValueError, OverflowError) as error:
            raise RequestError(
                f"{self._url} answered with outputs of another kind ({reason(error)})"
            ) from None

    def close(self):
        """Closes the connections."""
        self._session.close()

    def _attempt(self, body, remaining):
        errors = self._requests.exceptions
        with self._deadline(remaining) as limit:
            try:
                return self._post(body, remaining)
            except (errors.RequestException, RequestError):
                if limit.passed:
                    raise too_late(self._timeout_s) from None
                raise

    def _post(self, body, remaining):
        errors = self._requests.exceptions
        end = time.monotonic() + remaining
        try:
            # No server of models sends anybody elsewhere.
            with self._session.post(
                self._url, json=body, timeout=remaining, stream=True, allow_redirects=False
            ) as reply:
                return self._read(reply, end)
        except errors.Timeout:
            raise too_late(self._timeout_s) from None
        except errors.ConnectionError as error:
            if _refused(error):
                raise Unavailable(
                    f"no server answers at {self._url} (connection refused)"
                ) from None
            raise RequestError(f"{self._url}: {_last(error)}") from None
        except errors.RequestException as error:
            raise RequestError(f"{self._url}: {_last(error)}") from None

    def _read(self, reply, end):
        content = bytearray()
        for part in reply.iter_content(2**16):  # `timeout` bounds the wait for one part alone
            content += part
            if time.monotonic() > end:
                raise too_late(self._timeout_s)
            if len(content) > MAX_REPLY_BYTES:
                raise RequestError(f"{self._url} answered with more than {MAX_REPLY_BYTES} bytes")
        if reply.status_code == 503:
            raise Unavailable(f"the server at {self._url} is not ready (HTTP 503)")
        if not reply.ok:
            details = " ".join(_message(content).split())[:300]
            raise Refused(f"the server refused it: HTTP {reply.status_code}: {details}")
        return _parsed(content, self._url)


def _array(name, value) -> np.ndarray:
    """The array of a JSON value; ValueError where it holds something else than is wanted."""
    kinds = _KINDS.get(name, "fiu")
    array = np.asarray(value)
    if array.dtype.kind not in kinds and array.size:
        raise ValueError(f"{name} is no {_WORDS[kinds]}")
    with np.errstate(over="ignore"):  # becomes infinite, which is found later
        return array.astype(_TYPES[kinds])


def _jsonable(value):
    if isinstance(value, list):
        import base64

        return [{"b64": base64.b64encode(content).decode()} for content in value]
    return value.tolist()


def _parsed(content, url):
    try:
        return parse_json(content)
    except ValueError:
        raise RequestError(
            f"{url} did not answer in JSON: is it TensorFlow Serving's REST port?"
        ) from None


def _message(content):
    """The server's words out of {"error": ...}, or what it sent."""
    try:
        return str(parse_json(content)["error"])
    except (ValueError, KeyError, TypeError):
        return bytes(content[:300]).decode(errors="replace")


def _refused(error):
    """Whether a refused connection is at the bottom of an error."""
    seen = error
    while seen is not None:
        if isinstance(seen, ConnectionRefusedError):
            return True
        inner = next((arg for arg in getattr(seen, "args", ()) if isinstance(arg, Exception)), None)
        seen = getattr(seen, "reason", None) or inner or seen.__cause__
        if not isinstance(seen, BaseException):
            return False
    return False


def _last(error):
    return " ".join(str(error).split())[:300] or type(error).__name__
