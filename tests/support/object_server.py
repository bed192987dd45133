"""An object store on this machine: as much of S3's protocol as s3fs speaks with it, and what can go wrong there.

    with ObjectServer({"bucket/model/config.json": b"…"}) as store: …

    GET    /BUCKET?list-type=2&prefix=…&delimiter=/     what lies in a folder
    HEAD   /BUCKET/KEY                                  an object: size, ETag, time of change
    GET    /BUCKET/KEY                                  its bytes, or a range of them
    PUT    /BUCKET/KEY                                  a small object, at once
    POST   /BUCKET/KEY?uploads                          a large one: begin, …
    PUT    /BUCKET/KEY?partNumber=…&uploadId=…          … its parts, of 5 MiB at least but for the last, …
    GET    /BUCKET/KEY?uploadId=…                       … which of them are there, …
    POST   /BUCKET/KEY?uploadId=…                       … and it is there
    DELETE /BUCKET/KEY[?uploadId=…]                     remove it, or give the upload up
Source: https://docs.aws.amazon.com/AmazonS3/latest/API
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from support.local_server import Asked, Handler, LocalServer

__all__ = ["KEY", "Asked", "ObjectServer"]

KEY, SECRET = "an-access-key", "a-secret-key"
LEAST_PART = 5 << 20
_BEGIN = 1_700_000_000  # seconds: when the first object was changed


@dataclass(slots=True)
class _Object:
    data: bytes
    etag: str
    changed: int


@dataclass(slots=True)
class _Upload:
    path: str
    parts: dict[int, bytes] = field(default_factory=dict)


class ObjectServer(LocalServer):
    """objects: by BUCKET/KEY
    uploads: that were begun, and neither completed nor given up
    trouble: asked before each answer; returns the code of an error (its status is in `STATUS`), None, or "die" to send
             half of the answer and end the connection
    users:   keys that may read and write
    parts_listed: of an upload, in one answer
    """

    STATUS: Mapping[str, int] = {
        "AccessDenied": 403,
        "BadDigest": 400,
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
        super().__init__(_Handler)
        self.objects: dict[str, _Object] = {}
        self.uploads: dict[str, _Upload] = {}
        self.users = {KEY}
        self.parts_listed = 1000
        self.buckets = {path.partition("/")[0] for path in objects}
        self._changes = 0
        for path, data in objects.items():
            self.put(path, data)

    @property
    def environment(self) -> dict[str, str]:
        """With which s3fs finds it, and nothing else."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
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
        if not any(f"Credential={user}/" in asked.token for user in self.users):
            return "InvalidAccessKeyId" if asked.token else "AccessDenied"
        if asked.path.partition("/")[0] not in self.buckets:
            return "NoSuchBucket"
        trouble: str | None = self.trouble(asked)
        return trouble


def _content_md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body).digest()).decode()


class _Handler(Handler):
    served: ObjectServer

    def _serve(self) -> None:
        asked, body = self.asked(), self.body()
        self.served.asked.append(asked)
        wrong = self.served.refused(asked)
        self.die = wrong == "die"
        if wrong is None or self.die:
            wrong = self._answered(asked, body)
        if wrong is not None:
            told = f"<Error><Code>{wrong}</Code><Message>it is {wrong}</Message></Error>"
            self.answer(self.served.STATUS[wrong], told.encode())

    do_HEAD = do_GET = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815  # http.server calls them so

    def _answered(self, asked: Asked, body: bytes) -> str | None:
        """Answer; or the code of an error."""
        found = self.served.objects.get(asked.path)
        upload = asked.query.get("uploadId")
        match asked.method:
            case "GET" if "/" not in asked.path:
                self.answer(200, self._listing(asked).encode())
            case "GET" if upload:
                return self._parts(asked, upload)
            case "HEAD" | "GET":
                if found is None:
                    return "NoSuchKey"
                return self._object(asked, found)
            case "PUT" if upload:
                if upload not in self.served.uploads:
                    return "NoSuchUpload"
                if self.headers.get("Content-MD5") not in (None, _content_md5(body)):
                    return "BadDigest"
                self.served.uploads[upload].parts[int(asked.query["partNumber"])] = body
                self.answer(200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'})
            case "PUT":
                self.served.put(asked.path, body)
                self.answer(200, b"", {"ETag": f'"{self.served.objects[asked.path].etag}"'})
            case "POST" if "uploads" in asked.query:
                name = f"upload-{len(self.served.asked)}"
                self.served.uploads[name] = _Upload(asked.path)
                told = f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
                self.answer(200, told.encode())
            case "POST":
                return self._complete(asked, upload or "", body)
            case "DELETE":
                if upload and self.served.uploads.pop(upload, None) is None:
                    return "NoSuchUpload"
                if not upload:
                    self.served.objects.pop(asked.path, None)
                self.answer(204)
        return None

    def _object(self, asked: Asked, found: _Object) -> str | None:
        headers = {
            "ETag": f'"{found.etag}"',
            "Last-Modified": formatdate(found.changed, usegmt=True),
            "Accept-Ranges": "bytes",
        }
        if asked.first is None:
            self.answer(200, found.data, headers)
        elif asked.first >= min(len(found.data), (asked.last or 0) + 1):
            return "InvalidRange"
        else:
            self.answer_range(asked, found.data, headers)
        return None

    def _parts(self, asked: Asked, name: str) -> str | None:
        upload = self.served.uploads.get(name)
        if upload is None:
            return "NoSuchUpload"
        after = int(asked.query.get("part-number-marker") or 0)
        numbers = [it for it in sorted(upload.parts) if it > after]
        shown = numbers[: self.served.parts_listed]
        told = "".join(
            f"<Part><PartNumber>{it}</PartNumber><Size>{len(upload.parts[it])}</Size>"
            f"<ETag>&quot;{hashlib.md5(upload.parts[it]).hexdigest()}&quot;</ETag></Part>"
            for it in shown
        )
        if len(shown) < len(numbers):
            told += f"<IsTruncated>true</IsTruncated><NextPartNumberMarker>{shown[-1]}</NextPartNumberMarker>"
        self.answer(200, f"<ListPartsResult>{told}</ListPartsResult>".encode())
        return None

    def _complete(self, asked: Asked, name: str, body: bytes) -> str | None:
        upload = self.served.uploads.get(name)
        if upload is None:
            return "NoSuchUpload"
        numbers = [
            int(it.text or 0) for it in ElementTree.fromstring(body).iter() if it.tag.endswith("PartNumber")
        ]
        parts = [upload.parts[it] for it in numbers]
        if any(len(part) < LEAST_PART for part in parts[:-1]):
            return "EntityTooSmall"
        etag = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
        self.served.put(asked.path, b"".join(parts), f"{etag}-{len(parts)}")
        del self.served.uploads[name]
        told = f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
        self.answer(200, told.encode())
        return None

    def _listing(self, asked: Asked) -> str:
        bucket, prefix = asked.path, asked.query.get("prefix", "")
        folders: dict[str, None] = {}
        told = ""
        for path, it in sorted(self.served.objects.items()):
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
        told += "".join(f"<CommonPrefixes><Prefix>{escape(it)}</Prefix></CommonPrefixes>" for it in folders)
        return f"<ListBucketResult><Name>{bucket}</Name><IsTruncated>false</IsTruncated>{told}</ListBucketResult>"

    def asked(self) -> Asked:
        """Paths are BUCKET/KEY."""
        asked = super().asked()
        return replace(asked, path=asked.path.strip("/"))

    def body(self) -> bytes:
        """Without what aws-chunked puts around it."""
        data = super().body()
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
