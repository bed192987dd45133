"""apply with a store: the same bytes and the same report, whoever made what is in it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.gram_statistics import write_statistics
from support.interrupted import left_after, put_back
from support.models import llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.errors import NonFiniteError
from quantrecipe.model.open_model import open_model
from quantrecipe.output import first_rows, row_units
from quantrecipe.output.apply import Result, apply_plan, apply_plans
from quantrecipe.output.store import shelf as module
from quantrecipe.output.store.store import open_store
from quantrecipe.output.store.upkeep import damage_of, entries_of
from quantrecipe.output.transform import Rows
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry, load_registry

EXAMPLE = Path(__file__).parents[3] / "examples/tiny-code/model.safetensors"
MIX = recipe(rule("attn_v", "Q8_0"), rule("ffn_down", "F16"), rule("ffn_up", "NVFP4"), default="Q4_K")
WORTH = {
    *(f"blk.0.{name}.weight" for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate")),
    *("token_embd.weight", "output.weight"),
}
"""What is worth keeping of MIX: no floats, and nothing that has factors beside it."""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_units.split, "__defaults__", (1, 20_000))
    monkeypatch.setattr(module, "LEAST", 1000)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "source.gguf", llama_tensors(layers=1))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of tensors of which rows are encoded."""
    found: list[str] = []
    encode = Rows.encode

    def counting(self: Rows, *given: Any, **more: Any) -> int:
        found.append(self._unit.tensor.name)
        return encode(self, *given, **more)

    monkeypatch.setattr(Rows, "encode", counting)
    return found


def plan_of(source: Path, registry: Registry, mix: Recipe = MIX, **more: Any) -> Plan:
    return make_plan(mix, open_model(source, registry=registry), registry=registry, **more)


def same(result: Result, other: Result) -> bool:
    nothing: Any = {"paths": (), "seconds": 0, "compile_seconds": 0, "read": 0, "from_store": ()}
    bytes_alike = result.path.read_bytes() == other.path.read_bytes()
    return bytes_alike and replace(result, **nothing) == replace(other, **nothing)


def test_what_was_made_before_is_copied(
    source: Path, store: Path, tmp_path: Path, registry: Registry, encoded: list[str]
) -> None:
    plan = plan_of(source, registry)
    peace = apply_plan(plan, tmp_path / "peace.gguf", registry=registry)
    first = apply_plan(plan, tmp_path / "first.gguf", registry=registry, store=store)
    assert same(first, peace)
    assert first.from_store == ()
    assert {it.facts.tensor for it in entries_of(open_store(store, create=False)) if it.facts} == WORTH
    encoded.clear()
    second = apply_plan(plan, tmp_path / "second.gguf", registry=registry, store=store)
    assert same(second, peace)
    assert set(second.from_store) == WORTH
    assert not WORTH & set(encoded)
    assert second.store_problems == ()


def test_a_source_that_isn_t_in_it_is_read_once(
    source: Path, store: Path, tmp_path: Path, registry: Registry
) -> None:
    """Its first row tells: what is read more is that row of each tensor."""
    plan = plan_of(source, registry)
    plain = apply_plan(plan, tmp_path / "a.gguf", registry=registry)
    first = apply_plan(plan, tmp_path / "b.gguf", registry=registry, store=store)
    rows = sum(a.tensor.cols * 2 for a in plan.assignments if a.tensor.name in WORTH)
    assert first.read == plain.read + rows
    tensors = llama_tensors(layers=1, seed=5)
    other = plan_of(write_gguf(tmp_path / "other.gguf", tensors), registry)
    assert apply_plan(other, tmp_path / "c.gguf", registry=registry, store=store).read == first.read


def test_one_that_begins_alike_is_another(
    source: Path, store: Path, tmp_path: Path, registry: Registry
) -> None:
    apply_plan(plan_of(source, registry), tmp_path / "a.gguf", registry=registry, store=store)
    tensors = llama_tensors(layers=1)
    for name in ("blk.0.attn_q.weight", "blk.0.ffn_gate.weight"):
        tensors[name][-1, -1] *= -2
    plan = plan_of(write_gguf(tmp_path / "tuned.gguf", tensors), registry)
    tuned = apply_plan(plan, tmp_path / "b.gguf", registry=registry, store=store)
    assert set(tuned.from_store) == WORTH - {"blk.0.attn_q.weight", "blk.0.ffn_gate.weight"}
    assert same(tuned, apply_plan(plan, tmp_path / "c.gguf", registry=registry))
    again = apply_plan(plan, tmp_path / "d.gguf", registry=registry, store=store)
    assert set(again.from_store) == WORTH


