"""converted: a Hugging Face folder as the GGUF that llama.cpp's converter would make of it, which is never written.

    CHECKOUT/convert_hf_to_gguf.py runs in a process of its own     `worker.py`
    its header, with names, shapes, types and metadata              a file, in a folder that is removed at the end
    a tensor, when somebody reads of it                             computed there, and kept for the last few of them

So every architecture that a checkout of llama.cpp knows is known here, with one read of the weights and nothing on the
disk. It takes as much memory as the largest tensors, which are computed as wholes.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Annotated, cast

from msgspec import Meta

from quantrecipe.errors import ModelError, Problem
from quantrecipe.remote_files import add_remote_file
from quantrecipe.typed import Natural, Record, json_object, typed
from quantrecipe.units import file_text

__all__ = ["converted"]

_PYTHON_VARIABLE = "QUANTRECIPE_CONVERTER_PYTHON"
_SCRIPT = "convert_hf_to_gguf.py"
_WORKER = Path(__file__).with_name("worker.py")
_NEEDED = ("torch", "transformers")
_KNOWN = "llama.cpp of 2026 is known to work"
_KEPT = 3
"""Tensors at a time: threads read the end of one while others begin the next."""
_SHOWN = 6
"""Lines of the converter's own log that an error shows."""
_SHARED = Path("/dev/shm")  # memory as files, where the system has it


class _Ready(Record):
    """The worker's first line. tensors: name, bytes, bytes with the padding behind them."""

    data: Natural
    tensors: Annotated[tuple[tuple[str, Natural, Natural], ...], Meta(min_length=1)]


class _Converter:
    """A RemoteFile: the header lies in a file, and the tensors come from the process."""

    def __init__(
        self, path: Path, process: subprocess.Popen[str], ready: _Ready, log: Path, scratch: Path
    ) -> None:
        self._path, self._process, self._log, self._scratch = path, process, log, scratch
        self._asks, self._answers = _pipes(process)
        self._data = ready.data
        self._header = path.read_bytes().ljust(ready.data, b"\0")
        self._places: list[tuple[int, int, str]] = []  # begin, bytes, name
        at = ready.data
        for name, nbytes, padded in ready.tensors:
            self._places.append((at, nbytes, name))
            at += padded
        self.size = at
        # Those that are kept, and one that is computed: in float32, and from what is stored.
        self.held = (_KEPT + 3) * max(nbytes for _, nbytes, _ in self._places)
        self.identity = ""  # the folder, and the checkout that reads it, may have changed
        self._begins = [begin for begin, _, _ in self._places]
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Path] = OrderedDict()
        self._count = 0

    def head(self, start: int, count: int) -> bytes:
        return self._header[start : start + count]

    def read_into(self, out: memoryview, start: int) -> None:
        while out:
            count = self._read_some(out, start)
            out, start = out[count:], start + count

    def _read_some(self, out: memoryview, start: int) -> int:
        """As much as one place has: the header, a tensor, or the padding behind one. How much that was."""
        if start < self._data:
            some = self._header[start : start + len(out)]
            out[: len(some)] = some
            return len(some)
        begin, nbytes, name = self._places[bisect_right(self._begins, start) - 1]
        here = start - begin
        if here >= nbytes:
            place = bisect_right(self._begins, start)
            end = self._begins[place] if place < len(self._begins) else self.size
            if (count := min(len(out), end - start)) <= 0:
                raise ModelError(f"ends before byte {start:,}", file=self._path)
            out[:count] = bytes(count)
            return count
        count = min(len(out), nbytes - here)
        with self._lock:
            file = self._tensor(name).open("rb", buffering=0)
        with file:  # what is open stays readable, even if it is no longer kept
            file.seek(here)
            done = 0
            while done < count:
                if not (got := file.readinto(out[done:count])):
                    raise ModelError(f"the converter gave {name} fewer bytes than it said", file=self._path)
                done += got
        return count

    def expect(self, ranges: Sequence[tuple[int, int]]) -> object:
        return None  # tensors are computed as a whole

    def unexpect(self, expected: object) -> None: ...

    def settle(self) -> bool:
        return True

    def forget(self) -> None:
        """There is nothing that would be of use to another run."""

    def _tensor(self, name: str) -> Path:
        """A file with the bytes of a tensor. The lock is held."""
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        while len(self._kept) >= _KEPT:
            self._kept.popitem(last=False)[1].unlink(missing_ok=True)
        self._count += 1
        path = self._scratch / f"{self._count}.tensor"
        try:
            self._asks.write(json.dumps({"tensor": name, "file": str(path)}) + "\n")
            self._asks.flush()
            answer = self._answers.readline()
        except OSError:
            answer = ""
        if not answer:
            raise _ended(self._process, self._log, self._path, f"before it gave {name}")
        if error := json.loads(answer).get("error"):
            path.unlink(missing_ok=True)
            raise _failed(f"the converter can't make {name}: {error}", self._log, self._path)
        self._kept[name] = path
        return path


