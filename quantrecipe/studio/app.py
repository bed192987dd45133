"""The studio's routes, and what keeps strangers out.

Whatever else runs in the browser may send requests to this port. So each has to name the host that the page was opened
under (else a name of a stranger's may lead here), an Origin, where there is one, has to be the page's own, and requests
for data carry the token of the URL that was printed. Nothing is written, and no page elsewhere may read an answer.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from msgspec import Meta
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from quantrecipe.errors import QuantrecipeError
from quantrecipe.pictures.shades import shade_rules
from quantrecipe.plain_data import plain
from quantrecipe.studio.completion import Completion
from quantrecipe.studio.editing import What
from quantrecipe.studio.moves import Goal
from quantrecipe.studio.newest import SupersededError
from quantrecipe.studio.session import GoneError, Session, UnknownModelError
from quantrecipe.typed import Record, json_object, typed

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["MAX_BODY", "TOKEN_HEADER", "studio_app"]

TOKEN_HEADER = "X-Quantrecipe-Token"
MAX_BODY = 4 << 20
"""Bytes: a recipe has at most 1 MiB, and JSON may spell out each character."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_STATIC = Path(str(files("quantrecipe.studio"))) / "static"
_NO_TOKEN = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>quantrecipe studio</title>
<link rel="stylesheet" href="/static/studio.css"><script src="/static/again.js" defer></script></head>
<body class="alone"><h1>quantrecipe studio</h1>
<p>This page opens with the address that <code>quantrecipe studio</code> prints, which has a token at its end.</p>
</body></html>
"""

R = TypeVar("R", bound=Record)
T = TypeVar("T")
_Text = Annotated[str, Meta(max_length=MAX_BODY)]
_Name = Annotated[str, Meta(max_length=1000)]
_Ident = Annotated[str, Meta(max_length=40)]
_Place = Annotated[int, Meta(ge=1, le=1 << 30)]


class _Open(Record):
    model: _Name


class _Move(Record):
    model: _Ident
    goal: Goal
    base: _Name | None = None


class _Edit(Record):
    model: _Ident
    text: _Text
    goal: Goal | None = None
    base: _Name | None = None


class _Complete(Record):
    text: _Text
    line: _Place
    column: _Place
    model: _Ident | None = None


class _Download(Record):
    model: _Ident
    text: _Text
    what: What


def studio_app(session: Session, *, token: str, port: int) -> ASGIApp:
    """The studio as an application: for a server on this port of 127.0.0.1."""
    routes = [
        Route("/", _index(token)),
        Route("/static/shades.css", _shades),
        Mount("/static", StaticFiles(directory=_STATIC, check_dir=False)),
        Route("/api/start", _start(session)),
        _post("/api/model", _Open, lambda asked: session.open(asked.model)),
        _post("/api/move", _Move, lambda it: session.move(it.model, it.goal, _base(session, it.base))),
        _post("/api/freeze", _Move, lambda it: session.freeze(it.model, it.goal, _base(session, it.base))),
        _post(
            "/api/recipe",
            _Edit,
            lambda it: session.edit(it.model, it.text, it.goal, _base(session, it.base)),
        ),
        _post(
            "/api/complete",
            _Complete,
            lambda it: session.complete(it.model, it.text, it.line, it.column),
            _completion,
        ),
        _post("/api/download", _Download, lambda it: session.download(it.model, it.text, it.what)),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _http_error, Exception: _bug})
    return _Guard(app, token, port)


def _index(token: str) -> Callable[[Request], Awaitable[Response]]:
    async def index(request: Request) -> Response:
        if not _same(request.query_params.get("token", ""), token):
            return HTMLResponse(_NO_TOKEN, status_code=403)
        return HTMLResponse((_STATIC / "index.html").read_text(encoding="utf-8"))

    return index


async def _shades(request: Request) -> Response:
    """The colours of bits, losses and changes, as reports have them."""
    return Response(shade_rules(), media_type="text/css")


def _start(session: Session) -> Callable[[Request], Awaitable[Response]]:
    async def start(request: Request) -> Response:
        return JSONResponse(session.start())

    return start


def _post(
    path: str,
    kind: type[R],
    answer: Callable[[R], Future[T]],
    written: Callable[[T], Any] = lambda document: document,
) -> Route:
    """A route that reads a JSON object of a kind, and answers with another one: `written` makes it of the answer."""

    async def endpoint(request: Request) -> Response:
        asked = await _read(request, kind)
        try:
            found = await asyncio.wrap_future(answer(asked))
        except UnknownModelError:
            return _error(404, "no model is open under this name", "open it again")
        except SupersededError:
            return _error(409, "a newer request took its place")
        except GoneError as gone:
            return _error(
                410,
                f"{gone} isn't there any more, so the model can't be planned",
                "put it back, or open another",
            )
        except QuantrecipeError as error:
            return _refused(error)
        return JSONResponse(plain(written(found)))

    return Route(path, endpoint, methods=["POST"])


async def _read(request: Request, kind: type[R]) -> R:
    """What was asked. HTTPException for what is too large, or isn't that."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the request isn't application/json")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"the request has more than {MAX_BODY >> 20} MiB")
    try:
        return typed(json_object(bytes(body)), kind)
    except ValueError as error:
        raise HTTPException(422, f"the request can't be understood: {error}") from None


