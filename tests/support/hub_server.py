"""A hub on this machine: as much of the Hugging Face hub's protocol as is spoken with it, and what can go wrong there.

    with HubServer({"config.json": b"…", "model.safetensors": b"…"}) as hub: …

Large files are kept elsewhere, as on the hub: what is asked for is answered with a redirect to another host name, and
what is uploaded is sent there. Whoever writes asks, one after the other:

    POST /api/repos/create                         a repository
    POST /api/validate-yaml                        is the card's front matter right?
    POST /api/models/OWNER/NAME/preupload/main     which files are large?
    GET  /api/models/OWNER/NAME/xet-write-token/main   with hf_xet: where chunks go; without it:
    POST /OWNER/NAME.git/info/lfs/objects/batch    which of these aren't there, and where do they go?
    PUT  (elsewhere)/upload/SHA256                 the bytes, without the token
    POST /verify                                   they are there
    POST /api/models/OWNER/NAME/commit/main        all files become visible
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Mapping
from typing import Any

from support.local_server import Asked, Handler, LocalServer

__all__ = ["COMMIT", "REPO", "Asked", "HubServer"]

REPO, COMMIT = "owner/tiny-code", "0123456789abcdef0123456789abcdef01234567"
_LARGE = (".safetensors", ".gguf")


class HubServer(LocalServer):
    """files:   by path, of the one repository that there is
    changed: by path, what is sent instead of the content
    trouble: asked before a file is sent, and before anything is written; returns a status to answer with, None, or
             "die" to send half of it, "drop" to end the connection, "hang" to answer nothing
    ranges:  False: everything is sent as a whole
    exists:  False: the repository is still to be made
    writer:  the token that may write; "" for any
    verify:  where uploads are to be verified; "" for the hub itself
    storage: what was uploaded, by SHA-256, committed or not
    xet:     where hf_xet is to send chunks, a folder as local://… does; "" refuses it
    chunked: files whose chunks may be there, by SHA-256: their content isn't put together again here
    commits: what each was called, and the paths in it
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(_Handler)
        self.files = dict(files)
        self.changed: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}
        self.refusal: tuple[int, str] | None = None
        self.ranges = True
        self.exists, self.private, self.commit = True, False, COMMIT
        self.writer, self.verify = "", ""
        self.storage: dict[str, bytes] = {}
        self.xet, self.chunked = "", dict[str, bytes]()
        self.commits: list[tuple[str, list[str]]] = []
        self.open = threading.Event()

    def __exit__(self, *raised: Any) -> None:
        self.open.set()
        super().__exit__(*raised)

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def elsewhere(self) -> str:
        """Where large files are."""
        return f"http://localhost:{self.port}/cdn"

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
                "blobId": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
            }
            if path.endswith(_LARGE):
                said["lfs"] = {
                    "size": said["size"],
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "pointerSize": 134,
                }
            siblings.append(said)
        return {
            "id": REPO, "modelId": REPO, "sha": self.commit, "private": self.private, "siblings": siblings
        }  # fmt: skip

    def uploads(self) -> list[str]:
        """The SHA-256 of each upload that was begun."""
        return [it.path.rpartition("/")[2] for it in self.asked if it.method == "PUT"]

    def add_commit(self, lines: list[dict[str, Any]]) -> int:
        """Change the files as a commit says; the status of the answer."""
        header = lines[0]["value"]
        if header.get("parentCommit", self.commit) != self.commit:
            return 412
        made: dict[str, bytes] = {}
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "lfsFile":
                there = self.storage | (self.chunked if self.xet else {})
                if value["oid"] not in there:
                    return 400
                made[value["path"]] = there[value["oid"]]
            else:
                made[value["path"]] = base64.b64decode(value["content"])
        self.files |= made
        self.commits.append((header["summary"], sorted(made)))
        self.commit = hashlib.sha1(f"{self.commit}{len(self.commits)}".encode()).hexdigest()
        return 200


