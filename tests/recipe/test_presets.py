"""The presets give each tensor the type that llama-quantize gives it, and refuse what it refuses.

Recorded from llama-quantize itself with tools/compare_presets.py, for the models in tests/data/shapes/zoo:

    "Q4_0": "Q4_0; F16 ffn_gate_inp; Q6_K output"        the most frequent type, then what has another one
    "Q4_0 with importance": "Q4_0; …"                    where an importance matrix makes a difference
    "IQ2_M": "IQ2_S; …; required (importance)"           refused without a matrix
    "Q1_0": "refused"
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from support.examples import sampled

from quantrecipe.errors import ImportanceError, PlanError
from quantrecipe.gguf.file_types import FILE_TYPES
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.importance.matrix import Importance, ImportanceEntry
from quantrecipe.model.model import Model
from quantrecipe.model.shapes import open_shapes
from quantrecipe.plan.assign import choose_format
from quantrecipe.plan.resolution import resolve
from quantrecipe.plan.trace import covers_all
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.recipe.recipe import Recipe
from quantrecipe.registry import Registry
from quantrecipe.tensor import TensorInfo

DATA = Path(__file__).parents[1] / "data"
PRESETS = Path(__file__).parents[2] / "recipes/presets/llama.cpp@b11312"
RECORDED: dict[str, dict[str, str]] = json.loads((DATA / "recipes/llama-quantize.json").read_text())["types"]
NAMES = tuple(name for name in RECORDED["llama-32"] if " " not in name)
ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
WITH = " with importance"
BLOCK = re.compile(r"(?:^|(?<=\.))blk\.(\d+)\.")


@pytest.fixture(scope="module")
def presets(registry: Registry) -> dict[str, Recipe]:
    return {name: load_recipe(f"llama.cpp/{name}", registry=registry) for name in NAMES}


def zoo(name: str) -> Model:
    return open_shapes(DATA / f"shapes/zoo/{name}.json")


def role(tensor: TensorInfo) -> tuple[str, int | None]:
    """As the recordings call a tensor: ("attn_v", 3), ("enc.blk.*.attn_v", 3), ("output", None)."""
    block = BLOCK.search(tensor.name)
    if block is None:
        return tensor.name.removesuffix(".weight"), None
    rest = tensor.name[block.end() :].removesuffix(".weight")
    return (f"{tensor.name[: block.start()]}blk.*.{rest}" if block.start() else rest), int(block[1])


def types(row: str, model: Model) -> dict[str, str]:
    """The recorded type of each tensor of two dimensions or more."""
    most, *others = row.split("; ")
    special: dict[tuple[str, int | None], str] = {}
    for type_, *names in map(str.split, others):
        for name in names:
            key, _, layers = name.partition(":")
            for layer in layers.split(",") if layers else [""]:
                first, _, last = layer.partition("-")
                span: range | list[None] = range(int(first), int(last or first) + 1) if first else [None]
                special |= {(key, number): type_ for number in span}
    found = {}
    for tensor in model.tensors:
        if len(tensor.shape) > 1:
            key, number = role(tensor)
            found[tensor.name] = special.get((key, number), special.get((key, None), most))
    return found


def chosen(recipe: Recipe, model: Model, registry: Registry, *, importance: bool) -> dict[str, str]:
    resolution = resolve(recipe, model, registry, covered=covers_all if importance else None)
    return {
        d.tensor.name: choose_format(d, resolution).format.spec.name
        for d in resolution.decisions
        if len(d.tensor.shape) > 1
    }


@pytest.mark.parametrize("name", sampled(RECORDED))
def test_presets_choose_as_llama_quantize(name: str, presets: dict[str, Recipe], registry: Registry) -> None:
    model = zoo(name)
    wrong: dict[tuple[str, bool, str], tuple[str, str]] = {}
    for preset in NAMES:
        if preset in ALIASES:
            continue
        for importance in (False, True):
            row = RECORDED[name][preset]
            if importance and preset + WITH in RECORDED[name]:
                row = RECORDED[name][preset + WITH]
            elif importance and not asks_for_importance(presets[preset]):
                continue  # nothing in the recipe could make a difference
            if row in ("refused", "crashed"):
                continue
            expected = types(row.removesuffix("; required (importance)"), model)
            found = chosen(presets[preset], model, registry, importance=importance)
            wrong |= {
                (preset, importance, tensor): (found[tensor], type_)
                for tensor, type_ in expected.items()
                if found[tensor] != type_
            }
    assert not wrong, "(preset, importance, tensor): (ours, llama-quantize's)"


def asks_for_importance(recipe: Recipe) -> bool:
    return any(rule.when is not None and "has_importance" in rule.when.names for rule in recipe.rules)


@pytest.mark.parametrize("preset", sampled(NAMES))
def test_presets_refuse_what_llama_quantize_refuses(
    preset: str, presets: dict[str, Recipe], registry: Registry
) -> None:
    for name in ("llama-32", "mixtral-8x", "columns-48", "columns-1152-and-96", "gemma3n-30-untied"):
        row, model = RECORDED[name][preset], zoo(name)
        if "required (importance)" in row:
            with pytest.raises(
                ImportanceError, match=f"recipe '{preset}' needs an importance matrix: it has "
            ):
                make_plan(presets[preset], model, registry=registry)
        elif row == "refused":
            with pytest.raises(
                PlanError, match=r"can't be Q1_0: its .* columns don't divide into blocks of 128"
            ):
                make_plan(presets[preset], model, registry=registry)
        else:
            assert make_plan(presets[preset], model, registry=registry).assignments


def test_a_matrix_with_a_gap_is_refused_before_the_work_starts(
    presets: dict[str, Recipe], registry: Registry
) -> None:
    """As for layers that calibration never runs, such as nextn; llama-quantize notices when it gets there."""
    model = zoo("glm4moe-nextn")
    matrix = importance(t for t in model.tensors if t.layer not in (46, None))
    with pytest.raises(ImportanceError, match=r"'IQ2_M' has IQ2_S.* for blk\.46\..* and \d+ more, which"):
        make_plan(presets["IQ2_M"], model, registry=registry, importance=matrix)
    plan = make_plan(presets["IQ3_M"], model, registry=registry, importance=matrix)
    assert any("without importance" in warning for warning in plan.warnings)


def importance(tensors: Iterable[TensorInfo]) -> Importance:
    """A matrix that covers these; plans don't read its values."""
    path = Path("imatrix.gguf")
    entries = {
        t.name: ImportanceEntry(
            name=t.name,
            size=t.cols * t.experts,
            counts=(1,) * t.experts,
            layout="gguf",
            path=path,
            offset=0,
            digest="",
        )
        for t in tensors
    }
    return Importance(path=path, layout="gguf", entries=entries, digest="")


