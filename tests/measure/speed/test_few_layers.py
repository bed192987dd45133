"""A few layers of a model: all kinds of layers, its own shapes, and metadata that fits them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.errors import EvaluationError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.measure.speed.few_layers import Cut, choose_cut, cut_model, whole_model
from quantrecipe.model.open_model import open_model


def test_large_models_are_cut_to_what_is_quickly_made() -> None:
    model = open_model("shapes/meta-llama-3.1-70b-instruct")
    full, narrow, small = choose_cut(model)
    assert full == Cut(layers=2, rows=65_000_000 // 8192)
    assert narrow == replace(full, rows=full.rows // 4)
    assert small == replace(narrow, layers=1)
    cut = cut_model(model, full)
    assert cut.n_layers == cut.number("block_count") == 2
    own = {t.role: t.shape for t in model.tensors if t.layer == 0}
    assert own == {t.role: t.shape for t in cut.tensors if t.layer == 1}
    assert {t.rows for t in cut.tensors if t.role in ("output", "token_embd")} == {full.rows}
    assert {t.dtype for t in cut.tensors} == {"F32"}
    assert len(cut.metadata["tokenizer.ggml.tokens"]) == full.rows
    assert not cut.has_weights


def test_small_models_stay_whole() -> None:
    model = open_model("shapes/qwen3-0.6b")
    whole = whole_model(model)
    assert sum(t.size for t in whole.tensors) == sum(t.size for t in model.tensors)
    assert whole.number("block_count") == 28


def test_each_kind_of_layer_is_there(tmp_path: Path) -> None:
    """Of a mixture whose first layers are dense, the first with experts is; and of that with few layers, too."""
    tensors = llama_tensors(layers=6)
    experts = llama_tensors(layers=6, experts=4)
    for name in list(tensors):
        if name.startswith(("blk.3.ffn_", "blk.4.ffn_", "blk.5.ffn_")):
            del tensors[name]
    tensors |= {name: it for name, it in experts.items() if name[:6] in ("blk.3.", "blk.4.", "blk.5.")}
    metadata = llama_metadata(block_count=6, expert_count=4, expert_used_count=1, leading_dense_block_count=3)
    model = open_model(write_gguf(tmp_path / "m.gguf", tensors, metadata))
    full, _, small = choose_cut(model)
    assert (full.layers, small.layers) == (6, 4)  # small models are measured with all they have
    cut = cut_model(model, small)
    assert any(t.role == "ffn_up_exps" for t in cut.tensors)
    assert any(t.role == "ffn_up" for t in cut.tensors)


def test_of_many_large_experts_twice_as_many_as_are_used_are_left() -> None:
    shapes = open_model("shapes/qwen3-coder-next")  # 512 experts
    used = {f"{shapes.arch}.expert_used_count": GGUFValue.of(ValueType.UINT32, 10)}
    model = replace(shapes, metadata={**shapes.metadata, **used})
    full = choose_cut(model)[0]
    assert full.experts == 20
    cut = cut_model(model, full)
    assert cut.number("expert_count") == 20
    assert {t.experts for t in cut.tensors if t.role.endswith("_exps")} == {20}
    assert {t.rows for t in cut.tensors if t.role == "ffn_gate_inp"} == {20}


def test_what_shape_files_leave_out_is_added_and_what_a_model_says_is_kept() -> None:
    model = open_model("shapes/qwen3-0.6b")
    cut = cut_model(model, choose_cut(model)[0])
    assert cut.hyperparameter("attention.layer_norm_rms_epsilon") == pytest.approx(1e-6)
    assert cut.number("feed_forward_length") == 3072
    assert cut.number("attention.key_length") == 128
    said = {"qwen3.attention.layer_norm_rms_epsilon": GGUFValue.of(ValueType.FLOAT32, 0.5)}
    model = replace(model, metadata={**model.metadata, **said})
    assert cut_model(model, choose_cut(model)[0]).hyperparameter("attention.layer_norm_rms_epsilon") == 0.5


def test_a_mixture_that_does_not_say_how_many_experts_are_used_is_refused() -> None:
    with pytest.raises(EvaluationError, match="how many of its experts a token is sent to"):
        choose_cut(open_model("shapes/qwen3-30b-a3b"))


def test_a_file_without_layers_is_refused(tmp_path: Path) -> None:
    tensors = {name: it for name, it in llama_tensors().items() if not name.startswith("blk.")}
    model = open_model(write_gguf(tmp_path / "m.gguf", tensors, llama_metadata(block_count=0)))
    with pytest.raises(EvaluationError, match="has no layers and no head"):
        choose_cut(model)
