"""The process in which llama.cpp runs, apart from ours: what it prints, what it leaks and how it dies stay there.

`python -m quantrecipe.engine.worker` takes messages from stdin and answers on stdout: see `messages`. The first
says where the engine is. llama.cpp's log goes to stderr, and so does what else it prints, to stdout as well.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from quantrecipe.engine.bindings import Llama, captured_log
from quantrecipe.engine.graph import Callback, Ggml
from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.engine.libraries import Engine
from quantrecipe.engine.messages import Ask, Call, Failed, Finished, Open, Told, receive, send
from quantrecipe.errors import EvaluationError, Problem, QuantrecipeError

__all__ = ["main"]

_LOOK_SECONDS = 1.0
"""Between two looks at whether the process that asks is still there."""


def main() -> None:
    """Serve until the other side has no more to ask."""
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=_end_with, args=(os.getppid(),), name="end", daemon=True).start()
    with ExitStack() as stack:
        worker = _Worker(answers, stack)
        while True:
            try:
                message = receive(questions)
            except EOFError:
                return
            except (AttributeError, ImportError) as error:  # of a pickled function
                what = f"the process that runs llama.cpp can't find a function: {error}"
                remedy = "define it at the top level of a module that can be imported"
                send(answers, Failed(problems=(Problem(what=what, remedy=remedy),)))
                continue
            try:
                send(answers, Finished(result=worker.serve(message)))
            except QuantrecipeError as error:
                send(answers, Failed(problems=tuple(_plain(problem) for problem in error.problems)))
            except MemoryError:
                what, remedy = "there isn't enough memory", "a smaller context takes less"
                send(answers, Failed(problems=(Problem(what=what, remedy=remedy),)))


class _Worker:
    def __init__(self, answers: BinaryIO, stack: ExitStack) -> None:
        self._answers, self._stack = answers, stack
        self._engine: Engine | None = None
        self._model: LanguageModel | None = None

    def serve(self, message: object) -> Any:
        match message:
            case Engine():
                self._engine = message
            case Ask():
                return _facts(self._named)
            case Open():
                model = LanguageModel(
                    Path(message.path),
                    self._named,
                    threads=message.threads,
                    gpu_layers=message.gpu_layers,
                    writable=message.writable,
                    overrides=message.overrides,
                    tell=sys.stderr.write,
                )
                self._model = self._stack.enter_context(model)
                return model.facts
            case Call() if self._model is not None:
                return message.function(self._model, *message.arguments, tell=self._tell)
            case _:
                raise EvaluationError(f"the process that runs llama.cpp isn't asked in order: {message!r}")
        return None

    @property
    def _named(self) -> Engine:
        if self._engine is None:
            raise EvaluationError("the process that runs llama.cpp wasn't told which")
        return self._engine

    def _tell(self, what: object) -> None:
        send(self._answers, Told(what=what))


def _end_with(asker: int) -> None:
    """End this process soon after the one that asks: a chunk of a large model takes minutes, and nobody wants it."""
    while os.getppid() == asker:  # on Windows for ever; there the next answer finds nobody
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _facts(engine: Engine) -> dict[str, Any]:
    llama = Llama(engine)
    with captured_log(llama, sys.stderr.write):
        llama.load_backends()
        return {
            "version": llama.version,
            "devices": [asdict(device) for device in llama.devices()],
            "refused": llama.refused(),
            "sealed": _sealed(llama),
        }


def _sealed(llama: Llama) -> str:
    """Why models can't be looked into and changed by this llama.cpp; "" where nothing speaks against it."""
    try:
        llama.make_writable(llama.llama_model_default_params())
        llama.set_callback(llama.llama_context_default_params(), Callback(Ggml(llama)).function)
    except EvaluationError as error:
        return str(error)
    return ""


def _plain(problem: Problem) -> Problem:
    return Problem(**asdict(problem) | {"file": None if problem.file is None else str(problem.file)})


if __name__ == "__main__":
    main()
