"""What a model takes on the CPU is what llama.cpp's own log says when it loads it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quantrecipe.memory.device import Division, Settings
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry

pytestmark = pytest.mark.llama

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
Q8_0, F16 = 8, 1


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    registry = load_registry(plugins=False)
    plan = make_plan(
        load_recipe("llama.cpp/Q4_K_M", registry=registry),
        open_model(ROOT / "examples/tiny-code"),
        registry=registry,
    )
    path = tmp_path_factory.mktemp("memory") / "tiny-code.gguf"
    return plan, apply_plan(plan, path, registry=registry).path


@pytest.mark.parametrize("context", [512, 4096, 32768])
@pytest.mark.parametrize("kv", ["f16", "q8_0"])
def test_the_load_log(
    made: tuple[Plan, Path], capfd: pytest.CaptureFixture[str], context: int, kv: str
) -> None:
    import llama_cpp

    plan, path = made
    type_ = {"f16": F16, "q8_0": Q8_0}[kv]
    model = llama_cpp.Llama(
        str(path),
        n_ctx=context,
        n_batch=512,
        n_ubatch=512,
        n_gpu_layers=0,
        type_k=type_,
        type_v=type_,
        flash_attn=True,
        logits_all=True,
        verbose=True,
    )
    model.close()
    log = capfd.readouterr().err
    said = {
        what: sum(float(text) for text in re.findall(rf"{what} buffer size = +([\d.]+) MiB", log))
        for what in ("KV", "compute", "model")
    }
    found = Division(plan.model, Settings(context=context, kv=kv, layers=0)).cpu(
        (a.tensor, a.nbytes) for a in plan.assignments
    )
    assert said["KV"] == pytest.approx(found.cache / MIB, rel=0.01)
    whole = said["KV"] + said["compute"]
    assert (found.cache + found.compute) / MIB == pytest.approx(whole, rel=0.05, abs=0.5)
