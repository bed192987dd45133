"""Statistics in stages: what is quantized before each, and what a stopped run goes on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.exchanged import Exchanged
from support.graph_of_products import ModelOfProducts, SessionOfProducts
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.calibration import CalibrationSettings
from quantrecipe.calibration.gram import GramEntry, GramInput, Grams, compute, compute_gram, read_gram
from quantrecipe.errors import PlanError
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe_text
from quantrecipe.recipe.recipe import EncoderChoice, Recipe
from quantrecipe.refine import Quantized, stages
from quantrecipe.registry import load_registry
from quantrecipe.texts.documents import Document, Domain, Rendered

REGISTRY = load_registry(plugins=False)
MIX = recipe(rule("token_embd", "Q8_0"), default="Q4_0", encoder=EncoderChoice(name="feedback"))
COLUMNS = 256
TEXT = "".join(chr(33 + (n * n * 31 + n) % 89) for n in range(600))
DOMAIN = Domain(
    name="code", weight=None, documents=(Document(place="code", text=TEXT),), digest="digest", files=()
)
RENDERED = [Rendered(text=TEXT, special=False, answers=(), place="code")]


@pytest.fixture(autouse=True)
def session(monkeypatch: pytest.MonkeyPatch) -> SessionOfProducts:
    """Attention's q and k have inputs of known statistics in both layers; the embeddings and all else have none."""
    made = SessionOfProducts(ModelOfProducts(columns=COLUMNS))
    monkeypatch.setattr(compute, "Session", made)
    monkeypatch.setattr(stages, "Exchange", Exchanged)
    Exchanged.clear()
    return made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "model.gguf", llama_tensors(layers=2), llama_metadata())


def planner(model: Path, mix: Recipe = MIX) -> Callable[[Grams | None], Plan]:
    opened = open_model(model, registry=REGISTRY)
    return lambda grams: make_plan(mix, opened, registry=REGISTRY, statistics=grams)


def behind(model: Path, wanted: int, mix: Recipe = MIX) -> Quantized:
    return Quantized(recipe=mix, plan_of=planner(model, mix), held=model, registry=REGISTRY, wanted=wanted)


def run(model: Path, folder: Path, wanted: int, hear: Callable[[Any], None] | None = None) -> Grams:
    settings = CalibrationSettings(contexts=(20,))
    return compute_gram(
        model, [(DOMAIN, RENDERED)], folder, settings, behind=behind(model, wanted), hear=hear
    )


def layer(number: int) -> list[str]:
    """The matrices of a layer."""
    names = ("attn_k", "attn_output", "attn_q", "attn_v", "ffn_down", "ffn_gate", "ffn_up")
    return [f"blk.{number}.{name}.weight" for name in names]


def test_a_stage_comes_behind_what_the_stages_before_it_have_quantized(model: Path, tmp_path: Path) -> None:
    """Each weight is what it will be in the file, in the type that the open model has it in; the head stays."""
    grams = run(model, tmp_path / "grams", 2)
    assert Exchanged.order == [["token_embd.weight"], layer(0)]
    out = apply_plan(planner(model)(grams), tmp_path / "out.gguf", registry=REGISTRY).path
    made = open_model(out, registry=REGISTRY)
    data = out.read_bytes()
    tensors = {it.name: it for it in open_model(model, registry=REGISTRY).tensors}
    for name, memory in Exchanged.memory.items():
        tensor = next(it for it in made.tensors if it.name == name)
        (extent,) = made.sources[name].extents
        rows = np.frombuffer(data[extent.offset : extent.offset + extent.nbytes], np.uint8)
        fmt = REGISTRY.format(tensor.dtype)
        decoded = fmt.decode(rows.reshape(-1, fmt.spec.row_bytes(tensor.cols)), tensor.cols)
        held = REGISTRY.format(tensors[name].dtype).encode(decoded).ravel()
        assert memory[: held.size].tolist() == held.tolist(), name
    assert grams.index.behind == "test, in 2 stages"
    plan = {a.tensor.name: a for a in planner(model)(grams).assignments}
    assert plan["blk.0.attn_q.weight"].encoder is not None


