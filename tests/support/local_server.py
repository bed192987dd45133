"""A server of this machine, in the place of one elsewhere: what it was asked, parts of files, and what can go wrong.

    class Greeter(LocalServer):
        def __init__(self) -> None:
            super().__init__(_Handler)

    class _Handler(Handler):
        served: Greeter

        def do_GET(self) -> None:
            self.answer(200, b"good morning")

A handler is made for each connection, and may answer several requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["Asked", "Handler", "LocalServer"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request. host: the name by which the server was called; token: of Authorization; first, last: of the range,
    None where all was asked for
    """

    method: str
    path: str
    query: Mapping[str, str]
    host: str
    token: str
    first: int | None = None
    last: int | None = None


class LocalServer:
    """asked:   all that it was asked, in this order
    trouble: asked before an answer; None is no trouble, and what else it may return is said by each server
    port:    on which it listens
    """

    def __init__(self, handler: Callable[..., BaseHTTPRequestHandler]) -> None:
        self.asked: list[Asked] = []
        self.trouble: Callable[[Asked], Any] = lambda asked: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, self))
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    """Of one connection. die: send half of each body, and end the connection"""

    die = False
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body would wait for the acknowledgement of its headers

    def __init__(self, served: Any, *connection: Any) -> None:
        self.served = served
        super().__init__(*connection)

    def log_message(self, *_: object) -> None: ...

    def asked(self) -> Asked:
        place, first, last = urlsplit(self.path), None, None
        if said := self.headers.get("Range"):
            first, last = (int(it) for it in said.removeprefix("bytes=").split("-"))
        query = parse_qs(place.query, keep_blank_values=True)
        return Asked(
            method=self.command,
            path=unquote(place.path),
            query={name: values[0] for name, values in query.items()},
            host=(self.headers.get("Host") or "").partition(":")[0],
            token=self.headers.get("Authorization") or "",
            first=first,
            last=last,
        )

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def answer_range(self, asked: Asked, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        part = data[asked.first : (asked.last or 0) + 1]
        said = f"bytes {asked.first}-{(asked.first or 0) + len(part) - 1}/{len(data)}"
        self.answer(206, part, {**(headers or {}), "Content-Range": said})

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            self.wfile.write(body[: len(body) // 2] if self.die else body)
        except OSError:
            return  # whoever asked has enough
        if self.die:
            self.close_connection = True
