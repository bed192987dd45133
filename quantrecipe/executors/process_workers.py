"""Workers of the executor `processes`: processes of this machine. For one that dies another is started.

Each is a Python of its own (`worker_process.py`), with which a thread of this process talks through pipes:

    we write    the order; then a task
    it writes   what became of it; then of the task

A message is the length of a pickle, as 8 bytes, and the pickle.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import IO, Any

from quantrecipe.api import Order, Outcome, Task, Workers
from quantrecipe.errors import PluginError

__all__ = ["ProcessWorkers", "receive", "send"]

_REPLACED = 3
"""Workers in place of each that has died, before its place stays empty."""

_SHOWN = 300
"""Characters of what a worker said last that are told when it has died."""


class ProcessWorkers(Workers):
    def __init__(self, order: Order, workers: int, threads: int, note: str = "") -> None:
        """note: what the user should know of them; "" for nothing."""
        self._opening = pickle.dumps((order, threads))
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._ended: SimpleQueue[Outcome] = SimpleQueue()
        if note:
            self._ended.put(Outcome(number=None, lost=note))
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._keep_up, name=f"worker-{number}", daemon=True)
            for number in range(workers)
        ]
        self._width = workers
        for thread in self._threads:
            thread.start()

    @property
    def width(self) -> int:
        return self._width

    @property
    def pids(self) -> list[int]:
        """Of the processes that run."""
        with self._lock:
            return [process.pid for process in self._processes]

    def begin(self, task: Task) -> None:
        self._tasks.put(task)

    def ended(self, seconds: float) -> Outcome | None:
        try:
            return self._ended.get(timeout=seconds)
        except Empty:
            if not self._width:
                raise PluginError(
                    "no worker process is left", "see what they said before they ended"
                ) from None
            return None

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.kill()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _keep_up(self) -> None:
        """What each thread does: have a process that works, as often as there is hope."""
        try:
            for _ in range(1 + _REPLACED):
                if not self._serve():
                    return
        finally:
            with self._lock:
                self._width -= 1

    def _serve(self) -> bool:
        """Have a process do tasks; True if it has died, and another might do better."""
        with tempfile.TemporaryFile() as said:
            process = self._start(said)
            if process is None:
                return False
            where = f"process {process.pid}"
            task: Task | None = None
            try:
                write, read = process.stdin, process.stdout
                if write is None or read is None:
                    return False
                send(write, self._opening)
                opened: Outcome = receive(read)
                if opened.error is not None:
                    self._ended.put(opened)
                    return False
                while (task := self._tasks.get()) is not None:
                    send(write, pickle.dumps(task))
                    self._ended.put(receive(read))
                return False
            except (OSError, EOFError):  # the pipe of a process that has died
                code = process.wait()
                if self._closed:
                    return False
                lost = f"it died ({_how(code)}){_last(said)}"
                self._ended.put(Outcome(number=None if task is None else task.number, where=where, lost=lost))
                return True
            finally:
                with self._lock:
                    self._processes.discard(process)
                process.kill()
                process.communicate()

    def _start(self, said: IO[bytes]) -> subprocess.Popen[bytes] | None:
        """A new process; None where all are to end."""
        paths = [path for path in sys.path if isinstance(path, str) and path]
        with self._lock:
            if self._closed:
                return None
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "quantrecipe.executors.worker_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            )
            self._processes.add(process)
            return process


def send(stream: IO[bytes], message: bytes) -> None:
    """Write a message. OSError where nobody reads it."""
    stream.write(struct.pack("<Q", len(message)))
    stream.write(message)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """What a message says. EOFError where the other side has ended."""
    (length,) = struct.unpack("<Q", _exactly(stream, 8))
    return pickle.loads(_exactly(stream, length))  # of a process that this one has started, or the reverse


def _exactly(stream: IO[bytes], count: int) -> bytearray:
    found = bytearray(count)
    rest = memoryview(found)
    while rest:
        got = stream.readinto(rest)  # type: ignore[attr-defined]  # every binary stream of a pipe has it
        if not got:
            raise EOFError
        rest = rest[got:]
    return found


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def _last(said: IO[bytes]) -> str:
    """The end of what a process wrote to stderr."""
    text = b""
    with suppress(OSError):
        said.seek(0)
        text = said.read()[-_SHOWN:]
    last = " ".join(text.decode(errors="replace").split())
    return f", and said: {last}" if last else ""
