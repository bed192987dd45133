"""An object store on this machine: as much of S3's protocol as s3fs speaks with it, and what can go wrong there.

    with ObjectServer({"bucket/model/config.json": b"…"}) as store: …

    GET    /BUCKET?list-type=2&prefix=…&delimiter=/     what lies in a folder
    HEAD   /BUCKET/KEY                                  an object: size, ETag, time of change
    GET    /BUCKET/KEY                                  its bytes, or a range of them
    PUT    /BUCKET/KEY                                  a small object, at once
    POST   /BUCKET/KEY?uploads                          a large one: begin, …
    PUT    /BUCKET/KEY?partNumber=…&uploadId=…          … its parts, of 5 MiB at least but for the last, …
    POST   /BUCKET/KEY?uploadId=…                       … and it is there
    DELETE /BUCKET/KEY[?uploadId=…]                     remove it, or give the upload up
Source: https://docs.aws.amazon.com/AmazonS3/latest/API
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

__all__ = ["KEY", "Asked", "ObjectServer"]

KEY, SECRET = "an-access-key", "a-secret-key"
LEAST_PART = 5 << 20
_BEGIN = 1_700_000_000  # seconds: when the first object was changed


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request. first, last: of the range, None where all was asked for."""

    method: str
    path: str
    query: Mapping[str, str]
    authorization: str = ""
    first: int | None = None
    last: int | None = None


@dataclass(slots=True)
class _Object:
    data: bytes
    etag: str
    changed: int


@dataclass(slots=True)
class _Upload:
    path: str
    parts: dict[int, bytes] = field(default_factory=dict)