def _base(session: Session, base: str | None) -> str | None:
    """What to compare with. HTTPException for what isn't proposed: a page opens no recipes of the disk by a path."""
    if base is not None and base not in session.bases():
        raise HTTPException(422, f"{base[:80]!r} is nothing to compare with")
    return base


def _completion(found: Completion) -> dict[str, Any]:
    items = [{"label": it.label, "insert": it.insert, "detail": it.detail} for it in found.items]
    return {"line": found.line, "from": found.start, "to": found.end, "items": items}


def _refused(error: QuantrecipeError) -> Response:
    """What the program has to say, in its own words."""
    message = "; ".join(
        f"{problem.file}: {problem.what}" if problem.file and str(problem.file) != "studio" else problem.what
        for problem in error.problems[:3]
    )
    first = error.problems[0]
    return _error(400, message, "\n".join(filter(None, (first.remedy, *first.choices))))


def _error(status: int, message: str, remedy: str = "") -> Response:
    return JSONResponse({"error": {"message": message, "remedy": remedy or None}}, status_code=status)


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = {404: "there is no such page", 405: "this isn't asked for in that way"}
    detail = error.detail if isinstance(error, HTTPException) else ""
    return _error(status, said.get(status, detail))


async def _bug(request: Request, error: Exception) -> Response:
    """The terminal has the traceback."""
    return _error(500, "something went wrong in the studio", "the terminal in which it runs says what")


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())


@dataclass(frozen=True, slots=True)
class _Guard:
    """Refuses what doesn't come from the page, and adds headers to every answer."""

    app: ASGIApp
    token: str
    port: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # the studio has no other protocol

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *((k, v) for k, v in message["headers"] if k.lower() not in _OURS),
                    *_RAW,
                ]
            await send(message)

        refusal = self._refusal(scope)
        answer = self.app if refusal is None else refusal
        await answer(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        hosts = [f"{name}:{self.port}" for name in ("127.0.0.1", "localhost")]
        host = headers.get("host", [])
        if len(host) != 1 or host[0].lower() not in hosts:
            return _error(403, "this isn't the address of the studio", f"open http://127.0.0.1:{self.port}")
        if any(origin.lower() != f"http://{host[0].lower()}" for origin in headers.get("origin", [])):
            return _error(403, "the request comes from another page")
        if not scope["path"].startswith("/api/"):
            return None
        tokens = headers.get(TOKEN_HEADER.lower(), [])
        if len(tokens) != 1 or not _same(tokens[0], self.token):
            return _error(
                403,
                "the token is missing, or another studio's",
                "open the address that the studio has printed",
            )
        return None


_RAW = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
_OURS = {name for name, _ in _RAW}
