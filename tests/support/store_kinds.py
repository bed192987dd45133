"""File systems in this process that behave as those of fsspec's packages do, where these differ from s3fs.

az://       as adlfs: a file gets its name when it is closed, transaction or not; an ETag, and no MD5
gs://       as gcsfs: whole 256 KiB are sent, and the rest when it is committed; MD5 in base64; 403 without a number
webdav://   as webdav4: a file is sent when it is closed, and when it is committed; as on WsgiDAV, half of it is shown
            until the rest has come
sftp://     as fsspec's: a file lies in `temppath`, and is renamed from there, on the same disk only; one connection,
            which threads can't share, and which doesn't come back
ftp://      as fsspec's: the same, but for what it calls that folder, that whole blocks are sent, and that it connects
            whenever it is asked for
hdfs://     as fsspec's: a file is shown while it is written; what is said of one is its time
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.elsewhere import EXAMPLE, small_blocks

__all__ = ["KINDS", "Stored", "example_of_kind"]

KINDS = ("az", "gs", "webdav", "sftp", "ftp", "hdfs")
_GRAIN = 256 << 10
_BEGIN = 1_700_000_000


@dataclass(slots=True, repr=False)
class Stored:
    """What a store has, for all file systems on it.

    objects:   by path, their bytes and when they were changed
    unnamed:   bytes that were sent, and have no name yet
    forbidden: methods that are refused: "write", "read", "move"
    trouble:   asked before a "block" is taken, before a file gets its "name", when it is "named", and before
               it is "read"; may raise, and then a connection that doesn't come back is gone
    systems:   all that were opened
    asked:     ranges of objects, as they were asked for
    crossed:   two threads were at work over one connection at a time
    """

    objects: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    unnamed: dict[str, bytes] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    trouble: Callable[[str], object] = lambda what: None
    systems: list[Any] = field(default_factory=list)
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    crossed: bool = False

    def made(self) -> dict[str, str]:
        """The SHA-256 of what has been written to SCHEME://store/made."""
        return {
            path: hashlib.sha256(data).hexdigest()
            for path, (data, _) in self.objects.items()
            if path.startswith("store/made/")
        }

    def put(self, path: str, data: bytes) -> None:
        """Have an object be there, or be replaced."""
        self.named.append(path)
        self.objects[path] = data, _BEGIN + len(self.named)


class HttpResponseError(Exception):
    """As azure.core's."""

    def __init__(self, status_code: int) -> None:
        super().__init__("this request is not authorized to perform this operation")
        self.status_code = status_code


