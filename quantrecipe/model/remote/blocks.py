"""Blocks: what was downloaded of large files, each block a file, as many as there is room for.

    FOLDER/3f9a…/000017          block 17 of a file, 8 MiB; the last one is shorter
                 000018.0-4096   a part of a block, where nothing else of it is wanted
                 head            the file's header (`block_file.py`)

A block gets its name when it is whole, so that a run that was stopped finds all that it had. Where the room is used up,
the block that was read longest ago goes; if it is wanted again, it is downloaded again. Several processes may share a
folder.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from quantrecipe.errors import ModelError, RecipeError
from quantrecipe.units import parse_file_size
from quantrecipe.whole_file import whole_file

__all__ = ["Blocks", "Part"]

Part = tuple[int, int, int]
"""The number of a block, and the first and last byte that are wanted of it; all of it: 0 and its size."""

_BLOCK = 8 << 20
"""Bytes. A connection to a distant host takes a second to be fast, and fewer connections are kinder to the hub."""

_AT_ONCE = 8  # connections
_STALE = 24 * 3600  # seconds after which a block that isn't whole has no writer any more
_ROOM = "16GB"
_ROOM_VARIABLE = "QUANTRECIPE_HUB_ROOM"


class Blocks:
    """The blocks of all files of a repository, or of a folder in an object store.

    size: of a block
    """

    def __init__(self, folder: Path, *, size: int | None = None) -> None:
        """ModelError where the environment says what is no size of the room."""
        self.size = size or _BLOCK
        self._folder = folder
        self._most = max(_room() // self.size, 2 * _AT_ONCE)
        self._lock = threading.Lock()
        self._queue: SimpleQueue[tuple[Path, Callable[[], bytes], Future[None]]] = SimpleQueue()
        self._workers: list[threading.Thread] = []
        self._coming: dict[Path, Future[None]] = {}
        self._there: OrderedDict[Path, None] = OrderedDict()
        with suppress(OSError):  # it isn't there yet
            found = [(path.stat().st_mtime, path) for path in folder.glob("*/*")]
            self._there = OrderedDict((path, None) for _, path in sorted(found) if _is_block(path))
            for changed, path in found:
                if path.suffix == ".part" and changed < time.time() - _STALE:
                    path.unlink(missing_ok=True)

    def path(self, file: str, part: Part) -> Path:
        """Where a block, or a part of one, lies if it is there."""
        number, begin, end = part
        name = f"{number:06d}" if (begin, end) == (0, self.size) else f"{number:06d}.{begin}-{end}"
        return self._folder / file / name

    def head(self, file: str) -> Path:
        """Where a file's header lies if it is there."""
        return self._folder / file / "head"

    def whole(self, number: int) -> Part:
        """All of a block."""
        return number, 0, self.size

    def want(self, file: str, part: Part, get: Callable[[], bytes]) -> Future[None]:
        """Have a block brought, unless it is there or on its way. `get` downloads it, in another thread."""
        path = self.path(file, part)
        with self._lock:
            coming = self._coming.get(path)
            if coming is None:
                if path.is_file():
                    self._there[path] = None
                    self._there.move_to_end(path)
                    done: Future[None] = Future()
                    done.set_result(None)
                    return done
                coming = self._coming[path] = Future()
                self._queue.put((path, get, coming))
                if len(self._workers) < _AT_ONCE:
                    # No pool: what nobody waits for any more mustn't keep the program from ending.
                    worker = threading.Thread(target=self._work, name="blocks", daemon=True)
                    self._workers.append(worker)
                    worker.start()
        return coming

    def read(self, file: str, part: Part, get: Callable[[], bytes], begin: int, out: memoryview) -> None:
        """Fill `out` with bytes of a block, from one of them on; wait for it where it isn't there."""
        path = self.path(file, part)
        while True:
            self.want(file, part, get).result()
            # Another process, or a full folder, may have taken it away meanwhile.
            with suppress(FileNotFoundError), path.open("rb", buffering=0) as stream:
                stream.seek(begin)
                done = 0
                while done < len(out) and (count := stream.readinto(out[done:])):
                    done += count
                if done == len(out):
                    return
                path.unlink(missing_ok=True)  # it was cut short by a full disk, or by hand

    def remove(self, file: str, part: Part) -> None:
        """Throw a block, or a part of one, away."""
        path = self.path(file, part)
        with self._lock:
            self._there.pop(path, None)
        with suppress(OSError):
            path.unlink(missing_ok=True)

    def drop(self, file: str) -> None:
        """Forget the blocks of a file. Those that another process has brought meanwhile are left to it."""
        with self._lock:
            for path in [path for path in self._there if path.parent.name == file]:
                del self._there[path]
                path.unlink(missing_ok=True)

    def throw_away(self, file: str) -> None:
        """Remove all that came of a file, whoever has brought it: it isn't what it should be."""
        self.drop(file)
        self.head(file).unlink(missing_ok=True)
        with suppress(OSError):
            for path in [path for path in (self._folder / file).iterdir() if _is_block(path)]:
                path.unlink(missing_ok=True)

    def replace(self, files: Iterable[str]) -> None:
        """Throw away what was in the places of these files before them: ADDRESS-OTHER, where a file is ADDRESS-NOW."""
        now = {name.partition("-")[0]: name for name in files}
        with suppress(OSError):
            for folder in [*self._folder.iterdir()]:
                if now.get(folder.name.partition("-")[0], folder.name) != folder.name:
                    self.throw_away(folder.name)
                    folder.rmdir()

    def _work(self) -> None:
        while True:
            path, get, coming = self._queue.get()
            try:
                self._bring(path, get())
            except Exception as error:  # noqa: BLE001  # whoever waits for the block raises it
                coming.set_exception(error)
            else:
                coming.set_result(None)
            finally:
                with self._lock:
                    self._coming.pop(path, None)

    def _bring(self, path: Path, data: bytes) -> None:
        """Keep a block. ModelError where the disk doesn't take it."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path, mode=0o600, durable=False) as file:
                file.write(data)
        except OSError as error:
            what = f"a downloaded block can't be kept: {error.strerror or error}"
            remedy = (
                "make room, or name another folder with QUANTRECIPE_CACHE_DIR; what is there is used again"
            )
            raise ModelError(what, remedy, file=path) from error
        with self._lock:
            self._there[path] = None
            while len(self._there) > self._most:
                self._there.popitem(last=False)[0].unlink(missing_ok=True)


def _is_block(path: Path) -> bool:
    return path.name[:6].isdigit() and path.suffix != ".part"


def _room() -> int:
    """Bytes that blocks may take in a folder; a few blocks for each connection may be more."""
    text = os.environ.get(_ROOM_VARIABLE) or _ROOM
    try:
        return parse_file_size(text)
    except RecipeError as error:
        raise ModelError(f"{_ROOM_VARIABLE}: {error}") from error
