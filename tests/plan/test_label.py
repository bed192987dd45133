"""A file's label says what its types are: mixes bear their own, what departs from them doesn't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.models import llama_tensors, write_gguf

from quantrecipe.gguf.file_types import FILE_TYPES, file_type_name
from quantrecipe.model.open_model import open_model
from quantrecipe.output.apply import apply_plan
from quantrecipe.output.verify.verify import verify_file
from quantrecipe.plan.label import MAIN_TYPES, main_type, untrue
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.trace import covers_all, trace
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe, load_recipe_text
from quantrecipe.recipe.recipe import KEEP
from quantrecipe.registry import load_registry
from quantrecipe.tensor import TensorInfo

REGISTRY = load_registry(plugins=False)
MODELS = ("shapes/qwen3-30b-a3b", "shapes/gemma-3-4b-it", "shapes/meta-llama-3.1-70b-instruct")
HEAVY = (
    "quantrecipe: 1\nname: heavy\nextends: llama.cpp/Q4_K_M\n{more}"
    "rules: [{{tensors: '*', type: {type}, why: a}}]\n"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "source.gguf", llama_tensors(layers=4))


def planned(text: str, source: Path, **options: Any) -> Plan:
    return make_plan(
        load_recipe_text(text, registry=REGISTRY),
        open_model(source, registry=REGISTRY),
        registry=REGISTRY,
        **options,
    )


def label(plan: Plan) -> str | None:
    return file_type_name(plan.metadata["general.file_type"].decode())


@pytest.mark.parametrize("name", [name for name in FILE_TYPES if name != "NVFP4"])
def test_a_mix_is_mostly_of_its_main_type(name: str) -> None:
    mix = load_recipe(f"llama.cpp/{name}", registry=REGISTRY)
    for ref in MODELS:
        model = open_model(ref)
        for given in (False, True):
            decisions = trace(mix, model, covered=covers_all if given else None).decisions
            types = [(d.tensor, d.tensor.dtype if d.type == KEEP else d.type) for d in decisions]
            most = main_type(types)
            assert most is not None
            assert most.type in MAIN_TYPES.get(name, (name,)), ref
            assert untrue(name, types, None, REGISTRY) is None


def test_every_format_bears_out_its_own_label() -> None:
    tensor = TensorInfo.from_name("blk.0.ffn_up.weight", (256, 256), "BF16")
    for name, fmt in REGISTRY.formats.items():
        if fmt.spec.file_type is not None:
            assert untrue(file_type_name(fmt.spec.file_type), [(tensor, name)], None, REGISTRY) is None, name


def test_embeddings_have_no_vote_where_there_are_layers() -> None:
    embedding = TensorInfo.from_name("token_embd.weight", (100_000, 256), "BF16")
    matrix = TensorInfo.from_name("blk.0.ffn_up.weight", (256, 256), "BF16")
    types = [(embedding, "Q8_0"), (matrix, "Q4_K")]
    assert untrue("Q4_K_M", types, None, REGISTRY) is None
    assert untrue("Q4_K_M", types[:1], None, REGISTRY) is not None


def test_a_fallback_counts_as_the_type_that_was_meant() -> None:
    odd = TensorInfo.from_name("blk.0.ffn_up.weight", (256, 96), "BF16")
    even = TensorInfo.from_name("blk.0.ffn_up.weight", (256, 256), "BF16")
    assert untrue("Q4_K_M", [(odd, "Q5_0")], None, REGISTRY) is None
    assert untrue("Q4_K_M", [(even, "Q5_0")], None, REGISTRY) is not None


def test_labels_that_nobody_knows_are_not_judged() -> None:
    tensor = TensorInfo.from_name("blk.0.ffn_up.weight", (256, 256), "BF16")
    assert untrue(None, [(tensor, "Q4_K")], None, REGISTRY) is None
    assert untrue("IQ9_Z", [(tensor, "Q4_K")], None, REGISTRY) is None


def test_what_departs_from_a_mix_does_not_bear_its_label(source: Path) -> None:
    plan = planned(HEAVY.format(more="", type="Q6_K"), source)
    assert label(plan) == "Q6_K"
    assert any("100 % of the weights in its layers are Q6_K, so the file says" in it for it in plan.warnings)
    few = "quantrecipe: 1\nname: few\nextends: llama.cpp/Q4_K_S\nrules: [{tensors: attn_v, type: Q6_K, why: a}]\n"
    assert label(planned(few, source)) == "Q4_K_S"
    assert not planned(few, source).warnings


def test_what_a_recipe_says_itself_stands_and_is_told(source: Path) -> None:
    plan = planned(HEAVY.format(more="file_type: Q4_K_M\n", type="Q6_K"), source)
    assert label(plan) == "Q4_K_M"
    assert any("mostly Q4_K_M (general.file_type), but 100 %" in it for it in plan.warnings)


@pytest.mark.parametrize("name", ["Q4_K_M", "Q2_K", "IQ4_XS", "Q3_K_L"])
def test_mixes_keep_llama_quantize_s_labels(source: Path, name: str) -> None:
    alone = f"quantrecipe: 1\nname: alone\nextends: llama.cpp/{name}\n"
    assert label(planned(alone, source)) == name
    # Its exceptions may be most of a model of few layers: it is still that mix.
    idle = f"{alone}rules: [{{tensors: ssm_out, type: Q8_0, why: a, optional: true}}]\n"
    assert label(planned(idle, source)) == name


def test_a_recipe_with_its_parents_merged_in_does_the_same(source: Path, tmp_path: Path) -> None:
    recipe = load_recipe_text(HEAVY.format(more="", type="Q6_K"), registry=REGISTRY)
    assert "file_type: Q4_K_M if true\n" in recipe.text
    again = load_recipe_text(recipe.text, registry=REGISTRY)
    assert again.digest == recipe.digest
    assert label(planned(recipe.text, source)) == "Q6_K"
    plan = planned(HEAVY.format(more="", type="Q6_K"), source)
    out = apply_plan(plan, tmp_path / "out.gguf", registry=REGISTRY, threads=1).path
    assert verify_file(out, source=open_model(source, registry=REGISTRY), registry=REGISTRY).ok


def test_a_mix_that_reaches_nothing_makes_no_label_true(tmp_path: Path) -> None:
    tensors = {name.removesuffix(".weight"): it for name, it in llama_tensors().items()}
    model = open_model(write_gguf(tmp_path / "m.gguf", tensors), registry=REGISTRY)
    share = untrue("Q4_K_M", [(t, t.dtype) for t in model.tensors], model, REGISTRY)
    assert share is not None
    assert share.type == "BF16"
