"""A REST server that answers as a test says, byte by byte."""

import contextlib
import http.server
import json
import threading


class HostileServer:
    """Answers each signature with what `answers` holds: bytes, or a function of the handler.

    Attributes:
        url: of the server.
        answers: signature's name to answer.
        tunnel: what it does where it is taken for a proxy and asked for a tunnel.
    """

    def __init__(self):
        self.answers = {}
        self.tunnel = None
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                length = int(self.headers.get("Content-Length", 0))
                signature = json.loads(self.rfile.read(length))["signature_name"]
                answer = outer.answers.get(signature, b"")
                with contextlib.suppress(OSError):  # the client has gone
                    answer(self) if callable(answer) else send(self, answer)

            def do_CONNECT(self):
                with contextlib.suppress(OSError):
                    outer.tunnel(self)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # clients leave in the middle of an answer
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def send(handler, body: bytes, code: int = 200, **headers):
    """Answers with a body."""
    handler.send_response(code)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)
