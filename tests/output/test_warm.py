"""Kernels are compiled before the work, and only what isn't in the cache is told of."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.api import Encoder, FormatSpec, QuantFormat
from quantrecipe.core.jit import NotCached
from quantrecipe.core.processors import usable_processors
from quantrecipe.model.open_model import open_model
from quantrecipe.output import warm as module
from quantrecipe.output.warm import KernelJob, compile_jobs, compile_kernels, warm
from quantrecipe.planning import make_plan
from quantrecipe.recipe.recipe import EncoderChoice
from quantrecipe.registry import Registry, load_registry
from quantrecipe.tensor import TensorInfo


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.mark.parametrize(
    ("weighted", "decode", "text"),
    [
        (False, False, "Q4_K encode"),
        (True, False, "Q4_K encode, importance"),
        (False, True, "Q4_K decode"),
    ],
)
def test_what_people_are_told(weighted: bool, decode: bool, text: str, registry: Registry) -> None:
    assert str(KernelJob(format=registry.format("Q4_K"), weighted=weighted, decode=decode)) == text


def test_an_encoder_is_a_job_of_its_own(tmp_path: Path, registry: Registry) -> None:
    job = KernelJob(format=registry.format("Q4_K"), encoder=registry.encoder("feedback"))
    assert str(job) == "Q4_K encode, feedback"
    assert job.effort > KernelJob(format=registry.format("Q4_K"), weighted=True).effort
    source = write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1))
    mix = recipe(default="Q4_K", encoder=EncoderChoice(name="plain"))
    plan = make_plan(mix, open_model(source), registry=registry)
    told: list[str] = []
    asked: list[KernelJob] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_is_cached", lambda job: asked.append(job) or True)
        compile_kernels(plan.assignments, registry, lambda *said: told.append(said[2]))
    assert "Q4_K encode, plain" in {str(job) for job in asked}
    assert told == []


def test_an_encoder_runs_once_on_a_block() -> None:
    calls: list[tuple[Any, ...]] = []

    class Says(Encoder):
        name, summary, needs_statistics = "says", "notes its calls", True

        def prepare(self, statistics: Any, *, fmt: Any = None, threads: int = 1) -> Any:
            calls.append(("prepare", statistics.gram.shape, statistics.tokens))
            return 7

        def encode(
            self, rows: Any, fmt: Any, importance: Any = None, prepared: Any = None, *, out: Any = None
        ) -> Any:
            calls.append((fmt.spec.name, rows.shape, prepared))

    warm(load_registry(plugins=False).format("Q4_0"), encoder=Says())
    assert calls == [("prepare", (32, 32), 32), ("Q4_0", (1, 32), 7)]


class Recorder(QuantFormat):
    """Notes its calls; the first of each isn't in the cache."""

    spec = FormatSpec(name="Z", ggml_type=99, block=32, block_bytes=32, rows_per_group=4)

    def __init__(self, calls: list[tuple[Any, ...]], *, cached: bool = False) -> None:
        super().__init__()
        self.calls, self._cached = calls, cached

    def encode(self, rows: Any, importance: Any = None, *, out: Any = None) -> Any:
        self._note(("encode", rows.shape, None if importance is None else importance.shape))
        assert np.isfinite(rows).all()
        assert np.unique(rows).size > 1
        return np.zeros((len(rows), self.spec.row_bytes(rows.shape[1])), np.uint8)

    def decode(self, data: Any, k: int, *, out: Any = None) -> Any:
        self._note(("decode", data.shape, k))
        return np.zeros((len(data), k), np.float32)

    def _note(self, call: tuple[Any, ...]) -> None:
        self.calls.append(call)
        if not self._cached and self.calls.count(call) == 1:
            raise NotCached(str(call))


def test_only_what_is_missing_is_compiled_and_counted() -> None:
    told: list[tuple[int, int, str]] = []
    there: list[tuple[Any, ...]] = []
    missing: list[tuple[Any, ...]] = []
    jobs = [
        KernelJob(format=Recorder(there, cached=True)),
        KernelJob(format=Recorder(missing), weighted=True),
        KernelJob(format=Recorder(missing), decode=True),
    ]
    seconds = compile_jobs(jobs, lambda *what: told.append(what))
    assert told == [(1, 2, "Z encode, importance"), (2, 2, "Z decode")]
    assert seconds > 0
    assert there == [("encode", (4, 32), None)]
    assert missing == 2 * [("encode", (4, 32), (32,)), ("decode", (4, 32), 32)]


