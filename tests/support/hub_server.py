"""A hub on this machine: as much of the Hugging Face hub's protocol as is spoken with it, and what can go wrong there.

    with HubServer({"config.json": b"…", "model.safetensors": b"…"}) as hub: …

Large files are kept elsewhere, as on the hub: what is asked for is answered with a redirect to another host name.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

__all__ = ["COMMIT", "REPO", "Asked", "HubServer"]

REPO, COMMIT = "owner/tiny-code", "0123456789abcdef0123456789abcdef01234567"
_LARGE = (".safetensors", ".gguf")


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request. host: which of the two host names; first, last: of the range, None where all was asked for."""

    path: str
    host: str
    token: str
    first: int | None = None
    last: int | None = None


class HubServer:
    """files:   by path, of the one repository that there is
    changed: by path, what is sent instead of the content
    trouble: asked before a file is sent; returns a status to answer with, "die" to send half of it, or None
    ranges:  False: everything is sent as a whole
    revisions: that there are
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.changed: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}
        self.trouble: Callable[[Asked], int | str | None] = lambda asked: None
        self.refusal: tuple[int, str] | None = None
        self.ranges = True
        self.asked: list[Asked] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
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

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def elsewhere(self) -> str:
        """Where large files are."""
        return f"http://localhost:{self._server.server_port}/cdn"

    def ranges_of(self, path: str) -> list[tuple[int | None, int | None]]:
        """The ranges of a file that were sent."""
        return [(it.first, it.last) for it in self.asked if it.path == f"/cdn/{path}"]

    def listing(self) -> dict[str, Any]:
        """As /api/models has it."""
        siblings = []
        for path, data in self.files.items():
            said: dict[str, Any] = {
                "rfilename": path,
                "size": self.sizes.get(path, len(data)),
                "blobId": hashlib.sha1(data).hexdigest(),
            }
            if path.endswith(_LARGE):
                said["lfs"] = {
                    "size": said["size"],
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "pointerSize": 134,
                }
            siblings.append(said)
        return {"id": REPO, "modelId": REPO, "sha": COMMIT, "siblings": siblings}


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            asked = self._asked()
            hub.asked.append(asked)
            if asked.path.startswith("/api/models/"):
                self._api(asked.path.removeprefix("/api/models/"))
            elif asked.path.startswith(f"/{REPO}/resolve/{COMMIT}/"):
                path = asked.path.removeprefix(f"/{REPO}/resolve/{COMMIT}/")
                if path.endswith(_LARGE):
                    self._answer(302, b"", {"Location": f"{hub.elsewhere}/{path}", "X-Repo-Commit": COMMIT})
                else:
                    self._file(asked, path)
            elif asked.path.startswith("/cdn/"):
                self._file(asked, asked.path.removeprefix("/cdn/"))
            else:
                self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})

        def _asked(self) -> Asked:
            first = last = None
            if said := self.headers.get("Range"):
                first, last = (int(it) for it in said.removeprefix("bytes=").split("-"))
            return Asked(
                path=unquote(urlsplit(self.path).path),
                host=(self.headers.get("Host") or "").partition(":")[0],
                token=self.headers.get("Authorization") or "",
                first=first,
                last=last,
            )

        def _api(self, ref: str) -> None:
            repo, _, revision = ref.partition("/revision/")
            if hub.refusal is not None:
                self._answer(hub.refusal[0], b"", {"X-Error-Code": hub.refusal[1]})
            elif repo != REPO:
                self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            elif revision not in ("", "main", COMMIT):
                self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            else:
                self._answer(200, json.dumps(hub.listing()).encode())

        def _file(self, asked: Asked, path: str) -> None:
            trouble = hub.trouble(asked)
            if isinstance(trouble, int):
                self._answer(trouble, b"", {"Retry-After": "0"})
                return
            data = hub.changed.get(path, hub.files[path])
            if asked.first is None or not hub.ranges:
                self._answer(200, data)
                return
            part = data[asked.first : (asked.last or 0) + 1]
            said = f"bytes {asked.first}-{asked.first + len(part) - 1}/{len(data)}"
            self._answer(206, part, {"Content-Range": said}, die=trouble == "die")

        def _answer(
            self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, die: bool = False
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body[: len(body) // 2] if die else body)
            except OSError:
                return  # whoever asked has enough
            if die:
                self.close_connection = True

    return Handler