def test_other_recipes_and_other_containers_share_it(
    source: Path, store: Path, tmp_path: Path, registry: Registry
) -> None:
    apply_plan(plan_of(source, registry), tmp_path / "a.gguf", registry=registry, store=store)
    mix = recipe(rule("attn_q", "Q6_K"), default="Q4_K")
    moved = write_gguf(tmp_path / "moved.gguf", llama_tensors(layers=1), alignment=64)
    plan = plan_of(moved, registry, mix)
    result = apply_plan(plan, tmp_path / "b.gguf", registry=registry, store=store)
    assert {"blk.0.attn_k.weight", "output.weight"} <= set(result.from_store)
    assert not {"blk.0.attn_q.weight", "blk.0.attn_v.weight"} & set(result.from_store)
    assert same(result, apply_plan(plan, tmp_path / "c.gguf", registry=registry))


def test_remarks_come_with_it(tmp_path: Path, store: Path, registry: Registry) -> None:
    source = write_gguf(tmp_path / "m.gguf", llama_tensors(layers=1))
    query, key = "blk.0.attn_q.weight", "blk.0.attn_k.weight"
    grams = write_statistics(tmp_path, {query: (256, (700,))}, shared={query: (key,)}, indefinite=(query,))
    mix = load_recipe_text(
        "quantrecipe: 1\ndefault: Q4_0\nencoder: {name: feedback, damping: 0.01}\n", registry=registry
    )
    plan = plan_of(source, registry, mix, statistics=grams)
    first = apply_plan(plan, tmp_path / "a.gguf", registry=registry, store=store)
    assert set(first.remarks) == {query, key}
    second = apply_plan(plan, tmp_path / "b.gguf", registry=registry, store=store)
    assert {query, key} <= set(second.from_store)
    assert same(second, first)
    plain = plan_of(source, registry, recipe(default="Q4_0"))
    other = apply_plan(plain, tmp_path / "c.gguf", registry=registry, store=store)
    assert not {query, key} & set(other.from_store)


@pytest.mark.parametrize("place", [0, 0.5, 0.99])
def test_a_damaged_entry_is_told_and_replaced(
    source: Path, store: Path, tmp_path: Path, registry: Registry, place: float
) -> None:
    plan = plan_of(source, registry)
    first = apply_plan(plan, tmp_path / "a.gguf", registry=registry, store=store)
    entry = next(
        it for it in entries_of(open_store(store, create=False)) if it.facts and "gate" in it.facts.tensor
    )
    assert entry.facts is not None
    data = bytearray(entry.path.read_bytes())
    data[int(entry.facts.nbytes * place)] ^= 64
    entry.path.write_bytes(data)
    second = apply_plan(plan, tmp_path / "b.gguf", registry=registry, store=store)
    assert second.path.read_bytes() == first.path.read_bytes()
    assert second.store_problems == (
        f"{entry.path} has other bytes than were written, so it is made again and replaced",
    )
    assert set(second.from_store) == WORTH - {entry.facts.tensor}
    third = apply_plan(plan, tmp_path / "c.gguf", registry=registry, store=store)
    assert set(third.from_store) == WORTH
    assert third.store_problems == ()


def test_what_lost_values_isn_t_kept(tmp_path: Path, store: Path, registry: Registry) -> None:
    """Else a run that stops at NaN would get the bytes of one that goes on."""
    tensors = llama_tensors(layers=1)
    tensors["blk.0.attn_q.weight"][3, 5] = np.nan
    plan = plan_of(write_gguf(tmp_path / "bad.gguf", tensors), registry)
    for number in range(2):
        out = tmp_path / f"{number}.gguf"
        result = apply_plan(plan, out, registry=registry, nan="allow", store=store)
        assert result.nonfinite == {"blk.0.attn_q.weight": 1}
    assert "blk.0.attn_q.weight" not in result.from_store
    with pytest.raises(NonFiniteError, match="attn_q"):
        apply_plan(plan, tmp_path / "x.gguf", registry=registry, store=store)


