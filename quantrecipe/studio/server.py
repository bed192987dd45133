"""The server: a port of this machine alone, the browser that opens the page, and the end."""

from __future__ import annotations

import errno
import logging
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable

import uvicorn

from quantrecipe.errors import OutputError
from quantrecipe.studio.app import studio_app
from quantrecipe.studio.session import Session

__all__ = ["HOST", "listen", "open_browser", "serve"]

HOST = "127.0.0.1"
_WAITING = 64  # connections that wait to be accepted


def listen(port: int | None) -> socket.socket:
    """A socket that listens on this machine alone; None: on a port that the system chooses. OutputError if it can't."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if hasattr(
        socket, "SO_EXCLUSIVEADDRUSE"
    ):  # Windows, where a second program may listen on a port otherwise
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port or 0))
        listening.listen(_WAITING)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            what = f"port {port} is in use by another program, which may be a studio"
            raise OutputError(what, "leave --port out, and the system chooses a free one") from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise OutputError(f"port {port} isn't allowed here", "name one from 1024 on") from None
        raise OutputError(f"port {port} can't be listened on: {error.strerror}", "name another one") from None
    return listening


def serve(session: Session, listening: socket.socket, ready: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C. ready: is told the address, with its token, when it can be opened"""
    port = listening.getsockname()[1]
    token = secrets.token_urlsafe(32)
    app = studio_app(session, token=token, port=port)
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        ws="none",
        lifespan="off",
        server_header=False,
        proxy_headers=False,
    )
    server = _Server(config)
    ready(f"http://{HOST}:{port}/?token={token}")
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()


class _Server(uvicorn.Server):
    """A server that ends at once: nobody loses anything when a plan isn't answered."""

    def handle_exit(self, sig: int, frame: object) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # that requests are cut off is no error
        self.should_exit = self.force_exit = True


def open_browser(address: str) -> threading.Thread | None:
    """Open a page in the user's browser, by a thread; None where there is none but one within the terminal."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return None
    if type(browser) is webbrowser.GenericBrowser:
        return None
    opening = threading.Thread(target=browser.open, args=(address,), daemon=True)
    opening.start()
    return opening
