"""The process in which llama.cpp runs, apart from ours: what it prints, what it leaks and how it dies stay there.

`python -m quantrecipe.evaluate.worker` reads a request from stdin, a line of JSON, and answers on stdout, a line each:

    {"progress": [3, 40]}     after every chunk
    {"problems": [{…}]}       it can't be done; the fields of `Problem`
    {"facts": {…}}            what was asked for without a model: the engine's version and devices
    {"done": true}

llama.cpp's log goes to stderr, and so does what else it prints, to stdout as well.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from quantrecipe.errors import Problem, QuantrecipeError
from quantrecipe.evaluate.bindings import Llama, captured_log
from quantrecipe.evaluate.engine import LanguageModel
from quantrecipe.evaluate.in_process import run_model, run_reference
from quantrecipe.evaluate.libraries import Engine
from quantrecipe.evaluate.reference import read_reference
from quantrecipe.texts.plain_text import Text

__all__ = ["main"]


def main() -> None:
    """Serve one request."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    request = json.loads(sys.stdin.readline())
    try:
        _serve(request, answers)
    except QuantrecipeError as error:
        _answer(answers, problems=[_plain(problem) for problem in error.problems])
    else:
        _answer(answers, done=True)


def _serve(request: dict[str, Any], answers: TextIO) -> None:
    def progress(done: int, total: int) -> None:
        _answer(answers, progress=[done, total])

    engine = Engine.requested(request)
    if "model" not in request:
        _answer(answers, facts=_facts(engine))
        return
    reference = read_reference(request["reference"]) if request["texts"] is None else None
    n_ctx = request["n_ctx"] if reference is None else reference.n_ctx
    with LanguageModel(
        Path(request["model"]),
        engine,
        n_ctx=n_ctx,
        threads=request["threads"],
        gpu_layers=request["gpu_layers"],
        tell=sys.stderr.write,
    ) as model:
        if reference is not None:
            np.save(request["out"], run_model(model, reference, progress).stacked())
            return
        texts = [Text(name=text["name"], data=base64.b64decode(text["data"])) for text in request["texts"]]
        run_reference(
            model,
            texts,
            Path(request["out"]),
            chunks=request["chunks"],
            tail=request["tail"],
            key=request["key"],
            progress=progress,
        )


def _facts(engine: Engine) -> dict[str, Any]:
    llama = Llama(engine)
    with captured_log(llama, sys.stderr.write):
        llama.load_backends()
        return {
            "version": llama.version,
            "devices": [asdict(device) for device in llama.devices()],
            "refused": llama.refused(),
        }


def _plain(problem: Problem) -> dict[str, Any]:
    return asdict(problem) | {"file": None if problem.file is None else str(problem.file)}


def _answer(answers: TextIO, **content: object) -> None:
    answers.write(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
