"""Statistics by an executor's workers: the matrix is that of one process, whoever computed what, and whoever died."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fake_graph import FakeModel, FakeSession, tensors
from support.fake_workers import FakeWorkerSession, install
from support.models import llama_metadata, write_gguf

from quantrecipe.api import Executor, LostTaskError, Order, Workers
from quantrecipe.calibration import CalibrationSettings, Computed, Saved, WorkerNote, compute_importance
from quantrecipe.calibration import by_executor as module
from quantrecipe.calibration.by_executor import open_elsewhere, open_worker
from quantrecipe.calibration.collect import sums_of, tokenize
from quantrecipe.errors import EvaluationError, ModelError, OutputError, PluginError
from quantrecipe.executors.local import Processes, Threads
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.importance.to_gguf import encode_gguf
from quantrecipe.texts import Domain, Rendered

EXPERTS = {"llama.expert_count": GGUFValue.of(ValueType.UINT32, 4)}
SETTINGS = CalibrationSettings(contexts=(64, 512), output=True, embeddings=True)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(monkeypatch, tmp_path / "startup")
    monkeypatch.setattr("quantrecipe.calibration.compute.Session", FakeSession)
    write_gguf(tmp_path / "model.gguf", tensors(), {**llama_metadata(), **EXPERTS})
    return tmp_path


def characters(seed: int, size: int) -> str:
    """Each of which is a token."""
    return np.random.default_rng(seed).integers(0, 90, size, np.uint8).tobytes().decode("ascii")


def rendered(text: str) -> Rendered:
    return Rendered(text=text, special=False, answers=(), place="a text")


def domains(size: int = 8_000) -> list[tuple[Domain, list[Rendered]]]:
    found = []
    for number, weight in enumerate((2.0, 1.0)):
        domain = Domain(name=f"text{number}", weight=weight, documents=(), digest=str(number), files=())
        found.append((domain, [rendered(characters(number, size))]))
    return found


@pytest.fixture
def compute(here: Path) -> Callable[..., tuple[Computed, bytes]]:
    def run(
        executor: Executor | None = None, settings: CalibrationSettings = SETTINGS, **more: Any
    ) -> tuple[Computed, bytes]:
        out = here / "importance.gguf"
        computed = compute_importance(
            here / "model.gguf", domains(), out, settings, executor=executor, **more
        )
        data = b"".join(bytes(it) for it in encode_gguf(computed.measurement).pieces())
        computed.done()
        return computed, data

    return run


Compute = Callable[..., tuple[Computed, bytes]]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_matrix_is_that_of_one_process(compute: Compute, workers: int) -> None:
    alone, expected = compute()
    shared, found = compute(Threads({"workers": workers}))
    assert found == expected
    assert (shared.collected, shared.prepared, shared.read) == (
        alone.collected,
        alone.prepared,
        alone.read,
    )
    assert alone.collected.groups > 10


def test_it_ends_where_one_process_would(compute: Compute) -> None:
    settings = replace(SETTINGS, until=0.2)
    alone, expected = compute(settings=settings)
    shared, found = compute(Threads({"workers": 3}), settings)
    assert alone.collected.enough
    assert shared.collected == alone.collected
    assert found == expected


def test_experts_are_filled_by_workers_too(compute: Compute) -> None:
    settings = replace(SETTINGS, all_experts=True)
    alone, expected = compute(settings=settings)
    shared, found = compute(Threads(), settings)
    assert alone.filled == shared.filled == 2
    assert found == expected


@pytest.mark.slow  # starts processes, which load Python and this package
class TestProcesses:
    def test_one_that_is_killed_at_work_is_told_and_missed_by_nobody(
        self, compute: Compute, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, expected = compute()
        monkeypatch.setenv("FAKE_DIES", str(here / "died"))
        heard: list[Any] = []
        _, found = compute(Processes({"workers": 2}), hear=heard.append)
        assert (here / "died").exists()
        assert found == expected
        notes = [it.what for it in heard if isinstance(it, WorkerNote)]
        assert len(notes) == 1
        assert "it died (signal 9)" in notes[0]

    def test_another_version_is_refused(
        self, compute: Compute, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAKE_VERSION", "0.0.7")
        with pytest.raises(PluginError, match=r"has quantrecipe 0\.0\.7 \(expected: "):
            compute(Processes({"workers": 1}))
        assert not (here / "importance.gguf.sums").exists()


def test_a_worker_opens_the_model_again_if_llama_cpp_ends(
    compute: Compute, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected = compute()
    monkeypatch.setenv("FAKE_LOSES", str(here / "lost"))
    monkeypatch.setattr(FakeWorkerSession, "opened", 0)
    heard: list[Any] = []
    _, found = compute(Threads({"workers": 1}), hear=heard.append)
    assert found == expected
    assert FakeWorkerSession.opened == 2
    (note,) = (it.what for it in heard if isinstance(it, WorkerNote))
    assert "llama.cpp was killed while it ran it" in note


def test_what_llama_cpp_dies_of_each_time_is_given_up(
    compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(self: FakeWorkerSession, function: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        if function is sums_of:
            self.died = True
            raise EvaluationError("llama.cpp was killed while it ran it")
        return FakeSession.call(self, function, *arguments)

    monkeypatch.setattr(FakeWorkerSession, "call", dies)
    with pytest.raises(OutputError, match=r"group of chunks \d was lost 3 times.* more memory"):
        compute(Threads({"workers": 1}))


@pytest.mark.parametrize("first", [None, Threads({"workers": 2})], ids=["one process", "an executor"])
def test_a_stopped_run_goes_on_either_way(
    compute: Compute, monkeypatch: pytest.MonkeyPatch, first: Executor | None
) -> None:
    _, expected = compute()
    settings = replace(SETTINGS, save_every=0.0)

    class _StoppedError(Exception):
        pass

    def stop(what: object) -> None:
        if isinstance(what, Saved) and what.groups >= 5:
            raise _StoppedError

    with pytest.raises(_StoppedError):
        compute(first, settings, hear=stop)
    heard: list[Any] = []
    _, found = compute(Threads({"workers": 2}) if first is None else None, settings, hear=heard.append)
    assert found == expected
    resumed = [it.groups for it in heard if isinstance(it, Saved) and it.resumed]
    assert len(resumed) == 1
    assert resumed[0] >= 5


def test_numbers_that_are_none_are_located(
    compute: Compute, monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    settings = CalibrationSettings(contexts=(64,))
    real = FakeModel.graph

    def broken(self: FakeModel, chunk: Any) -> Any:
        products = real(self, chunk)
        if np.array_equal(chunk, tokens[70 * 64 : 71 * 64]):
            products[1].rows[0, 0, 2, 1] = np.nan
        return products

    tokens = np.frombuffer(characters(0, 8_000).encode(), np.uint8).astype(np.int32)
    monkeypatch.setattr(FakeModel, "graph", broken)
    said = []
    for executor in (None, Threads({"workers": 2})):
        with pytest.raises(EvaluationError) as caught:
            compute(executor, settings)
        said.append(str(caught.value))
        (here / "importance.gguf.sums").unlink(missing_ok=True)
    assert "chunk 1" in said[0]
    assert "token 3" in said[0]
    assert said[1] == said[0]


class _Noted(Threads):
    """Notes the order that workers are opened from."""

    def open(self, order: Order) -> Workers:
        self.order = order
        return super().open(order)


def test_workers_hold_a_model_and_sessions_end_with_them(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[object] = []
    monkeypatch.setattr(FakeWorkerSession, "__exit__", lambda self, *error: left.append(self))
    executor = _Noted({"workers": 1})
    with open_elsewhere(executor, here / "model.gguf", lambda it: None, memory=5) as elsewhere:
        assert elsewhere.facts.n_vocab == 100
        assert elsewhere.call(tokenize, [rendered("abc")])[0].tolist() == [97, 98, 99]
        assert left == []
        assert (elsewhere.width, elsewhere.per_machine) == (1, 1)
        calls = ((1, (number,)) for number in range(3))
        assert sorted(elsewhere.each(_right, calls, "number", in_order=False)) == [1, 2, 3]
    gc.collect()
    assert len(left) == 1
    assert executor.order.memory == 5
    assert executor.order.packages[0][0] == "quantrecipe"


def test_another_file_and_another_llama_cpp_are_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = _Noted({"workers": 1})
    with open_elsewhere(executor, here / "model.gguf", lambda it: None):
        pass
    given = dict(executor.order.given)
    with pytest.raises(EvaluationError, match=r"has llama.cpp none \(expected: b2\)"):
        open_worker(given | {"version": "b2"}, 1)
    data = bytearray((here / "model.gguf").read_bytes())
    data[-1] ^= 1
    (here / "model.gguf").write_bytes(data)
    with pytest.raises(ModelError, match=r"isn't the same file on .* as where the command runs"):
        open_worker(given, 1)


def test_an_error_of_the_task_is_none_of_the_session(here: Path) -> None:
    executor = _Noted({"workers": 1})
    with open_elsewhere(executor, here / "model.gguf", lambda it: None):
        pass
    worker = open_worker(executor.order.given, 1)
    with pytest.raises(EvaluationError, match="is wrong"):
        worker((_wrong, ()))
    assert worker((_right, (2,))) == 3
    session = worker._session  # type: ignore[attr-defined]
    session.died = True
    assert worker((_right, (4,))) == 5
    assert worker._session is not session  # type: ignore[attr-defined]
    assert module.LostTaskError is LostTaskError


def _wrong(model: FakeModel, *, tell: Any) -> None:
    raise EvaluationError("the task is wrong")


def _right(model: FakeModel, number: int, *, tell: Any) -> int:
    return number + 1
