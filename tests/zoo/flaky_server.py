"""An http server for a folder that does, request by request, what a test tells it to."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

Answer = Callable[["Handler", bytes], None]


class Seen(NamedTuple):
    """One request: its path and its Range header."""

    path: str
    range: str | None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FlakyServer

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        self.close_connection = True
        file = self.server.folder / path
        body = file.read_bytes() if file.is_file() else None
        queued = self.server.answers[path]
        self.server.seen.append(Seen(path, self.headers.get("Range")))  # before the client has its answer
        if queued:
            queued.pop(0)(self, body or b"")
        elif body is None:
            status(404)(self, b"")
        else:
            whole(self, body)

    def send(self, body: bytes) -> None:
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class FlakyServer(ThreadingHTTPServer):
    """Serves `folder`; `answers[path]` are done first, one a request. `seen` is what was asked."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.answers: defaultdict[str, list[Answer]] = defaultdict(list)
        self.seen: list[Seen] = []
        self.released = threading.Event()  # when the test is over

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def requests(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == path]

    def __enter__(self) -> FlakyServer:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that hang up are part of the tests


def whole(handler: Handler, body: bytes) -> None:
    """200, or 206 from the byte asked for: what a good server does."""
    start = _start(handler)
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    handler.send_header("Content-Length", str(len(body) - start))
    handler.end_headers()
    handler.send(body[start:])


def cut(after: int) -> Answer:
    """Promise everything that is asked for, send `after` bytes, hang up."""

    def answer(handler: Handler, body: bytes) -> None:
        start = _start(handler)
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        handler.send(body[start : start + after])

    return answer


def no_ranges(handler: Handler, body: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.send(body)


def other_range(handler: Handler, body: bytes) -> None:
    """Another range than the one asked for."""
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes 1-{len(body) - 1}/{len(body)}")
    handler.send_header("Content-Length", str(len(body) - 1))
    handler.end_headers()
    handler.send(body[1:])


def wrong_bytes(handler: Handler, body: bytes) -> None:
    whole(handler, bytes(byte ^ 1 for byte in body))


def too_many(*, declared: bool) -> Answer:
    """Ten bytes more than the file has, with or without a Content-Length."""

    def answer(handler: Handler, body: bytes) -> None:
        handler.send_response(200)
        if declared:
            handler.send_header("Content-Length", str(len(body) + 10))
        handler.end_headers()
        handler.send(body + bytes(10))

    return answer


def endless(handler: Handler, body: bytes) -> None:
    """No length, and no end until the other side hangs up."""
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.released.is_set():
        handler.send(body)


def silent(handler: Handler, body: bytes) -> None:
    """Takes the request and says nothing."""
    handler.server.released.wait()


def slow(handler: Handler, body: bytes) -> None:
    """Sends half, then nothing more."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.send(body[: len(body) // 2])
    handler.server.released.wait()


def status(code: int, **headers: str) -> Answer:
    def answer(handler: Handler, body: bytes) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def _start(handler: Handler) -> int:
    return int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
