"""Statistics and probes by the nodes of a cluster are those of one process. llama.cpp is real: see `models`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from quantrecipe.analyses.error import Error
from quantrecipe.analyses.probe import Probe
from quantrecipe.api import Executor
from quantrecipe.calibration import CalibrationSettings, Ran, WorkerNote, compute_importance
from quantrecipe.engine import find_engine
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import read_text
from quantrecipe.importance.to_gguf import encode_gguf
from quantrecipe.measure import Measurement, Passes, measure
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry
from quantrecipe.texts import read_domain, render

from quantrecipe_ray import RayExecutor

ROOT = Path(__file__).parents[3]
TEXT = ROOT / "tests/data/texts/code.val.txt"
REGISTRY = load_registry(plugins=False)


def _engine() -> str:
    """Why there is no llama.cpp; "" where there is one."""
    try:
        find_engine()
    except EvaluationError as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(_engine()), reason=f"llama.cpp: {_engine()}")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example in BF16."""
    out = tmp_path_factory.mktemp("model") / "tiny.gguf"
    plan = make_plan(
        load_recipe("llama.cpp/BF16", registry=REGISTRY),
        open_model(ROOT / "examples/tiny-code", registry=REGISTRY),
        registry=REGISTRY,
    )
    return apply_plan(plan, out, registry=REGISTRY).path


def matrix(model: Path, out: Path, executor: Executor | None, hear: Callable[[Any], None]) -> bytes:
    domain = read_domain(str(TEXT))
    computed = compute_importance(
        model,
        [(domain, render(domain, None))],
        out,
        CalibrationSettings(chunks=24),
        executor=executor,
        hear=hear,
    )
    data = b"".join(bytes(it) for it in encode_gguf(computed.measurement).pieces())
    computed.done()
    return data


def test_a_matrix_is_that_of_one_process_whatever_dies(
    model: Path, cluster: Any, node: Callable[..., Any], tmp_path: Path
) -> None:
    import psutil

    expected = matrix(model, tmp_path / "one.gguf", None, lambda it: None)
    four = node("four")
    cluster.wait()
    heard: list[Any] = []
    killed: list[int] = []

    def hear(what: Any) -> None:
        heard.append(what)
        if isinstance(what, Ran) and not killed:
            raylet = psutil.Process(cluster.raylet(four))
            engines = [
                it for it in raylet.children(recursive=True) if "quantrecipe.engine.worker" in it.cmdline()
            ]
            killed.extend(it.ppid() for it in engines)
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    assert matrix(model, tmp_path / "ray.gguf", RayExecutor(), hear) == expected
    assert len(killed) == 1
    assert any(isinstance(it, WorkerNote) and "four" in it.what for it in heard)


def test_probes_are_those_of_one_process(model: Path, cluster: Any, tmp_path: Path) -> None:
    found = []
    for name, executor in (("one", None), ("ray", RayExecutor({"workers": 2}))):
        what = Measurement(
            types=("Q3_K", "Q4_K"),
            analysis=Error(),
            weighing=Probe(),
            probes=2,
            sample=1 << 14,
            passes=Passes(texts=(read_text(TEXT),), tokens=2048, resident="BF16", executor=executor),
            work=tmp_path,
        )
        out = tmp_path / f"{name}.jsonl"
        measure(open_model(model, registry=REGISTRY), out, what, registry=REGISTRY)
        found.append(out.read_bytes())
    assert found[0] == found[1]
    assert sorted(it.name for it in tmp_path.iterdir()) == ["one.jsonl", "ray.jsonl"]
