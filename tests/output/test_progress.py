"""What a listener hears, and in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan, apply_plans
from quantrecipe.output.progress import Silent
from quantrecipe.output.verify.verify import verify_file
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.registry import Registry, load_registry
from quantrecipe.tensor import TensorInfo


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


class Heard(Silent):
    """Everything, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def start(self, weights: int) -> None:
        self.calls.append(("start", weights))

    def tensor(self, tensor: TensorInfo, types: tuple[str, ...]) -> None:
        self.calls.append(("tensor", tensor.name, types))

    def advance(self, weights: int, read: int, written: int) -> None:
        self.calls.append(("advance", weights, read, written))


def test_who_listens_to_nothing_may_be_told_anything() -> None:
    silent = Silent()
    assert silent.compiling(1, 2, "Q4_K encode") is None
    assert silent.start(5) is None
    assert silent.tensor(TensorInfo.from_name("a", (1,), "F32"), ("F32",)) is None
    assert silent.advance(1, 2, 3) is None


@pytest.mark.parametrize("threads", [1, 3])
def test_of_two_outputs(tmp_path: Path, registry: Registry, threads: int) -> None:
    model = open_model(write_gguf(tmp_path / "m.gguf", llama_tensors()))
    mixes = [recipe(rule("attn_v", "Q6_K"), default="Q8_0"), recipe(default="Q8_0")]
    plans = [make_plan(mix, model, registry=registry) for mix in mixes]
    heard = Heard()
    apply_plans(
        [(plan, tmp_path / f"{n}.gguf") for n, plan in enumerate(plans)],
        registry=registry,
        progress=heard,
        threads=threads,
    )
    assert heard.calls[0] == ("start", sum(t.size for t in model.tensors))
    names = [call[1] for call in heard.calls if call[0] == "tensor"]
    assert names == [a.tensor.name for a in plans[0].assignments]
    types = {call[1]: call[2] for call in heard.calls if call[0] == "tensor"}
    assert types["blk.0.attn_v.weight"] == ("Q6_K", "Q8_0")
    assert types["blk.0.attn_q.weight"] == ("Q8_0",)
    assert types["blk.0.attn_norm.weight"] == ("F32",)
    done = [call[1:] for call in heard.calls if call[0] == "advance"]
    weights, read, written = (sum(column) for column in zip(*done, strict=True))
    assert weights == sum(t.size for t in model.tensors)
    assert read == sum(e.nbytes for s in model.sources.values() for e in s.extents)
    own = sum(a.nbytes for a in plans[1].assignments if a.tensor.role == "attn_v")
    assert written == sum(a.nbytes for a in plans[0].assignments) + own  # what both have is made once


def test_of_a_verification(tmp_path: Path, registry: Registry) -> None:
    """It hashes the file and the source, and makes tensors again: each counts its weights."""
    model = open_model(write_gguf(tmp_path / "m.gguf", llama_tensors()))
    mix = load_recipe_text("quantrecipe: 1\nname: x\ndefault: Q8_0\n", registry=registry)
    made = apply_plan(make_plan(mix, model, registry=registry), tmp_path / "out.gguf", registry=registry)
    alone, whole = Heard(), Heard()
    verify_file(made.path, registry=registry, progress=alone)
    verify_file(made.path, registry=registry, source=model, sample=None, progress=whole)
    size = sum(t.size for t in model.tensors)
    for heard, times in ((alone, 1), (whole, 3)):
        assert heard.calls[0] == ("start", times * size)
        assert sum(call[1] for call in heard.calls if call[0] == "advance") == times * size