def test_a_run_that_fails_leaves_nothing_unfinished(tmp_path: Path, store: Path, registry: Registry) -> None:
    tensors = llama_tensors(layers=1)
    tensors["blk.0.ffn_gate.weight"][-1, 5] = np.nan
    plan = plan_of(write_gguf(tmp_path / "bad.gguf", tensors), registry)
    with pytest.raises(NonFiniteError):
        apply_plan(plan, tmp_path / "x.gguf", registry=registry, store=store)
    assert not list((store / "new").iterdir())
    assert len(list(entries_of(open_store(store, create=False)))) < len(WORTH)


def test_a_store_that_can_t_be_written_is_told(
    source: Path, store: Path, tmp_path: Path, registry: Registry
) -> None:
    plan = plan_of(source, registry)
    open_store(store, create=True)
    (store / "new").write_bytes(b"in the way")
    result = apply_plan(plan, tmp_path / "a.gguf", registry=registry, store=store)
    assert len(result.store_problems) == 1
    assert result.store_problems[0].startswith(f"nothing more is added to the store {store}")
    assert same(replace(result, store_problems=()), apply_plan(plan, tmp_path / "b.gguf", registry=registry))


def test_several_outputs_and_an_older_one(
    source: Path, store: Path, tmp_path: Path, registry: Registry
) -> None:
    plans = [plan_of(source, registry), plan_of(source, registry, recipe(default="Q6_K"))]
    old = apply_plan(plans[0], tmp_path / "old.gguf", registry=registry).path
    peace = [
        apply_plan(plan, tmp_path / f"peace-{i}.gguf", registry=registry) for i, plan in enumerate(plans)
    ]
    for turn in range(2):
        outs = [(plan, tmp_path / f"{turn}-{i}.gguf") for i, plan in enumerate(plans)]
        results = apply_plans(outs, registry=registry, store=store, reuse=old)
        for result, other in zip(results, peace, strict=True):
            assert result.path.read_bytes() == other.path.read_bytes()
        assert set(results[0].reused) >= WORTH  # the older output comes first
        assert bool(results[1].from_store) is bool(turn)


@pytest.mark.parametrize("count", [22, 24, 26, 28])
def test_a_killed_run_goes_on(
    count: int,
    source: Path,
    store: Path,
    tmp_path: Path,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(first_rows, "NOTE_SECONDS", 0.0)  # as many lines in each run
    plan = plan_of(source, registry)
    peace = apply_plan(plan, tmp_path / "peace.gguf", registry=registry)
    (tmp_path / "out").mkdir()
    out = tmp_path / "out/out.gguf"

    def run() -> Result:
        return apply_plan(plan, out, registry=registry, threads=1, store=store, resume=True)

    left_after(count, out.parent, run, monkeypatch, tmp_path / "left")
    put_back(out.parent, tmp_path / "left")
    result = run()
    assert result.path.read_bytes() == peace.path.read_bytes()
    assert result.left > 0
    assert result.from_store
    shutil.rmtree(store)  # what is made anew then is made of rows that were left, too
    put_back(out.parent, tmp_path / "left")
    assert run().path.read_bytes() == peace.path.read_bytes()
    assert not any(map(damage_of, entries_of(open_store(store, create=False))))
    out.unlink()
    final = run()
    assert final.path.read_bytes() == peace.path.read_bytes()
    assert final.store_problems == ()


def test_rows_that_change_places_are_the_same_in_another_container(
    store: Path, tmp_path: Path, registry: Registry
) -> None:
    """A Hugging Face folder's rotary rows are rearranged on the way: its stored bytes are others than its GGUF's."""
    folder = open_model(EXAMPLE, registry=registry)
    mix = recipe(default="Q8_0")
    first = apply_plan(
        make_plan(mix, folder, registry=registry), tmp_path / "a.gguf", registry=registry, store=store
    )
    bf16 = apply_plan(
        make_plan(recipe(default="BF16"), folder, registry=registry), tmp_path / "b.gguf", registry=registry
    )
    plan = plan_of(bf16.path, registry, mix)
    second = apply_plan(plan, tmp_path / "c.gguf", registry=registry, store=store)
    assert first.hashes["blk.0.attn_q.weight"] != second.hashes["blk.0.attn_q.weight"]
    assert set(second.from_store) == {a.tensor.name for a in plan.assignments if a.type == "Q8_0"}
    assert "blk.0.attn_q.weight" in second.from_store
    assert same(second, apply_plan(plan, tmp_path / "d.gguf", registry=registry))
