"""A session: what a worker is asked and answers, its death, explained; and what is refused before there is one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from quantrecipe.engine import Engine
from quantrecipe.engine import session as session_module
from quantrecipe.engine import worker as worker_module
from quantrecipe.engine.bindings import last_words
from quantrecipe.engine.libraries import named_engine
from quantrecipe.engine.session import Session, ask_engine, death, existing_gguf, shards_of
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import Text, make_reference, read_text

TEXT = Text(name="t", data=b"some text")
ENGINE = Engine(library=Path("libllama.so"), source="llama-cpp-python")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF and nothing else")
    return path


def worker_that(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Another program in the worker's place, which has heard one message when `code` runs."""
    heard = (
        "import os, signal, sys, time\n"
        "from quantrecipe.engine.messages import *\n"
        "receive(sys.stdin.buffer)\n"
        "def answer(what): send(sys.stdout.buffer, what)\n"
    )

    def start(errors: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", heard + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,  # type: ignore[call-overload]  # a file
        )

    monkeypatch.setattr(session_module, "_start", start)


def failure(model: Path) -> str:
    with pytest.raises(EvaluationError) as error, Session(model, engine=ENGINE):
        pass
    return str(error.value)


def test_an_illegal_instruction(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    worker_that(monkeypatch, "os.kill(os.getpid(), signal.SIGILL)")
    message = failure(model)
    assert message.startswith("libllama.so: was built for another processor")
    assert "CMAKE_ARGS=-DGGML_NATIVE=OFF pip install" in message


def test_an_assertion_of_ggml(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    said = r"noise\nx.cpp:1: GGML_ASSERT(a == b) failed\n[New LWP]\n"
    code = f"sys.stderr.write('{said}'); sys.stderr.flush(); os.abort()"
    worker_that(monkeypatch, code)
    assert "llama.cpp gave up on it: x.cpp:1: GGML_ASSERT(a == b) failed" in failure(model)


@pytest.mark.skipif(sys.platform == "win32", reason="no signal kills there")
def test_killed(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    worker_that(monkeypatch, "os.kill(os.getpid(), signal.SIGKILL)")
    assert "run out of memory" in failure(model)


def test_dead_of_its_own_will(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    worker_that(monkeypatch, "os._exit(3)")
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
    worker_that(monkeypatch, "time.sleep(60)")
    monkeypatch.setattr(session_module, "_PATIENCE", 0.01)
    with pytest.raises(
        EvaluationError, match=r"libllama\.so: says nothing of itself .* the driver of a GPU may hang"
    ):
        ask_engine(ENGINE)


def test_an_engine_that_dies_of_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    worker_that(monkeypatch, "os.abort()")
    with pytest.raises(EvaluationError, match=r"libllama\.so: llama\.cpp crashed \(SIGABRT\)"):
        ask_engine(ENGINE)


def test_what_is_told_and_the_log(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    code = (
        "answer(Finished(result=None))\n"  # it knows the engine
        "receive(sys.stdin.buffer); answer(Finished(result='the facts'))\n"
        "for turn in 'ab':\n"
        "    call = receive(sys.stdin.buffer)\n"
        "    print('log of', turn, file=sys.stderr, flush=True)\n"
        "    answer(Told(what=(1, 2)))\n"
        "    answer(Finished(result=call.arguments))\n"
    )
    worker_that(monkeypatch, code)
    told: list[object] = []
    with Session(model, engine=ENGINE, log=told.append) as session:
        assert session.facts == "the facts"  # type: ignore[comparison-overlap]  # of the worker above
        assert session.call(job, 5, "x", hear=told.append) == (5, "x")  # type: ignore[comparison-overlap]  # the same
        assert told == [(1, 2), "log of a"]
        session.call(job)
        assert told == [(1, 2), "log of a", "log of b"]
        with pytest.raises(EvaluationError, match="crashed"):  # the worker has come to its end
            session.call(job)


@pytest.mark.parametrize("error", [BrokenPipeError, KeyboardInterrupt, EvaluationError("no")])
def test_a_call_that_is_left_leaves_no_answer_to_the_next(
    monkeypatch: pytest.MonkeyPatch, model: Path, error: BaseException | type[BaseException]
) -> None:
    """What hears may fail, or be stopped: that is no death of the worker, whose answers still come."""
    code = (
        "for turn in range(9):\n"
        "    answer(Told(what=turn))\n"
        "    answer(Finished(result=turn))\n"
        "    receive(sys.stdin.buffer)\n"
    )
    worker_that(monkeypatch, code)

    def hear(what: object) -> None:
        raise error

    kind = error if isinstance(error, type) else type(error)
    with Session(model, engine=ENGINE) as session:
        with pytest.raises(kind) as raised:
            session.call(job, hear=hear)
        assert "crashed" not in str(raised.value)
        with pytest.raises(EvaluationError, match="left in the middle of what it was asked; open another"):
            session.call(job)


def job(model: object, *arguments: object, tell: object) -> None:
    """Stands in for one: the worker of the test doesn't call it."""


def test_the_log_of_a_crash(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    worker_that(monkeypatch, "print('x' * 9000, file=sys.stderr, flush=True); os.abort()")
    told: list[str] = []
    with pytest.raises(EvaluationError, match="crashed"), Session(model, engine=ENGINE, log=told.append):
        pass
    assert told == ["x" * 9000]


def test_a_session_that_isn_t_open(model: Path) -> None:
    with pytest.raises(EvaluationError, match="isn't open"):
        Session(model, engine=ENGINE).call(job)


def test_of_shards_llama_cpp_gets_the_first(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"m-0000{number}-of-00002.gguf").write_bytes(b"GGUF")
    assert existing_gguf(tmp_path / "m-00002-of-00002.gguf") == tmp_path / "m-00001-of-00002.gguf"
    (tmp_path / "m-00001-of-00002.gguf").unlink()
    with pytest.raises(EvaluationError, match=r"m-00001-of-00002\.gguf: there is no such file"):
        existing_gguf(tmp_path / "m-00002-of-00002.gguf")


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


def test_all_shards_are_known_by_the_first() -> None:
    assert shards_of(Path("a/model.gguf")) == (Path("a/model.gguf"),)
    assert shards_of(Path("a/m-00001-of-00003.gguf")) == tuple(
        Path(f"a/m-0000{number}-of-00003.gguf") for number in (1, 2, 3)
    )


def test_other_machines_are_told_of_an_engine_that_was_named() -> None:
    named = Engine(library=Path("there/libllama.so"), source="--engine")
    assert named_engine(named) is named
    assert named_engine(Path("there")) == Path("there")
    assert named_engine(ENGINE) is named_engine(None) is None


def test_a_worker_ends_with_whoever_asks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parent is another process from then on."""
    parents = iter([5, 5, 5, 1])
    slept: list[float] = []

    def end(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(worker_module.os, "getppid", lambda: next(parents))
    monkeypatch.setattr(worker_module.os, "_exit", end)
    monkeypatch.setattr(worker_module.time, "sleep", slept.append)
    with pytest.raises(SystemExit):
        worker_module._end_with(5)
    assert len(slept) == 3


def test_a_session_knows_that_its_process_has_ended(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker_that(
        monkeypatch,
        "answer(Finished(result=None)); receive(sys.stdin.buffer); answer(Finished(result='facts'))\n"
        "receive(sys.stdin.buffer); os._exit(3)",
    )
    with Session(model, engine=ENGINE) as session:
        assert not session.died
        with pytest.raises(EvaluationError, match="crashed"):
            session.call(print)
        assert session.died
