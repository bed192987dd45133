"""The server: on this machine alone, a port that is in use, the browser, and Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
import webbrowser
from pathlib import Path
from time import monotonic
from urllib.error import HTTPError

import pytest

from quantrecipe.cli import main
from quantrecipe.errors import OutputError
from quantrecipe.studio.server import HOST, listen, open_browser

ROOT = Path(__file__).parents[2]
PATIENCE = 60
Output = pytest.CaptureFixture[str]


def test_it_listens_on_this_machine_alone() -> None:
    with listen(None) as listening:
        address, port = listening.getsockname()
        assert (address, port > 0) == ("127.0.0.1", True)
    with listen(port) as again:
        assert again.getsockname() == (HOST, port)


def test_a_port_that_is_in_use(capsys: Output) -> None:
    with listen(None) as listening:
        port = listening.getsockname()[1]
        assert main(["studio", "--no-browser", "--port", str(port)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said == (
        f"error: port {port} is in use by another program, which may be a studio; leave --port out, and the system "
        "chooses a free one"
    )


def test_a_port_that_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    class Refusing(socket.socket):
        bind = refuse  # type: ignore[assignment]

    monkeypatch.setattr("quantrecipe.studio.server.socket.socket", Refusing)
    with pytest.raises(OutputError, match=r"port 80 isn't allowed here; name one from 1024 on"):
        listen(80)


class TestBrowser:
    def test_one_with_windows_is_opened(self, monkeypatch: pytest.MonkeyPatch) -> None:
        opened: list[str] = []

        class Browser(webbrowser.BackgroundBrowser):
            def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
                opened.append(url)
                return True

        monkeypatch.setattr(webbrowser, "get", lambda: Browser("x"))
        open_browser("http://127.0.0.1:1/").join(PATIENCE)
        assert opened == ["http://127.0.0.1:1/"]

    def test_one_in_the_terminal_is_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It would take the terminal in which Ctrl-C is typed."""
        monkeypatch.setattr(webbrowser, "get", lambda: webbrowser.GenericBrowser("lynx"))
        assert open_browser("http://127.0.0.1:1/") is None

    def test_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail() -> None:
            raise webbrowser.Error("none")

        monkeypatch.setattr(webbrowser, "get", fail)
        assert open_browser("http://127.0.0.1:1/") is None


@pytest.mark.skipif(os.name == "nt", reason="processes of Windows have no SIGINT")
def test_from_the_command_to_ctrl_c(tmp_path: Path) -> None:
    """The address that is printed opens the page, with the token alone; Ctrl-C ends it while it works."""
    command = [
        sys.executable,
        "-m",
        "quantrecipe",
        "--no-plugins",
        "studio",
        "shapes/qwen3-0.6b",
        "--no-browser",
    ]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            match = re.fullmatch(r"the studio is open at (http://127\.0\.0\.1:\d+)/\?token=(\S{40,})\n", line)
            assert match is not None
            address, token = match.groups()
            with urllib.request.urlopen(f"{address}/?token={token}", timeout=PATIENCE) as response:
                assert response.headers["Content-Security-Policy"]
                assert b"<html" in response.read()
            with pytest.raises(HTTPError, match="403"):
                urllib.request.urlopen(f"{address}/?token={token[:-1]}", timeout=PATIENCE)
            asked = urllib.request.Request(f"{address}/api/start", headers={"X-Quantrecipe-Token": token})
            with urllib.request.urlopen(asked, timeout=PATIENCE) as response:
                assert json.load(response)["model"] == "shapes/qwen3-0.6b"
            # It works on something, and a connection is open.
            port = int(address.rpartition(":")[2])
            with socket.create_connection((HOST, port), timeout=PATIENCE) as connection:
                body = b'{"model": "shapes/deepseek-v3.1"}'
                connection.sendall(
                    b"POST /api/model HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Quantrecipe-Token: %s\r\n"
                    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                    % (port, token.encode(), len(body), body)
                )
                process.send_signal(signal.SIGINT)
                began = monotonic()
                assert process.wait(PATIENCE) == 0
                assert monotonic() - began < PATIENCE / 2
        finally:
            process.kill()
        assert process.stdout.read() == "Ctrl-C ends it.\n"
    assert list(tmp_path.iterdir()) == []  # nothing was written