class _Handler(Handler):
    served: HubServer

    def do_GET(self) -> None:  # noqa: N802  # http.server calls it so
        asked = self.asked()
        self.served.asked.append(asked)
        if asked.path == f"/api/models/{REPO}/xet-write-token/main" and self.served.xet:
            self._json(
                {"casUrl": self.served.xet, "exp": int(time.time()) + 3600, "accessToken": "short-lived"}
            )
        elif asked.path.startswith("/api/models/"):
            self._api(asked.path.removeprefix("/api/models/"))
        elif asked.path.startswith(f"/{REPO}/resolve/{COMMIT}/"):
            path = asked.path.removeprefix(f"/{REPO}/resolve/{COMMIT}/")
            if path.endswith(_LARGE):
                self.answer(
                    302, b"", {"Location": f"{self.served.elsewhere}/{path}", "X-Repo-Commit": COMMIT}
                )
            else:
                self._file(asked, path)
        elif asked.path.startswith("/cdn/"):
            self._file(asked, asked.path.removeprefix("/cdn/"))
        else:
            self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})

    def do_POST(self) -> None:  # noqa: N802  # http.server calls it so
        asked, body = self._write()
        if body is None:
            return
        path = asked.path
        if path == "/api/repos/create":
            named = json.loads(body)
            wanted = f"{named['organization']}/{named['name']}"
            if wanted != REPO:
                self.answer(403, b"", {"X-Error-Message": "You don't have the rights to create a model"})
                return
            status, self.served.exists = (409 if self.served.exists else 200), True
            self.served.private |= named.get("visibility") == "private" or bool(named.get("private"))
            self._json({"url": f"{self.served.endpoint}/{REPO}"}, status)
        elif path == "/api/validate-yaml":
            wrong = "license" not in json.loads(body)["content"]
            errors = [{"message": '"license" is required'}] if wrong else []
            self._json({"errors": errors, "warnings": []}, 400 if wrong else 200)
        elif path == f"/api/models/{REPO}/preupload/main":
            self._json({"files": [self._mode(it["path"]) for it in json.loads(body)["files"]]})
        elif path == f"/{REPO}.git/info/lfs/objects/batch":
            objects = json.loads(body)["objects"]
            self._json({"transfer": "basic", "objects": [self._place(it) for it in objects]})
        elif path == "/verify":
            self._json({}, 200 if json.loads(body)["oid"] in self.served.storage else 404)
        elif path == f"/api/models/{REPO}/commit/main":
            status = self.served.add_commit([json.loads(line) for line in body.splitlines()])
            url = f"{self.served.endpoint}/{REPO}/commit/{self.served.commit}"
            self._json({"commitUrl": url, "commitOid": self.served.commit}, status)
        else:
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def do_PUT(self) -> None:  # noqa: N802  # http.server calls it so
        asked, body = self._write()
        if body is None:
            return
        oid = asked.path.removeprefix("/cdn/upload/")
        right = hashlib.sha256(body).hexdigest() == oid
        if right:
            self.served.storage[oid] = body
        self.answer(200 if right else 400, b"", {"ETag": oid})

    def _write(self) -> tuple[Asked, bytes | None]:
        """What is to be written; None where it was answered already."""
        asked = self.asked()
        self.served.asked.append(asked)
        trouble = self.served.trouble(asked)
        if trouble == "drop":
            self.close_connection = True
            return asked, None
        if trouble == "hang":
            self.served.open.wait()
            self.close_connection = True
            return asked, None
        body = self.body()
        at_home = asked.host == "127.0.0.1" and asked.path != "/verify"
        if isinstance(trouble, int):
            self.answer(trouble, b"", {"Retry-After": "0"})
        elif self.served.writer and at_home and asked.token != f"Bearer {self.served.writer}":
            self.answer(403 if asked.token else 401)
        else:
            return asked, body
        return asked, None

    def _mode(self, path: str) -> dict[str, Any]:
        mode = "lfs" if path.endswith(_LARGE) else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def _place(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if wanted["oid"] in self.served.storage:
            return wanted
        upload = {"href": f"{self.served.elsewhere}/upload/{wanted['oid']}"}
        verify = {"href": self.served.verify or f"{self.served.endpoint}/verify"}
        return wanted | {"actions": {"upload": upload, "verify": verify}}

    def _json(self, document: object, status: int = 200) -> None:
        self.answer(status, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _api(self, ref: str) -> None:
        repo, _, revision = ref.partition("/revision/")
        if self.served.refusal is not None:
            self.answer(self.served.refusal[0], b"", {"X-Error-Code": self.served.refusal[1]})
        elif repo != REPO or not self.served.exists:
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("", "main", COMMIT):
            self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            self.answer(200, json.dumps(self.served.listing()).encode())

    def _file(self, asked: Asked, path: str) -> None:
        trouble = self.served.trouble(asked)
        if isinstance(trouble, int):
            self.answer(trouble, b"", {"Retry-After": "0"})
            return
        data = self.served.changed.get(path, self.served.files[path])
        if asked.first is None or not self.served.ranges:
            self.answer(200, data)
            return
        self.die = trouble == "die"
        self.answer_range(asked, data)