def test_nothing_is_said_and_no_time_taken_where_all_is_there() -> None:
    calls: list[tuple[Any, ...]] = []
    told: list[Any] = []
    assert compile_jobs([KernelJob(format=Recorder(calls, cached=True))], lambda *it: told.append(it)) == 0.0
    assert (told, len(calls)) == ([], 1)


def test_the_kernels_of_assignments(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each source's decoder and each target's encoder once; what only passes through has none."""
    jobs: list[str] = []
    monkeypatch.setattr(module, "compile_jobs", lambda found, *_: jobs.extend(map(str, found)) or 1.5)
    model = open_model(write_gguf(tmp_path / "m.gguf", llama_tensors()))
    counts = TensorInfo.from_name("blk.0.counts", (4,), "I32")
    model = replace(model, tensors=(*model.tensors, counts))
    mixes = [recipe(rule("attn_v", "Q6_K"), default="Q8_0"), recipe(rule("attn_v", "Q4_0"), default="Q8_0")]
    assignments = [a for mix in mixes for a in make_plan(mix, model, registry=registry).assignments]
    assert compile_kernels(assignments, registry, lambda *_: None) == 1.5
    assert jobs == ["BF16 decode", "F32 decode", "F32 encode", "Q4_0 encode", "Q6_K encode", "Q8_0 encode"]


@pytest.mark.parametrize("name", ["Q4_K", "IQ2_XS", "NVFP4", "BF16"])
def test_every_kind_of_format_can_be_warmed(name: str, registry: Registry) -> None:
    warm(registry.format(name))
    warm(registry.format(name), weighted=True)
    warm(registry.format(name), decode=True)


COMPILING = """
import sys
from quantrecipe.output.warm import KernelJob, compile_jobs
from quantrecipe.registry import load_registry
formats = load_registry(plugins=False).formats
jobs = [KernelJob(format=formats["Q8_0"]), KernelJob(format=formats["BF16"], decode=True)]
told = []
seconds = compile_jobs(jobs, lambda *what: told.append(what))
again = compile_jobs(jobs, lambda *what: told.append(what))
print(seconds > 0, again, "numba" in sys.modules, sorted(told))
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["work", "die at once", "can't be started"])
def test_several_kernels_are_compiled_in_processes(processes: str, tmp_path: Path) -> None:
    """So numba isn't even loaded here; where they don't do their work, it is done here all the same."""
    ways = {
        "work": "",
        "die at once": "sys.executable = '/bin/true'",
        "can't be started": "sys.executable = '/none'",
    }
    code = COMPILING.replace("told = []", f"told = []; {ways[processes]}")
    environment = os.environ | {"QUANTRECIPE_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    told = [(1, 2, "Q8_0 encode"), (2, 2, "BF16 decode")] if processes == "work" else None
    here = processes != "work" or usable_processors() == 1
    if told is not None:
        assert done.stdout.strip() == f"True 0.0 {here} {told}"
    else:
        assert done.stdout.startswith("True 0.0 True")


@pytest.mark.slow
def test_what_takes_longest_is_compiled_first(registry: Registry) -> None:
    q4, f16 = registry.format("Q4_K"), registry.format("F16")
    efforts = [
        KernelJob(format=q4, weighted=True).effort,
        KernelJob(format=q4).effort,
        KernelJob(format=q4, decode=True).effort,
        KernelJob(format=f16).effort,
        KernelJob(format=Recorder([])).effort,
    ]
    assert efforts == sorted(efforts, reverse=True)
    assert efforts[-1] == 0 < efforts[-2]


def test_odd_entries_of_the_path_are_passed_over_as_python_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [Path("folder"), "", *sys.path])
    with module._processes(1) as processes:
        assert len(processes) == 1


@pytest.mark.parametrize(("name", "value"), [("executable", None), ("executable", ""), ("frozen", True)])
def test_where_there_is_no_python_to_start_none_is(
    name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen application would be started once more."""
    monkeypatch.setattr(sys, name, value, raising=False)
    with module._processes(1) as processes:
        assert not processes


def test_a_process_that_speaks_nonsense_is_given_up(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nonsense(*_: Any) -> bool:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    monkeypatch.setattr(module, "_compile_in", nonsense)
    job = KernelJob(format=registry.format("Q8_0"))
    assert list(module._compile_in_processes([job], 1)) == [job]


def test_what_plugins_print_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = io.StringIO()

    def talking() -> Registry:
        sys.stdout.write("hello\n")
        return load_registry(plugins=False)

    monkeypatch.setattr(module, "load_registry", talking)
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"format": "F16", "weighted": false, "decode": true}\n'))
    monkeypatch.setattr(sys, "stdout", answers)
    module._serve()
    assert answers.getvalue() == "done\n"
