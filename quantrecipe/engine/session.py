"""The worker from outside: start it, have it open a model, call functions there, and say what it died of.

    with Session("model.gguf") as session:
        counts = session.call(count_tokens, text.data)

where `count_tokens(model: LanguageModel, data: bytes, *, tell: Tell)` stands at the top level of a module: it goes to
the worker by its name, runs there, and what it returns comes back. `tell(value)` sends a value ahead, to the `hear` of
the call.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self, TypedDict, TypeVar

from quantrecipe.engine.libraries import Engine, find_engine
from quantrecipe.engine.messages import Ask, Call, Failed, Finished, Open, Told, receive, send
from quantrecipe.errors import EvaluationError
from quantrecipe.remote_files import remote_file

if TYPE_CHECKING:
    from quantrecipe.engine.language_model import ModelFacts

__all__ = [
    "Hear",
    "Log",
    "RunOptions",
    "Session",
    "Tell",
    "ask_engine",
    "death",
    "existing_gguf",
    "shards_of",
]

T = TypeVar("T")

Log = Callable[[str], None]
"""Told each line of llama.cpp's log, at the end of what was asked, whatever the end."""

Tell = Callable[[Any], None]
"""What a function in the worker tells its caller with, while it runs."""

Hear = Callable[[Any], None]
"""Hears what a function in the worker tells."""

_ILLEGAL_INSTRUCTION = (-4, 0xC000001D)  # SIGILL; Windows' STATUS_ILLEGAL_INSTRUCTION
_WAITING = {
    "OMP_WAIT_POLICY": "passive",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
"""Threads that wait sleep, unless the environment says otherwise: those of OpenMP spin by default, and those of NumPy's
BLAS, too, while llama.cpp needs the processors. What has much to multiply shares it out itself."""
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf")
_PATIENCE = 60  # seconds: drivers of several GPUs take some to begin
_LOOKED_THROUGH = 4000  # bytes of stderr


class RunOptions(TypedDict, total=False):
    """How llama.cpp runs a model. What is None, or isn't there, is left to it.

    threads:    None for all processors that this process may use
    gpu_layers: None for all, where llama.cpp was built for a GPU
    engine:     where llama.cpp is; None for what the environment names, or llama-cpp-python
    log:        told each line of llama.cpp's log
    """

    threads: int | None
    gpu_layers: int | None
    engine: Engine | str | Path | None
    log: Log | None


class Session:
    """A process of its own in which llama.cpp has a model open; a context manager.

    writable:  weights are kept in memory that can be written, as `swap` needs it: not mapped from the file, and not
               rearranged for speed
    overrides: what the model is to take for its own metadata: whole numbers, by key
    EvaluationError where llama.cpp, or the model, isn't fit for it; and from then on, where the process dies.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        gpu_layers: int | None = None,
        engine: Engine | str | Path | None = None,
        log: Log | None = None,
        writable: bool = False,
        overrides: Mapping[str, int] | None = None,
    ) -> None:
        self.path = existing_gguf(path)
        self._open = Open(
            path=str(self.path),
            threads=threads,
            gpu_layers=gpu_layers,
            writable=writable,
            overrides=overrides or {},
        )
        self._engine = find_engine(engine)
        self._log = log
        self._worker: _Process | None = None

    def __enter__(self) -> Self:
        self._worker = _Process(self._engine, self.path, self._log)
        try:
            self.facts: ModelFacts = self._worker.ask(self._open)
        except BaseException:
            self._worker.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._worker is not None:
            self._worker.stop()

    @property
    def died(self) -> bool:
        """True where the process has ended by itself, so that nothing can be asked of it any more."""
        return self._worker is not None and self._worker.ended

    def call(self, function: Callable[..., T], *arguments: Any, hear: Hear | None = None) -> T:
        """Run `function(model, *arguments, tell=…)` in the worker: its result.

        function: at the top level of a module that can be imported
        hear:     told what the function tells
        EvaluationError for what goes wrong there. After one that the function raised itself the session goes on; when
        the process has died, or the call was left by another exception (Ctrl-C, or one of `hear`), it doesn't.
        """
        if self._worker is None:
            raise EvaluationError("the session isn't open", "use it as a context manager")
        result: T = self._worker.ask(Call(function=function, arguments=arguments), hear)
        return result


class _Process:
    def __init__(self, engine: Engine, model: str | Path, log: Log | None) -> None:
        self._engine, self._model, self._log = engine, model, log
        self._told = 0  # bytes of the log that were told
        self._left = False  # in the middle of an answer: what comes next is none to the next question
        with ExitStack() as stack:
            self._errors = stack.enter_context(tempfile.TemporaryFile())
            self._process = _start(self._errors)
            self._asked, self._answers = _pipe(self._process.stdin), _pipe(self._process.stdout)
            stack.callback(self.stop)
            self.ask(engine)
            stack.pop_all()

    def ask(self, message: object, hear: Hear | None = None) -> Any:
        """The result of what was asked; EvaluationError for what the worker says is wrong, or for its death."""
        if self._left:
            what = "the process that runs llama.cpp was left in the middle of what it was asked"
            raise EvaluationError(what, "open another session", file=self._model)
        self._left = True
        try:
            answer = self._exchange(lambda: send(self._asked, message))
            while isinstance(answer, Told):
                if hear is not None:
                    hear(answer.what)
                answer = self._exchange()
            self._left = False
        finally:
            self._tell_log()
        match answer:
            case Finished(result=result):
                return result
            case Failed(problems=problems):
                raise EvaluationError(list(problems))
            case other:
                raise AssertionError(other)

    def _exchange(self, ask: Callable[[], None] | None = None) -> Any:
        """The next answer. EvaluationError where the process has died."""
        try:
            if ask is not None:
                ask()
            return receive(self._answers)
        except (EOFError, BrokenPipeError):
            self._left = False  # there is nothing to come
            status = self._process.wait()
            told = _read(self._errors, from_end=_LOOKED_THROUGH)
            raise death(status, told, self._engine, self._model) from None

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """End the process, which has nothing of ours that could be lost."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._asked, self._answers):
            with suppress(OSError):  # what couldn't be sent to a process that is gone
                pipe.close()
        self._tell_log()
        self._errors.close()

    def _tell_log(self) -> None:
        if self._log is None:
            return
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(self._told)
        self._told = size
        for line in self._errors.read().decode("utf-8", "replace").splitlines():
            self._log(line)


def existing_gguf(path: str | Path) -> Path:
    """The path, checked; of a shard, that of the first, which llama.cpp takes alone.

    EvaluationError that says how to make a GGUF of what it is instead.
    """
    path = Path(path)
    if path.is_dir():
        raise EvaluationError(
            "is a folder, and llama.cpp runs GGUF files",
            f"make one: quantrecipe apply llama.cpp/BF16 {path} -o {path.name}.bf16.gguf",
            file=path,
        )
    if (shard := _SHARD.fullmatch(path.name)) is not None:
        path = path.with_name(f"{shard[1]}-00001-of-{shard[2]}.gguf")
    if not path.exists():
        raise EvaluationError("there is no such file", file=path)
    if remote_file(path) is not None:
        what = "doesn't lie on this machine, and llama.cpp runs files of this machine"
        raise EvaluationError(what, "download it, and give the file", file=path)
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise EvaluationError(
                "is no GGUF file, and llama.cpp runs no other",
                f"make one: quantrecipe apply llama.cpp/BF16 {path} -o {path.stem}.bf16.gguf",
                file=path,
            )
    return path


def shards_of(path: Path) -> tuple[Path, ...]:
    """All files of a model, by the one that llama.cpp is given: see `existing_gguf`."""
    if (shard := _SHARD.fullmatch(path.name)) is None:
        return (path,)
    return tuple(
        path.with_name(f"{shard[1]}-{number:05d}-of-{shard[2]}.gguf")
        for number in range(1, int(shard[2]) + 1)
    )


def ask_engine(engine: Engine) -> dict[str, Any]:
    """What an engine says of itself: see `worker`. EvaluationError where it says nothing, or only what is wrong."""
    with tempfile.TemporaryFile() as errors, _start(errors) as process:
        try:
            told, _ = process.communicate(_asked(engine, Ask()), timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            what = f"says nothing of itself for {_PATIENCE} seconds; the driver of a GPU may hang"
            raise EvaluationError(what, "try a build for the CPU", file=engine.library) from None
        answers = _answers(told)
        if len(answers) < 2 or process.returncode:
            raise death(process.returncode, _read(errors, from_end=_LOOKED_THROUGH), engine, engine.library)
    match answers[-1]:
        case Failed(problems=problems):
            raise EvaluationError(list(problems))
        case Finished(result=facts):
            return dict(facts)
        case other:
            raise AssertionError(other)


def _asked(*messages: object) -> bytes:
    pipe = BytesIO()
    for message in messages:
        send(pipe, message)
    return pipe.getvalue()


def _answers(told: bytes) -> list[Any]:
    found, pipe = list[Any](), BytesIO(told)
    with suppress(EOFError):
        while True:
            found.append(receive(pipe))
    return found


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise AssertionError("the process was started with pipes")
    return pipe


def _read(file: IO[bytes], *, from_end: int) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - from_end))
    return file.read().decode("utf-8", "replace")


