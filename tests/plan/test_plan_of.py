"""Formats, fallbacks, sizes, metadata and importance of a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.imatrix_files import write_gguf_imatrix
from support.models import llama_metadata, llama_tensors, write_gguf
from support.recipes import recipe, rule

from quantrecipe.errors import ImportanceError, PlanError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.importance.read_importance import read_importance
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.plan.plan import Plan
from quantrecipe.planning import make_plan
from quantrecipe.recipe.recipe import ImportanceSource, Recipe
from quantrecipe.registry import Registry, load_registry
from quantrecipe.tensor import TensorInfo


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(plugins=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "source.gguf", llama_tensors())


def plan(recipe: Recipe, source: Path, registry: Registry, **options: Any) -> Plan:
    return make_plan(recipe, open_model(source, registry=registry), registry=registry, **options)


def types(plan: Plan) -> dict[str, str]:
    return {a.tensor.name: a.type for a in plan.assignments}


def test_what_nothing_covers_stays_as_a_gguf_has_it(source: Path, registry: Registry) -> None:
    made = plan(recipe(rule("attn_v", "Q8_0")), source, registry)
    assert types(made)["blk.0.attn_q.weight"] == "BF16"
    assert types(made)["output_norm.weight"] == "F32"
    assert {a.because for a in made.assignments if a.copied} == {"no rule", "kept.yaml:1 (kept)"}


def test_any_tensor_on_any_base_gets_what_the_recipe_says(tmp_path: Path, registry: Registry) -> None:
    source = write_gguf(tmp_path / "moe.gguf", llama_tensors(experts=4), type_="F16")
    rules = [rule("ffn_gate_inp", "Q8_0"), rule("attn_norm", "F16"), rule("attn_v", "F16", line=2)]
    made = types(plan(recipe(*rules, default="F16"), source, registry))
    assert made["blk.0.ffn_gate_inp.weight"] == "Q8_0"
    assert made["blk.0.attn_norm.weight"] == "F16"
    assert made["blk.0.attn_v.weight"] == "F16"


def test_sizes_and_offsets_are_those_of_the_formats(source: Path, registry: Registry) -> None:
    made = plan(recipe(default="Q4_K"), source, registry)
    up = next(a for a in made.assignments if a.tensor.name == "blk.0.ffn_up.weight")
    assert up.nbytes == 512 * 144
    assert up.bits_per_weight == 4.5
    ends = [a.offset + a.nbytes for a in made.assignments]
    starts = [a.offset for a in made.assignments]
    assert starts[0] == made.files[0].header
    assert all(0 <= start - end < 32 for start, end in zip(starts[1:], ends, strict=False))
    assert all(start % 32 == 0 for start in starts)


def odd(folder: Path) -> Path:
    """A model whose rows have 96 columns: no multiple of 256."""
    return write_gguf(folder / "odd.gguf", llama_tensors(cols=96, hidden=256, layers=1))


def test_columns_that_don_t_divide_fall_back_along_the_formats_chain(
    tmp_path: Path, registry: Registry
) -> None:
    made = plan(recipe(default="Q6_K"), odd(tmp_path), registry)
    found = types(made)
    assert found["blk.0.ffn_down.weight"] == "Q6_K"  # 256 columns
    assert found["blk.0.attn_q.weight"] == "Q8_0"
    fallen = {a.tensor.name for a in made.fallbacks}
    assert fallen == {name for name, type_ in found.items() if type_ == "Q8_0"}
    assert "96 columns don't divide into blocks of 256" in made.warnings[0]


def test_a_rule_s_own_fallback_comes_before_the_recipe_s(tmp_path: Path, registry: Registry) -> None:
    rules = [rule("attn_q", "Q6_K", fallback="Q4_0"), rule("attn_k", "Q6_K", line=2)]
    made = types(plan(recipe(*rules, default="F16", fallback="F16"), odd(tmp_path), registry))
    assert (made["blk.0.attn_q.weight"], made["blk.0.attn_k.weight"]) == ("Q4_0", "F16")


@pytest.mark.parametrize(("policy", "strict"), [("error", False), ("chain", True), ("Q4_0", True)])
def test_fallbacks_can_be_refused(tmp_path: Path, registry: Registry, policy: str, strict: bool) -> None:
    with pytest.raises(
        PlanError, match=r"recipe\.yaml:3: blk\.0\.attn_q\.weight can't be Q6_K: its 96 columns"
    ):
        plan(recipe(rule("attn_q", "Q6_K", line=3), fallback=policy), odd(tmp_path), registry, strict=strict)


def test_a_fallback_that_doesn_t_fit_either_is_an_error(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(PlanError, match="nor its fallback Q5_K"):
        plan(recipe(rule("attn_q", "Q6_K", fallback="Q5_K")), odd(tmp_path), registry)


def test_problems_are_reported_once_for_each_rule(tmp_path: Path, registry: Registry) -> None:
    rules = [rule("attn_*", "Q6_K", line=3), rule("ffn_up", "Q4_K", line=4)]
    with pytest.raises(PlanError) as caught:
        plan(recipe(*rules, fallback="error"), odd(tmp_path), registry)
    assert [problem.line for problem in caught.value.problems] == [3, 4]


def test_quantized_sources_are_refused_unless_allowed(
    source: Path, tmp_path: Path, registry: Registry
) -> None:
    quantized = tmp_path / "q8.gguf"
    apply_plan(plan(recipe(default="Q8_0"), source, registry), quantized, registry=registry)
    with pytest.raises(PlanError, match=r"already quantized, as Q8_0.*--allow-requantize"):
        plan(recipe(default="Q4_K"), quantized, registry)
    made = plan(recipe(default="Q4_K"), quantized, registry, allow_requantize=True)
    apply_plan(made, tmp_path / "q4.gguf", registry=registry)
    assert (tmp_path / "q4.gguf").stat().st_size == made.nbytes
    kept = plan(recipe(default="Q8_0"), quantized, registry)
    assert all(a.copied for a in kept.assignments)


def test_metadata_is_the_model_s_then_llama_quantize_s_then_ours(source: Path, registry: Registry) -> None:
    made = plan(recipe(default="Q4_K", text="quantrecipe: 1\n", digest="d" * 32), source, registry)
    keys = list(made.metadata)
    assert keys[:6] == [
        "general.architecture",
        *(f"llama.{key}" for key in ("block_count", "attention.head_count", "attention.head_count_kv")),
        "general.quantization_version",
        "general.file_type",
    ]
    assert all(key.startswith("quantrecipe.") for key in keys[6:])
    assert made.metadata["general.file_type"] == GGUFValue.of(ValueType.UINT32, 15)  # mostly Q4_K
    assert made.metadata["quantrecipe.recipe"].decode() == "quantrecipe: 1\n"
    assert made.metadata["quantrecipe.plan.digest"].decode() == made.digest


def test_without_provenance_no_key_of_ours_is_there(source: Path, registry: Registry) -> None:
    made = plan(recipe(default="Q4_K"), source, registry, provenance=False)
    assert not [key for key in made.metadata if key.startswith("quantrecipe")]


def test_the_recipe_s_file_type_and_metadata_win(source: Path, registry: Registry) -> None:
    wanted = {
        "general.name": GGUFValue.of(ValueType.STRING, "Mine"),
        "llama.block_count": GGUFValue.of(ValueType.UINT32, 3),
    }
    made = plan(recipe(default="Q4_K", file_type="Q4_K_S", metadata=wanted), source, registry).metadata
    assert made["general.file_type"].decode() == 14
    assert made["general.name"].decode() == "Mine"
    assert made["llama.block_count"].decode() == 3


def test_a_file_type_that_doesn_t_exist(source: Path, registry: Registry) -> None:
    with pytest.raises(PlanError, match="unknown file_type 'Q4_KM'"):
        plan(recipe(default="Q4_K", file_type="Q4_KM"), source, registry)


def test_the_digest_changes_with_what_is_written(source: Path, registry: Registry) -> None:
    first = plan(recipe(default="Q4_K"), source, registry)
    assert plan(recipe(default="Q4_K"), source, registry).digest == first.digest
    assert plan(recipe(default="Q5_K"), source, registry).digest != first.digest


def imatrix(folder: Path, *, without: str = "nothing", width: int | None = None) -> Path:
    entries = {
        name: (np.full((1, width or values.shape[-1]), 2, np.float32), [4])
        for name, values in llama_tensors().items()
        if values.ndim == 2 and without not in name and "token_embd" not in name
    }
    return write_gguf_imatrix(folder / "imatrix.gguf", entries)


def test_importance_is_used_where_format_and_matrix_have_it(
    source: Path, tmp_path: Path, registry: Registry
) -> None:
    importance = read_importance(imatrix(tmp_path, without="ffn_up"))
    made = plan(recipe(rule("attn_v", "Q8_0"), default="Q4_K"), source, registry, importance=importance)
    weighted = {a.tensor.role for a in made.assignments if a.importance}
    assert weighted == {"output", "attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_down"}
    assert "not in imatrix.gguf: token_embd.weight, blk.0.ffn_up.weight" in made.warnings[0]
    assert made.metadata["quantize.imatrix.file"].decode() == "imatrix.gguf"
    assert made.metadata["quantize.imatrix.entries_count"].decode() == 13
    assert made.metadata["quantrecipe.importance.digest"].decode() == importance.digest


def test_uncovered_tensors_can_be_refused(source: Path, tmp_path: Path, registry: Registry) -> None:
    mix = recipe(default="Q4_K", importance=ImportanceSource(uncovered="error"))
    with pytest.raises(ImportanceError, match=r"doesn't cover token_embd\.weight"):
        plan(mix, source, registry, importance=read_importance(imatrix(tmp_path)))


def test_a_recipe_can_demand_importance(source: Path, registry: Registry) -> None:
    mix = recipe(default="Q4_K", importance=ImportanceSource(required=True))
    with pytest.raises(ImportanceError, match="needs an importance matrix; give one with --imatrix"):
        plan(mix, source, registry)


def test_the_matrix_of_another_model_is_refused(source: Path, tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(ImportanceError, match="another model"):
        plan(
            recipe(default="Q4_K"), source, registry, importance=read_importance(imatrix(tmp_path, width=128))
        )


def test_a_plan_is_plain_data_for_machines(source: Path, registry: Registry) -> None:
    made = plan(
        recipe(rule("attn_v", "Q6_K", line=7, why="outliers"), default="Q4_K"), source, registry
    ).to_json()
    value = next(t for t in made["tensors"] if t["name"] == "blk.1.attn_v.weight")
    assert (value["type"], value["because"], value["why"]) == ("Q6_K", "recipe.yaml:7", "outliers")
    assert sum(t["nbytes"] for t in made["tensors"]) < made["nbytes"]


def test_a_model_without_hyper_parameters_can_be_planned(tmp_path: Path, registry: Registry) -> None:
    bare = {"general.architecture": llama_metadata()["general.architecture"]}
    source = write_gguf(tmp_path / "bare.gguf", llama_tensors(layers=4), bare)
    made = types(plan(recipe(rule("attn_v", "Q6_K", layers="last 1"), default="Q4_K"), source, registry))
    assert made["blk.3.attn_v.weight"] == "Q6_K"


@pytest.mark.parametrize("rule_type", ["keep", "Q8_0"])
def test_a_type_that_is_not_known_can_not_even_be_kept(rule_type: str, registry: Registry) -> None:
    """Its size isn't known, so nothing is said of keeping it."""
    strange = TensorInfo.from_name("blk.0.attn_v.weight", (64, 256), "type 99")
    of = Model(
        path=Path("m.gguf"), container="gguf", arch="llama", tensors=(strange,), metadata={}, sources={}
    )
    with pytest.raises(PlanError, match="stored as type 99 of ggml, which isn't known here") as refused:
        make_plan(recipe(default=rule_type), of, registry=registry)
    assert "leave it alone" not in str(refused.value)