class ObjectServer:
    """objects: by BUCKET/KEY
    uploads: that were begun, and neither completed nor given up
    trouble: asked before each answer; returns the code of an error (its status is in `STATUS`), None, or "die" to send
             half of the answer and end the connection
    readers: keys that may read; "" for who shows none
    """

    STATUS: Mapping[str, int] = {
        "AccessDenied": 403,
        "InternalError": 500,
        "InvalidAccessKeyId": 403,
        "NoSuchBucket": 404,
        "NoSuchKey": 404,
        "NoSuchUpload": 404,
        "EntityTooSmall": 400,
        "InvalidRange": 416,
        "SlowDown": 503,
    }

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self.objects: dict[str, _Object] = {}
        self.uploads: dict[str, _Upload] = {}
        self.asked: list[Asked] = []
        self.trouble: Callable[[Asked], str | None] = lambda asked: None
        self.users = {KEY}
        self.buckets = {path.partition("/")[0] for path in objects}
        self._changes = 0
        for path, data in objects.items():
            self.put(path, data)
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
    def environment(self) -> dict[str, str]:
        """With which s3fs finds it, and nothing else."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "no-such-file",
            "AWS_SHARED_CREDENTIALS_FILE": "no-such-file",
        }

    def put(self, path: str, data: bytes, etag: str = "") -> None:
        """Have an object be there, or be replaced."""
        self._changes += 1
        etag = etag or hashlib.md5(data).hexdigest()
        self.objects[path] = _Object(data, etag, _BEGIN + self._changes)

    def ranges_of(self, path: str) -> list[tuple[int, int]]:
        """The ranges of an object that were asked for."""
        return [
            (it.first, it.last)
            for it in self.asked
            if it.path == path and it.method == "GET" and it.first is not None and it.last is not None
        ]

    def refused(self, asked: Asked) -> str | None:
        """The code of the error with which a request is answered; None if it is served."""
        if not any(f"Credential={user}/" in asked.authorization for user in self.users):
            return "InvalidAccessKeyId" if asked.authorization else "AccessDenied"
        if asked.path.partition("/")[0] not in self.buckets:
            return "NoSuchBucket"
        return self.trouble(asked)


def _handler(store: ObjectServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self._serve()

        def do_GET(self) -> None:
            self._serve()

        def do_PUT(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def do_DELETE(self) -> None:
            self._serve()

        def _serve(self) -> None:
            asked, body = self._asked(), self._body()
            store.asked.append(asked)
            self._die = False
            wrong = store.refused(asked)
            if wrong == "die":
                self._die, wrong = True, None
            if wrong is None:
                wrong = self._answered(asked, body)
            if wrong is not None:
                told = f"<Error><Code>{wrong}</Code><Message>it is {wrong}</Message></Error>"
                self._answer(store.STATUS[wrong], told.encode())

        def _answered(self, asked: Asked, body: bytes) -> str | None:
            """Answer; or the code of an error."""
            found = store.objects.get(asked.path)
            upload = asked.query.get("uploadId")
            match asked.method:
                case "GET" if "/" not in asked.path:
                    self._answer(200, self._listing(asked).encode())
                case "HEAD" | "GET":
                    if found is None:
                        return "NoSuchKey"
                    return self._object(asked, found)
                case "PUT" if upload:
                    if upload not in store.uploads:
                        return "NoSuchUpload"
                    store.uploads[upload].parts[int(asked.query["partNumber"])] = body
                    self._answer(200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
                case "PUT":
                    store.put(asked.path, body)
                    self._answer(200, b"", {"ETag": f'"{store.objects[asked.path].etag}"'})
                case "POST" if "uploads" in asked.query:
                    name = f"upload-{len(store.asked)}"
                    store.uploads[name] = _Upload(asked.path)
                    told = f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
                    self._answer(200, told.encode())
                case "POST":
                    return self._complete(asked, upload or "", body)
                case "DELETE":
                    if upload and store.uploads.pop(upload, None) is None:
                        return "NoSuchUpload"
                    if not upload:
                        store.objects.pop(asked.path, None)
                    self._answer(204, b"")
            return None

        def _object(self, asked: Asked, found: _Object) -> str | None:
            headers = {
                "ETag": f'"{found.etag}"',
                "Last-Modified": formatdate(found.changed, usegmt=True),
                "Accept-Ranges": "bytes",
            }
            if asked.first is None:
                self._answer(200, found.data, headers)
                return None
            part = found.data[asked.first : (asked.last or 0) + 1]
            if not part:
                return "InvalidRange"
            said = f"bytes {asked.first}-{asked.first + len(part) - 1}/{len(found.data)}"
            self._answer(206, part, headers | {"Content-Range": said})
            return None

        def _complete(self, asked: Asked, name: str, body: bytes) -> str | None:
            upload = store.uploads.get(name)
            if upload is None:
                return "NoSuchUpload"
            numbers = [
                int(it.text or 0)
                for it in ElementTree.fromstring(body).iter()
                if it.tag.endswith("PartNumber")
            ]
            parts = [upload.parts[it] for it in numbers]
            if any(len(part) < LEAST_PART for part in parts[:-1]):
                return "EntityTooSmall"
            etag = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
            store.put(asked.path, b"".join(parts), f"{etag}-{len(parts)}")
            del store.uploads[name]
            told = f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
            self._answer(200, told.encode())
            return None

        def _listing(self, asked: Asked) -> str:
            bucket, prefix = asked.path, asked.query.get("prefix", "")
            folders: dict[str, None] = {}
            told = ""
            for path, it in sorted(store.objects.items()):
                if not path.startswith(f"{bucket}/{prefix}"):
                    continue
                key = path.partition("/")[2]
                below, slash, _ = key.removeprefix(prefix).partition("/")
                if slash and asked.query.get("delimiter"):
                    folders[f"{prefix}{below}/"] = None
                    continue
                told += (
                    f"<Contents><Key>{escape(key)}</Key><Size>{len(it.data)}</Size><ETag>&quot;{it.etag}&quot;</ETag>"
                    "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
                )
            told += "".join(
                f"<CommonPrefixes><Prefix>{escape(it)}</Prefix></CommonPrefixes>" for it in folders
            )
            return f"<ListBucketResult><Name>{bucket}</Name><IsTruncated>false</IsTruncated>{told}</ListBucketResult>"

        def _asked(self) -> Asked:
            place, first, last = urlsplit(self.path), None, None
            if said := self.headers.get("Range"):
                first, last = (int(it) for it in said.removeprefix("bytes=").split("-"))
            query = parse_qs(place.query, keep_blank_values=True)
            return Asked(
                method=self.command,
                path=unquote(place.path).strip("/"),
                query={name: values[0] for name, values in query.items()},
                authorization=self.headers.get("Authorization") or "",
                first=first,
                last=last,
            )

        def _body(self) -> bytes:
            data = b""
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if "aws-chunked" not in (self.headers.get("Content-Encoding") or ""):
                return data
            found = b""
            while data:  # SIZE[;signature] CRLF bytes CRLF, and behind the last one, of size 0, a checksum
                line, _, data = data.partition(b"\r\n")
                size = int(line.partition(b";")[0], 16)
                if not size:
                    break
                found, data = found + data[:size], data[size + 2 :]
            return found

        def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            try:
                self.wfile.write(body[: len(body) // 2] if self._die else body)
            except OSError:
                return
            if self._die:
                self.close_connection = True

    return Handler
