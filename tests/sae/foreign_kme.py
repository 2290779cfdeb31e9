"""A key manager with habits: a real TLS server that answers whatever a test wants."""

import base64
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

STATUS = {
    "source_KME_ID": "kme-x",
    "key_size": 256,
    "stored_key_count": 100,
    "max_key_count": 100,
    "max_key_per_request": 4,
    "max_key_size": 1024,
    "min_key_size": 64,
    "max_SAE_ID_count": 0,
}


@dataclass(frozen=True)
class Request:
    """What a client asked.

    Attributes:
        method: GET or POST.
        path: As it stands in the request.
        body: JSON, or None.
    """

    method: str
    path: str
    body: Any

    @property
    def call(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Answer:
    """What the server says; without a code it hangs up."""

    code: int | None = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


Habit = Callable[[Request], Answer]


def saying(content: object, code: int = 200) -> Answer:
    return Answer(code, json.dumps(content).encode(), {"Content-Type": "application/json"})


def key(secret: bytes, key_id: object = None) -> dict[str, str]:
    return {"key_ID": str(key_id or uuid4()), "key": base64.b64encode(secret).decode()}


def keys(*entries: dict[str, str]) -> Answer:
    return saying({"keys": list(entries)})


@dataclass
class Foreign:
    """A running server."""

    url: str
    requests: list[Request] = field(default_factory=list)

    def asked(self, call: str) -> list[Request]:
        return [request for request in self.requests if request.call == call]


@contextmanager
def foreign_kme(pki: Path, name: str, habit: Habit) -> Iterator[Foreign]:
    """Serve with a certificate from a folder, asking clients for theirs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / f"{name}.crt", pki / f"{name}.key")
    context.load_verify_locations(pki / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    # A client that does not like the server's certificate ends the handshake; nothing to print.
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    foreign = Foreign(f"https://127.0.0.1:{server.server_port}")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def log_message(self, *_: object) -> None:
            """Print nothing."""

        def _answer(self, body: object) -> None:
            request = Request(self.command, self.path, body)
            foreign.requests.append(request)
            answer = habit(request)
            if answer.code is None:
                self.close_connection = True
                return
            self.send_response(answer.code)
            for header, value in answer.headers.items():
                self.send_header(header, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

    server.RequestHandlerClass = Handler
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield foreign
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
