"""graft: a model with tensors of another in it; what fits together, and what the metadata says then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.errors import PlanError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.plan.grafting import Graft, graft
from quantrecipe.recipe.terms.layers import LayerSet
from quantrecipe.recipe.terms.pattern import Pattern


def model(path: Path, layers: int, *, hidden: int = 512, seed: int = 0, **numbers: Any) -> Model:
    """A llama of so many blocks, whose metadata has these hyper-parameters, too."""
    pairs = llama_metadata(block_count=layers)
    for key, value in numbers.items():
        made = (
            GGUFValue.array(ValueType.UINT32, value)
            if isinstance(value, list)
            else GGUFValue.of(ValueType.UINT32, value)
        )
        pairs[f"llama.{key.replace('__', '.')}"] = made
    write_gguf(path, llama_tensors(layers=layers, hidden=hidden, vocab=32, seed=seed), pairs)
    return open_model(path)


def grafted(base: Model, donor: Model, *patterns: str, layers: str | None = None, mtp: bool = False) -> Graft:
    chosen = None if layers is None else LayerSet.parse(layers)
    return graft(base, donor, [Pattern.parse(it) for it in patterns], layers=chosen, draft_head=mtp)


@pytest.fixture
def base(tmp_path: Path) -> Model:
    return model(tmp_path / "base.gguf", 3, attention__head_count_kv=[2, 2, 2])


@pytest.fixture
def donor(tmp_path: Path) -> Model:
    return model(
        tmp_path / "donor.gguf", 4, seed=1, nextn_predict_layers=1, attention__head_count_kv=[2, 2, 2, 4]
    )


def test_a_tensor_of_both_takes_the_place_of_the_bases(base: Model, donor: Model) -> None:
    made = grafted(base, donor, "head", "attn_{k,v}")
    assert made.added == ()
    assert set(made.replaced) == {
        "output.weight",
        *(f"blk.{layer}.attn_{which}.weight" for layer in range(3) for which in "kv"),
    }  # and not those of the layer that the base hasn't


def test_only_in_the_layers_that_are_named(base: Model, donor: Model) -> None:
    made = grafted(base, donor, "attn_v", layers="first 1, last 1")
    assert made.replaced == ("blk.0.attn_v.weight", "blk.2.attn_v.weight")
    names = [tensor.name for tensor in base.tensors]
    assert [tensor.name for tensor in made.model.tensors] == names
    for name in names:
        of = donor if name in made.replaced else base
        assert made.model.sources[name] == of.sources[name]
    assert made.model.metadata == base.metadata
    assert made.model.files == (*base.files, *donor.files)


def test_a_draft_head_brings_what_the_metadata_says_of_layers(base: Model, donor: Model) -> None:
    made = grafted(base, donor, mtp=True)
    assert made.replaced == ()
    assert set(made.added) == {tensor.name for tensor in donor.tensors if tensor.layer == 3}
    assert set(made.metadata) == {
        "llama.block_count",
        "llama.nextn_predict_layers",
        "llama.attention.head_count_kv",
    }
    assert (made.model.n_blocks, made.model.n_layers) == (4, 3)
    assert made.model.hyperparameter("attention.head_count_kv") == [2, 2, 2, 4]
    assert [tensor.name for tensor in made.model.tensors[: len(base.tensors)]] == [
        tensor.name for tensor in base.tensors
    ]
    assert not made.notes


def test_a_pattern_that_names_nothing_is_refused_with_all_others(base: Model, donor: Model) -> None:
    with pytest.raises(PlanError) as caught:
        grafted(base, donor, "atn_v", "attn_v", "ffn_dwn", layers="first 1")
    assert [problem.what.rpartition("named by ")[2] for problem in caught.value.problems] == [
        "'atn_v' in the layers first 1",
        "'ffn_dwn' in the layers first 1",
    ]


def test_without_layers_for_prediction_there_is_nothing_to_take(base: Model) -> None:
    with pytest.raises(PlanError, match="has no layers for next-token prediction"):
        grafted(base, base, mtp=True)


def test_shapes_have_to_agree(base: Model, tmp_path: Path) -> None:
    wide = model(tmp_path / "wide.gguf", 3, hidden=768)
    with pytest.raises(
        PlanError, match=r"blk.0.ffn_down.weight has the shape 256 × 768 in .*, and 256 × 512 in"
    ):
        grafted(base, wide, "ffn_down")


def test_another_architecture_is_refused(base: Model, tmp_path: Path) -> None:
    pairs = llama_metadata(block_count=3) | {"general.architecture": GGUFValue.of(ValueType.STRING, "qwen3")}
    write_gguf(tmp_path / "other.gguf", llama_tensors(layers=3, hidden=512, vocab=32), pairs)
    with pytest.raises(PlanError, match=r"base.gguf is a llama, and .*other.gguf a qwen3"):
        grafted(base, open_model(tmp_path / "other.gguf"), "attn_v")


def test_layers_that_the_base_has_not_come_whole_or_not_at_all(base: Model, donor: Model) -> None:
    with pytest.raises(PlanError, match=r"named by 'blk.3.ffn_down'; .* come with --mtp"):
        grafted(base, donor, "blk.3.ffn_down")


def test_the_depth_that_tokens_go_through_stays(base: Model, tmp_path: Path) -> None:
    deep = model(tmp_path / "deep.gguf", 5, nextn_predict_layers=1)
    with pytest.raises(PlanError, match=r"a token goes through 3 layers of .*, and 4 of"):
        grafted(base, deep, mtp=True)


def test_draft_heads_that_both_have_are_exchanged(base: Model, donor: Model, tmp_path: Path) -> None:
    longer = model(tmp_path / "longer.gguf", 5, seed=2, nextn_predict_layers=2)
    made = grafted(donor, longer, mtp=True)
    assert {tensor.split(".")[1] for tensor in made.replaced} == {"3"}
    assert {tensor.split(".")[1] for tensor in made.added} == {"4"}
    assert (made.model.n_blocks, made.model.n_layers) == (5, 3)


def test_what_may_not_be_meant_is_told(base: Model, tmp_path: Path) -> None:
    other = model(tmp_path / "other.gguf", 3, context_length=99)
    tokens = GGUFValue.array(ValueType.STRING, ["a", "b"])
    other = replace(other, metadata={**other.metadata, "tokenizer.ggml.tokens": tokens})
    (differ,) = grafted(base, other, "attn_v").notes[:1]
    assert "llama.attention.head_count_kv" in differ
    assert "llama.context_length" in differ
    assert not any("vocabular" in note for note in grafted(base, other, "attn_v").notes)
    assert any(
        "the vocabularies differ, and output.weight goes by" in note
        for note in grafted(base, other, "head").notes
    )