def test_every_type_name_has_a_preset_and_every_preset_a_type_name() -> None:
    parts = {"kept", "terms", "mixture", "head-5-bits", "low-bits", "low-bits-Q2_K", "low-bits-IQ3_S"}
    assert {path.stem for path in PRESETS.glob("*.yaml")} == {*NAMES, *parts}
    assert len(NAMES) == 39


@pytest.mark.parametrize("preset", sampled(NAMES))
def test_a_preset_says_what_llama_quantize_calls_it(preset: str, presets: dict[str, Recipe]) -> None:
    recipe = presets[preset]
    assert recipe.name == preset
    assert recipe.summary.startswith(f"llama-quantize's {preset}")
    assert recipe.file_type == ("keep" if preset == "COPY" else ALIASES.get(preset, preset))
    assert recipe.file_type in FILE_TYPES or preset == "COPY"


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_an_alias_means_what_it_stands_for(alias: str, name: str, presets: dict[str, Recipe]) -> None:
    assert presets[alias].digest == presets[name].digest


def test_a_preset_names_its_build(registry: Registry) -> None:
    newest, named = (
        load_recipe(f"{prefix}/Q4_K_M", registry=registry) for prefix in ("llama.cpp", PRESETS.name)
    )
    assert newest.file == named.file == f"{PRESETS.name}/Q4_K_M"
    assert f"# {PRESETS.name}/mixture:" in newest.text


def test_copy_keeps_types_and_label(presets: dict[str, Recipe], registry: Registry) -> None:
    model = zoo("llama-32")
    labelled = Model(
        path=model.path,
        container="gguf",
        arch=model.arch,
        tensors=model.tensors,
        metadata={**model.metadata, "general.file_type": GGUFValue.of(ValueType.UINT32, 1025)},
        sources={},
    )
    plan = make_plan(presets["COPY"], labelled, registry=registry)
    assert all(a.copied for a in plan.assignments)
    assert plan.metadata["general.file_type"].decode() == 1025


@pytest.mark.parametrize("name", ["Q4_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K"])
def test_a_pure_recipe_uses_one_type_for_every_quantizable_matrix(name: str, registry: Registry) -> None:
    recipe = load_recipe(f"pure/{name}", registry=registry)
    found = chosen(recipe, zoo("llama-32"), registry, importance=False)
    assert set(found.values()) == {name}