def _start(errors: IO[bytes]) -> subprocess.Popen[bytes]:
    package = str(Path(__file__).parents[2])  # this quantrecipe, however it was found
    path = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH", "")) if part)
    return subprocess.Popen(
        [sys.executable, "-m", "quantrecipe.engine.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=_WAITING | os.environ | {"PYTHONPATH": path},
    )


def death(status: int, told: str, engine: Engine, model: str | Path) -> EvaluationError:
    """Why a worker that ended with this status, and said this on stderr, wasn't able to go on with a model."""
    if status in _ILLEGAL_INSTRUCTION:
        what = "was built for another processor: this one doesn't know an instruction that it uses"
        return EvaluationError(what, engine.rebuild, file=engine.library)
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    asserted = [line for line in lines if "GGML_ASSERT" in line or "ggml_abort" in line]
    if status == -9:
        what = "llama.cpp was killed while it ran it, as systems do that run out of memory"
        return EvaluationError(what, "use a smaller context, or a machine with more memory", file=model)
    if asserted:
        what = f"llama.cpp gave up on it: {asserted[-1]}"
        return EvaluationError(what, "a newer llama.cpp may run it", file=model)
    if "Traceback" in told:
        trace = told[told.index("Traceback") :].strip()
        return EvaluationError(f"the process that runs llama.cpp failed:\n{trace}", file=model)
    last = f" after it said: {lines[-1]}" if lines else ""
    name = signal.Signals(-status).name if 0 < -status < 65 else f"status {status}"
    return EvaluationError(f"llama.cpp crashed ({name}){last}", "-v shows its log", file=model)
