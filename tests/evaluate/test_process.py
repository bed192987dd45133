"""A worker's death, explained; and what is refused before there is one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import Engine, Text, make_reference, read_text
from quantrecipe.evaluate import process as process_module
from quantrecipe.evaluate.bindings import last_words
from quantrecipe.evaluate.process import ask_worker, death, run_worker

TEXT = Text(name="t", data=b"some text")
ENGINE = Engine(library=Path("libllama.so"), source="llama-cpp-python")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF and nothing else")
    return path


def worker_that(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Another program in the worker's place."""

    def start(request: object, errors: object) -> subprocess.Popen[str]:
        with tempfile.TemporaryFile() as asked:
            asked.write(b"{}\n")
            asked.seek(0)
            return subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=asked,
                stdout=subprocess.PIPE,
                stderr=errors,  # type: ignore[call-overload]  # a file
                encoding="utf-8",
            )

    monkeypatch.setattr(process_module, "_start", start)


def failure(model: Path) -> str:
    with pytest.raises(EvaluationError) as error:
        run_worker({"model": str(model)} | ENGINE.request, progress=None, log=None)
    return str(error.value)


def test_an_illegal_instruction(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    worker_that(monkeypatch, "import os, signal; input(); os.kill(os.getpid(), signal.SIGILL)")
    message = failure(model)
    assert message.startswith("libllama.so: was built for another processor")
    assert "CMAKE_ARGS=-DGGML_NATIVE=OFF pip install" in message


def test_an_assertion_of_ggml(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    said = r"noise\nx.cpp:1: GGML_ASSERT(a == b) failed\n[New LWP]\n"
    code = f"import os, sys; input(); sys.stderr.write('{said}'); sys.stderr.flush(); os.abort()"
    worker_that(monkeypatch, code)
    assert "llama.cpp gave up on it: x.cpp:1: GGML_ASSERT(a == b) failed" in failure(model)


def test_killed(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    worker_that(monkeypatch, "import os, signal; input(); os.kill(os.getpid(), signal.SIGKILL)")
    assert "run out of memory" in failure(model)


def test_dead_before_it_read(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    worker_that(monkeypatch, "import os; os._exit(3)")
    assert "llama.cpp crashed (status 3)" in failure(model)


def test_other_deaths() -> None:
    assert "crashed (SIGSEGV) after it said: last" in str(death(-11, "first\nlast\n", ENGINE, "m.gguf"))
    theirs = Engine(library=Path("llama.dll"), source="--engine")
    message = str(death(0xC000001D, "", theirs, "m.gguf"))
    assert message.startswith("llama.dll: was built for another processor")
    assert "or build it here with -DGGML_NATIVE=OFF" in message
    assert "ZeroDivisionError" in str(death(1, "Traceback (…)\nZeroDivisionError: x", ENGINE, "m.gguf"))


def test_the_worker_itself_says_what_it_can_t_do(model: Path) -> None:
    """The real worker, without the library."""
    engine = Engine(library=model.parent / "libllama.so", source="--engine")
    with pytest.raises(EvaluationError, match=r"libllama\.so: can't be loaded: "):
        make_reference(model, TEXT, model.parent / "out", engine=engine)


def test_an_engine_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    worker_that(monkeypatch, "import time; input(); time.sleep(60)")
    monkeypatch.setattr(process_module, "_PATIENCE", 0.01)
    with pytest.raises(
        EvaluationError, match=r"libllama\.so: says nothing of itself .* the driver of a GPU may hang"
    ):
        ask_worker(ENGINE)


def test_an_engine_that_dies_of_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    worker_that(monkeypatch, "import os; input(); os.abort()")
    with pytest.raises(EvaluationError, match=r"libllama\.so: llama\.cpp crashed \(SIGABRT\)"):
        ask_worker(ENGINE)


def test_progress_and_log(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    code = (
        "import json, sys; input()\n"
        "for answer in ({'progress': [1, 2]}, {'progress': [2, 2]}, {'done': True}):\n"
        "    print(json.dumps(answer))\n"
        "    print('a line', file=sys.stderr)"
    )
    worker_that(monkeypatch, code)
    told: list[object] = []
    run_worker(
        {"model": str(model)} | ENGINE.request, progress=lambda *done: told.append(done), log=told.append
    )
    assert told == [(1, 2), (2, 2), "a line", "a line", "a line"]


def test_the_log_of_a_crash(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    worker_that(
        monkeypatch, "import os, sys; input(); print('x' * 9000, file=sys.stderr, flush=True); os.abort()"
    )
    told: list[str] = []
    with pytest.raises(EvaluationError, match="crashed"):
        run_worker({"model": str(model)} | ENGINE.request, progress=None, log=told.append)
    assert told == ["x" * 9000]


class TestRefused:
    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(EvaluationError, match=r"is a folder.*quantrecipe apply llama\.cpp/BF16"):
            make_reference(tmp_path, TEXT, tmp_path / "out")

    def test_no_gguf(self, tmp_path: Path) -> None:
        (tmp_path / "model.safetensors").write_bytes(b"\0" * 20)
        with pytest.raises(EvaluationError, match=r"is no GGUF file.*quantrecipe apply llama\.cpp/BF16"):
            make_reference(tmp_path / "model.safetensors", TEXT, tmp_path / "out")

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(EvaluationError, match="there is no such file"):
            make_reference(tmp_path / "model.gguf", TEXT, tmp_path / "out")

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"n_ctx": 8}, "a context of 8 tokens is too short; use 16 or more"),
            ({"chunks": 0}, "0 chunks are none"),
            ({"tail": 1.0}, "a tail of 1.0 is no probability"),
        ],
    )
    def test_settings(self, model: Path, settings: dict[str, float], message: str) -> None:
        with pytest.raises(EvaluationError, match=message):
            make_reference(model, TEXT, model.parent / "out", **settings)  # type: ignore[arg-type]  # by name

    def test_texts(self, model: Path) -> None:
        with pytest.raises(EvaluationError, match="two texts of the name t"):
            make_reference(model, [TEXT, TEXT], model.parent / "out")
        with pytest.raises(EvaluationError, match="no text to evaluate on"):
            make_reference(model, [], model.parent / "out")
        with pytest.raises(EvaluationError, match="the text can't be read"):
            read_text(model.parent / "none.txt")
        (model.parent / "empty.txt").write_bytes(b" \n")
        with pytest.raises(EvaluationError, match="the text is empty"):
            read_text(model.parent / "empty.txt")


def test_the_reason_in_a_log() -> None:
    log = [
        (2, "llama_model_loader: - kv 0\n"),
        (4, "llama_model_load: error loading model: unknown x\n"),
        (4, "y"),
    ]
    assert last_words(log) == "unknown x"
    assert last_words([(2, "all is well")]) == ""