def _kind(scheme: str, stored: Stored) -> type:
    from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

    def refused(what: str) -> None:
        if what not in stored.forbidden:
            return
        if scheme == "az":
            raise HttpResponseError(403)
        if scheme == "gs":
            raise OSError("Forbidden: https://storage/b/bucket\nno access")
        raise PermissionError("no")

    class System(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
        protocol = scheme
        cachable = scheme == "sftp"
        async_impl = scheme in ("az", "gs")

        def __init__(self, *, temppath: str = "/tmp", **more: Any) -> None:
            super().__init__(**more)
            if scheme == "sftp":
                self.temppath = temppath
            if scheme == "ftp":
                self.tempdir = temppath
            self.at_work = threading.Lock()
            self.dead = False
            self.client = self  # webdav4's file systems have one, that knows more
            stored.systems.append(self)

        def alive(self) -> None:
            if self.dead:
                raise OSError("Socket is closed")

        def trouble(self, what: str) -> None:
            try:
                stored.trouble(what)
            except ConnectionError:
                self.dead = scheme in ("sftp", "ftp")
                raise

        def move(self, path: str, other: str, overwrite: bool = False) -> None:
            """webdav4's."""
            refused("write")
            if other in stored.objects and not overwrite:
                raise FileExistsError(other)
            if "move" in stored.forbidden:
                raise OSError("the source and the destination could be the same") from HttpResponseError(403)
            self.trouble("name")
            stored.put(other, stored.objects.pop(path)[0])
            self.trouble("named")

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            refused("read")
            self.alive()
            path = self._strip_protocol(path)
            if path not in stored.objects:
                if any(it.startswith(f"{path}/") for it in stored.objects):
                    return {"name": path, "size": 0, "type": "directory"}
                raise FileNotFoundError(path)
            data, changed = stored.objects[path]
            found = {"name": path, "size": len(data), "type": "file"}
            md5 = hashlib.md5(data).digest()
            match scheme:
                case "az":
                    return found | {"etag": f'"0x{changed:X}"', "content_settings": {"content_md5": None}}
                case "gs":
                    return found | {"md5Hash": base64.b64encode(md5).decode(), "generation": str(changed)}
                case "webdav":
                    return found | {"modified": changed}
                case "sftp" | "ftp":
                    return found | {"mtime": changed}
            return found | {"modificationTime": changed}

        def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
            refused("read")
            self.alive()
            path = self._strip_protocol(path)
            names = {
                f"{path}/{it.removeprefix(f'{path}/').partition('/')[0]}"
                for it in stored.objects
                if it.startswith(f"{path}/")
            }
            if not names:
                raise FileNotFoundError(path)
            return [self.info(it) for it in sorted(names)]

        def cat_file(self, path: str, start: int = 0, end: int | None = None, **_: Any) -> bytes:
            refused("read")
            self.alive()
            path = self._strip_protocol(path)
            if path not in stored.objects or (scheme == "sftp" and self._intrans):
                raise FileNotFoundError(path)
            self.trouble("read")
            data = stored.objects[path][0]
            stored.asked.append((path, start, len(data) if end is None else end))
            return data[start:end]

        def rm_file(self, path: str) -> None:
            del stored.objects[self._strip_protocol(path)]

        def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **more: Any) -> Any:
            path = self._strip_protocol(path)
            match scheme:
                case "webdav":
                    return Spooled(self, path)
                case "sftp":
                    return Renamed(self, path)
                case "hdfs":
                    return Shown(self, path)
            more.pop("cache_options", None)
            of = {"az": Blocks, "gs": Resumable, "ftp": Transferred}[scheme]
            return of(self, path, mode, block_size=block_size, **more)

    class Blocks(AbstractBufferedFile):  # type: ignore[misc]
        closed = False  # fsspec doesn't promise how it is stored

        def _initiate_upload(self) -> None:
            self.sent = b""

        def _upload_chunk(self, final: bool = False) -> None:
            try:
                refused("write")
            except Exception as error:
                raise RuntimeError(f"Failed to upload block: {error}!") from error
            self.fs.trouble("block")
            self.sent += self.buffer.getvalue()
            stored.unnamed[self.path] = self.sent
            if final:
                self.fs.trouble("name")
                stored.put(self.path, stored.unnamed.pop(self.path))
                self.fs.trouble("named")

    class Resumable(AbstractBufferedFile):  # type: ignore[misc]
        buffer: io.BytesIO

        def _initiate_upload(self) -> None:
            refused("write")
            self.sent = b""

        def _upload_chunk(self, final: bool = False) -> bool:
            refused("write")
            data = self.buffer.getvalue()
            self.fs.trouble("name" if final and self.autocommit else "block")
            whole = len(data) if final and self.autocommit else len(data) // _GRAIN * _GRAIN
            self.sent += data[:whole]
            stored.unnamed[self.path] = self.sent
            if final and self.autocommit:
                stored.put(self.path, stored.unnamed.pop(self.path))
                self.fs.trouble("named")
            self.offset += whole
            self.buffer = io.BytesIO(data[whole:])
            self.buffer.seek(0, io.SEEK_END)
            return False  # what is left stays in the buffer

        def commit(self) -> None:
            self.autocommit = True
            self._upload_chunk(final=True)

        def discard(self) -> None:
            stored.unnamed.pop(self.path, None)

    class Spooled(io.BytesIO):
        def __init__(self, system: Any, path: str) -> None:
            super().__init__()
            self.system, self.path = system, path

        def commit(self) -> None:
            refused("write")
            data = self.getvalue()
            stored.objects[self.path] = data[: len(data) // 2], _BEGIN
            self.system.trouble("block")
            stored.put(self.path, data)

        def close(self) -> None:
            if not self.closed:
                self.commit()
                super().close()

        def discard(self) -> None:
            super().close()

    class Renamed:
        """Over a connection that waits for ever when two threads use it; here that is noted."""

        _closed = True

        def __init__(self, fs: Any, path: str) -> None:
            refused("write")
            self.fs, self.opened_by, self.path = fs, fs, path
            self.temporary = f"{fs.temppath}/{uuid.uuid4()}"
            self.pipelined = self._closed = False
            stored.unnamed[self.temporary] = b""

        def set_pipelined(self, pipelined: bool) -> None:
            self.pipelined = pipelined

        def write(self, data: bytes) -> None:
            assert self.pipelined
            if not self.fs.at_work.acquire(blocking=False):
                stored.crossed = True
                return
            try:
                self.fs.trouble("block")
                stored.unnamed[self.temporary] += data
            finally:
                self.fs.at_work.release()

        def close(self) -> None:
            if not self._closed:
                self.opened_by.alive()
                self._closed = True

        def __del__(self) -> None:
            self.close()

        def commit(self) -> None:
            rename(self.fs, self.temporary, self.path)

        def discard(self) -> None:
            self.fs.alive()
            assert self._closed or self.fs is not self.opened_by
            del stored.unnamed[self.temporary]

    class Transferred(AbstractBufferedFile):  # type: ignore[misc]
        """Of FTP."""

        def __init__(self, *args: Any, **more: Any) -> None:
            refused("write")
            super().__init__(*args, **more)
            if not self.autocommit:
                self.target, self.path = self.path, f"{self.fs.tempdir}/{uuid.uuid4()}"

        def _upload_chunk(self, final: bool = False) -> bool:
            self.fs.alive()
            self.fs.trouble("block")
            stored.unnamed[self.path] = stored.unnamed.get(self.path, b"") + self.buffer.getvalue()
            return True

        def commit(self) -> None:
            rename(self.fs, self.path, self.target)

        def discard(self) -> None:
            self.fs.alive()
            del stored.unnamed[self.path]

    def rename(system: Any, temporary: str, path: str) -> None:
        if temporary.rpartition("/")[0] != path.rpartition("/")[0]:
            raise OSError("Failure")  # as if they were on two disks
        system.trouble("name")
        stored.put(path, stored.unnamed.pop(temporary))
        system.trouble("named")

    class Shown:
        """It has no `commit` and no `discard`."""

        def __init__(self, system: Any, path: str) -> None:
            refused("write")
            self.system, self.path, self.closed = system, path, False
            stored.objects[path] = b"", _BEGIN

        def write(self, data: bytes) -> None:
            self.system.trouble("block")
            had, changed = stored.objects[self.path]
            stored.objects[self.path] = had + data, changed

        def close(self) -> None:
            self.system.trouble("name")
            self.closed = True

    return System


@contextmanager
def example_of_kind(scheme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stored]:
    """The example model at SCHEME://store/tiny-code. The test is skipped without fsspec."""
    registry = pytest.importorskip("fsspec.registry")
    small_blocks(monkeypatch, tmp_path)
    stored = Stored()
    for path in EXAMPLE.iterdir():
        stored.put(f"store/tiny-code/{path.name}", path.read_bytes())
    stored.named.clear()
    monkeypatch.setitem(registry._registry, scheme, _kind(scheme, stored))
    yield stored
