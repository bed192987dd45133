"""A studio without a port: requests go straight to the application, as its page sends them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.testclient import TestClient

from quantrecipe.studio.app import TOKEN_HEADER, studio_app
from quantrecipe.studio.session import Session

TOKEN, PORT = "the-token", 8765
SMALL = "shapes/qwen3-0.6b"


@dataclass(frozen=True)
class Page:
    """What the page does: it sends requests with the token."""

    client: TestClient
    session: Session

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers={TOKEN_HEADER: TOKEN} | headers)

    def ask(self, name: str, document: object) -> Any:
        """The response to a request for data."""
        return self.client.post(f"/api/{name}", json=document, headers={TOKEN_HEADER: TOKEN})

    def answer(self, name: str, document: object) -> dict[str, Any]:
        """The same, which has to be answered."""
        response = self.ask(name, document)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def open(self, model: str) -> dict[str, Any]:
        return self.answer("model", {"model": model})

    def error(self, name: str, document: object) -> tuple[int, str]:
        """Status and message of a request that is refused."""
        response = self.ask(name, document)
        found = response.json()["error"]
        assert found.keys() == {"message", "remedy"}
        return response.status_code, found["message"]


def page_of(session: Session) -> Page:
    client = TestClient(
        studio_app(session, token=TOKEN, port=PORT),
        base_url=f"http://127.0.0.1:{PORT}",
        raise_server_exceptions=False,
    )
    return Page(client, session)


def size_goal(model: dict[str, Any], share: float) -> dict[str, Any]:
    """A size between the smallest and the best mix."""
    least, most = model["range"]["bytes"]
    return {"kind": "size", "value": round(least + share * (most - least))}