def test_rows_go_where_they_lie_in_the_type_of_the_model(model: Path) -> None:
    """Threads bring some rows of a tensor at a time, and a quantized row is shorter than the model's."""
    plan = planner(model)(None)
    a = next(it for it in plan.assignments if it.tensor.name == "blk.0.ffn_down.weight")
    exchange = Exchanged(None, open_model(model, registry=REGISTRY), REGISTRY)
    resident = exchange.format_of(a.tensor.name)
    rows = np.random.default_rng(0).standard_normal((2, a.tensor.cols)).astype(np.float32)
    data = a.format.encode(rows)
    stages.into_model(exchange, a).write(data.data, 3 * data.shape[1])  # type: ignore[arg-type]  # a stand-in
    held = resident.encode(a.format.decode(data, a.tensor.cols))
    memory = Exchanged.memory[a.tensor.name][: 6 * held.shape[1]].reshape(6, -1)
    assert np.array_equal(memory[3:5], held)
    assert not memory[[0, 1, 2, 5]].any()


def test_one_stage_has_the_embeddings_before_it(model: Path, tmp_path: Path) -> None:
    run(model, tmp_path / "grams", 1)
    assert Exchanged.order == [["token_embd.weight"]]


def test_what_the_engine_doesn_t_use_is_left_alone(model: Path, tmp_path: Path) -> None:
    Exchanged.unused.add("blk.0.attn_q.weight")
    run(model, tmp_path / "grams", 2)
    assert Exchanged.memory.keys() == {"token_embd.weight", *layer(0)} - Exchanged.unused


@pytest.mark.parametrize("stop", ["blk.0.attn_k_b.weight", "blk.1.attn_q.weight"])
def test_a_stopped_run_goes_on_behind_the_same(model: Path, tmp_path: Path, stop: str) -> None:
    whole = run(model, tmp_path / "whole", 2)
    Exchanged.clear()

    class StoppedError(Exception):
        pass

    def hear(what: object) -> None:
        if isinstance(what, GramEntry) and what.name == stop:
            raise StoppedError

    with pytest.raises(StoppedError):
        run(model, tmp_path / "parts", 2, hear)
    kept = {path.name for path in (tmp_path / "parts").rglob("*.npy")}
    Exchanged.clear()
    finished: list[str] = []
    run(
        model,
        tmp_path / "parts",
        2,
        lambda it: finished.append(it.name) if isinstance(it, GramEntry) else None,
    )
    again = read_gram(tmp_path / "parts")
    assert len(finished) == len(set(finished))
    assert {f"{name}.npy" for name in finished} == {f"{it.name}.npy" for it in again.index.inputs} - kept
    # All that comes before the first stage that isn't finished, at once or in its turn.
    expected = (
        [["token_embd.weight"], layer(0)]
        if stop == "blk.0.attn_k_b.weight"
        else [sorted(["token_embd.weight", *layer(0)])]
    )
    assert Exchanged.order == expected
    for entry in whole.index.inputs:
        assert again.entry(entry.name).digest == entry.digest


def test_what_is_quantized_before_is_part_of_the_folder_s_name(model: Path) -> None:
    other = recipe(rule("token_embd", "Q5_0"), default="Q4_0", encoder=EncoderChoice(name="feedback"))
    keys = [behind(model, 2).key, behind(model, 3).key, behind(model, 2, other).key]
    assert len(set(keys)) == 3
    assert behind(model, 2).key == keys[0]


def test_stages_that_can_t_be(model: Path) -> None:
    with pytest.raises(PlanError, match="0 stages are none; use 1 or more"):
        behind(model, 0)
    mix = load_recipe_text("quantrecipe: 1\ndefault: Q4_0\nprune: 0\nencoder: feedback\n", registry=REGISTRY)
    with pytest.raises(PlanError, match="leaves layers out"):
        behind(model, 1, mix)


@pytest.mark.parametrize(
    ("wanted", "lengths"),
    [(1, [6]), (2, [2, 4]), (3, [2, 2, 2]), (4, [1, 2, 1, 2]), (6, [1] * 6), (9, [1] * 6)],
)
def test_stages_are_whole_layers_as_long_as_there_are_enough(wanted: int, lengths: list[int]) -> None:
    inputs = [
        GramInput(name=f"blk.{n}.{role}.weight", weights=(), columns=1, matrices=1, by_expert=False)
        for n in range(3)
        for role in ("attn_q", "ffn_up")
    ]
    found = stages.divided(inputs, wanted)
    assert [len(some) for some in found] == lengths
    assert [it for some in found for it in some] == inputs