def converted(folder: Path, checkout: Path, *, part: str = "model", dtypes: Sequence[str] = ()) -> Path:
    """The path of a GGUF that isn't there, but can be opened and read as if it were.

    checkout: of llama.cpp
    part:     "model", "mmproj" or "mtp"
    dtypes:   of the folder's matrices ("BF16"), by which it is decided in which type the converter gives them
    ModelError where the converter, or the Python that is to run it, isn't fit for it, or the converter says no.
    """
    script = checkout / _SCRIPT
    if not script.is_file():
        what = f"has no {_SCRIPT}"
        remedy = "give a checkout of llama.cpp: git clone https://github.com/ggml-org/llama.cpp"
        raise ModelError(what, remedy, file=checkout)
    python = os.environ.get(_PYTHON_VARIABLE) or sys.executable
    _require(python)
    # Where this process is killed, the converter's own sees that, and removes the folders.
    with ExitStack() as ends:
        place = _folder(ends, "quantrecipe-converter-")
        path, log = place / f"{folder.resolve().name}.gguf", place / "log"
        command = [python, str(_WORKER), str(checkout), str(path), str(folder), "--outtype", _outtype(dtypes)]
        if part != "model":
            command.append(f"--{part}")
        with log.open("w", encoding="utf-8") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
            )
        ends.callback(_end, process)
        line = _pipes(process)[1].readline()
        if not line:
            raise _ended(process, log, folder, "before it was done with the model")
        try:
            ready = typed(json_object(line.encode()), _Ready)
        except ValueError as error:
            what = f"the converter in {checkout} isn't understood: {error}"
            raise ModelError(what, _KNOWN, file=folder) from error
        if not path.is_file():
            what = f"the converter in {checkout} wrote its header elsewhere"
            raise ModelError(what, _KNOWN, file=folder)
        needed = (_KEPT + 1) * max(nbytes for _, nbytes, _ in ready.tensors)
        scratch = _folder(ends, "quantrecipe-tensors-", _place(needed, folder))
        add_remote_file(path, _Converter(path, process, ready, log, scratch))
        atexit.register(ends.pop_all().close)
    return path


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    """Where questions go, and where answers come from."""
    return cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)


def _folder(ends: ExitStack, prefix: str, inside: Path | None = None) -> Path:
    """A folder that is there until the end."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=inside))
    ends.callback(shutil.rmtree, made, ignore_errors=True)
    return made


def _place(needed: int, model: Path) -> Path:
    """Where tensors are handed over: in memory, where there is room; containers often have next to none of it."""
    for place in (_SHARED, Path(tempfile.gettempdir())):
        if place.is_dir() and shutil.disk_usage(place).free > needed:
            return place
    what = f"its largest tensors take {file_text(needed)}, and neither {_SHARED} nor {tempfile.gettempdir()} has room"
    raise ModelError(what, "name another folder in TMPDIR", file=model)


def _require(python: str) -> None:
    """ModelError where this Python lacks what the converter imports."""
    look = "import importlib.util as u, sys; print(*(m for m in sys.argv[1:] if u.find_spec(m) is None))"
    try:
        done = subprocess.run(
            [python, "-c", look, *_NEEDED], capture_output=True, text=True, encoding="utf-8", check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        what = f"{python} can't be run: {getattr(error, 'strerror', None) or error}"
        raise ModelError(what, f"name another Python in {_PYTHON_VARIABLE}") from error
    if missing := done.stdout.split():
        what = f"llama.cpp's converter needs {' and '.join(missing)}, and {python} has none"
        remedy = f"pip install 'quantrecipe[converter]', or name a Python that has it in {_PYTHON_VARIABLE}"
        raise ModelError(what, remedy)


def _outtype(dtypes: Sequence[str]) -> str:
    """The converter's type that loses nothing of most matrices. What it decodes, such as FP8, it makes BF16."""
    known = {"BF16": "bf16", "F16": "f16", "F32": "f32"}
    if not known.keys() >= set(dtypes):
        return "bf16"
    return known[max(known, key=dtypes.count)]


def _ended(process: subprocess.Popen[str], log: Path, path: Path, when: str) -> ModelError:
    """What to raise where the process has ended, with the converter's own last words."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    code = process.returncode
    how = "ended" if not code else f"was killed (signal {-code})" if code < 0 else f"ended with status {code}"
    return _failed(f"llama.cpp's converter {how} {when}", log, path)


def _failed(what: str, log: Path, path: Path) -> ModelError:
    """An error with the converter's own last words below it, as it said them."""
    lines: list[str] = []
    with suppress(OSError):
        lines = [line.rstrip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    said = "these are its last words" if lines else "it said nothing"
    return ModelError([Problem(what=what, remedy=said, file=path, choices=tuple(lines[-_SHOWN:]))])


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(OSError), process:
        process.kill()
