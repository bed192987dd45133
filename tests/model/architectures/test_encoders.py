"""BERT and its relatives: labels, places, what is left out, and what is refused. The recorded folders show the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.recorded_architectures import write_edited

from quantrecipe.errors import ModelError
from quantrecipe.model.architectures import nomic_bert
from quantrecipe.model.architectures.config import Config
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.model.pairs import f32s, i32s, text, texts

Weights = dict[str, tuple[str, list[int]]]


def edited(
    name: str, parent: Path, change: Callable[[Weights], object] | None = None, **values: Any
) -> Model:
    return open_model(write_edited(name, parent, change, **values))


def said(model: Model, key: str) -> Any:
    return model.metadata[f"{model.arch}.{key}"].decode()


def with_rows(count: int) -> Callable[[Weights], object]:
    """The classifier of so many labels."""

    def change(tensors: Weights) -> None:
        tensors["classifier.weight"] = ("BF16", [count, 64])
        tensors["classifier.bias"] = ("BF16", [count])

    return change


def test_labels_by_number_not_by_text(tmp_path: Path) -> None:
    named = {str(number): f"kind {number}" for number in (10, *range(10))}
    model = edited("bert-classifier", tmp_path, with_rows(11), id2label=named)
    assert said(model, "classifier.output_labels") == [f"kind {number}" for number in range(11)]


def test_as_many_labels_as_are_counted(tmp_path: Path) -> None:
    model = edited("bert-classifier", tmp_path, with_rows(1), id2label=..., num_labels=1)
    assert said(model, "classifier.output_labels") == ["LABEL_0"]


@pytest.mark.parametrize("name", ["bert-classifier", "distilbert-classifier", "modernbert-ranker"])
def test_two_labels_without_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r'no names, and .* expects one label; name them: "id2label"'):
        edited(name, tmp_path, with_rows(2), id2label=...)


def test_two_labels_without_names_in_a_head_of_two_matrices(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="two labels no names"):
        edited("roberta-ranker", tmp_path, id2label={"0": "LABEL_0", "1": "LABEL_1"})


def test_more_labels_than_rows(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'classifier.out_proj.weight' \(cls.output.weight\) has the shape"):
        edited("bert-classifier", tmp_path, id2label={"0": "yes"})


@pytest.mark.parametrize("named", [["yes", "no"], {"yes": "0"}, {"0": 1}, {"-1": "yes"}])
def test_labels_that_are_no_names_by_number(tmp_path: Path, named: Any) -> None:
    with pytest.raises(ModelError, match=r"says id2label: .* \(expected: names by number\)"):
        edited("bert-classifier", tmp_path, id2label=named)


def test_pooling_that_no_classifier_asks_for(tmp_path: Path) -> None:
    """EuroBERT's default is "late", of a classifier that its GGUF never has."""
    model = edited("eurobert", tmp_path, classifier_pooling="late")
    assert "eurobert.classifier.pooling_type" not in model.metadata


def test_pooling_in_front_of_a_classifier(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"says classifier_pooling: 'late' \(what llama\.cpp has: mean, cls"):
        edited("modernbert-ranker", tmp_path, classifier_pooling="late")


def test_the_class_of_modernbert_pools_by_its_first_token(tmp_path: Path) -> None:
    assert said(edited("modernbert", tmp_path, classifier_pooling=...), "classifier.pooling_type") == 2


def test_places_begin_behind_the_padding(tmp_path: Path) -> None:
    model = edited("roberta", tmp_path, pad_token_id=9)
    assert said(model, "context_length") == 120
    assert next(it.shape for it in model.tensors if it.name == "position_embd.weight") == (120, 64)


@pytest.mark.parametrize("padding", [-1, True, "1", 1.5])
def test_padding_that_is_no_token(tmp_path: Path, padding: Any) -> None:
    with pytest.raises(ModelError, match=r"says pad_token_id: .* \(expected: a whole number\)"):
        edited("roberta", tmp_path, pad_token_id=padding)


def test_padding_behind_all_places(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="says pad_token_id: 129, but there are only 130 embeddings"):
        edited("roberta", tmp_path, pad_token_id=129)


@pytest.mark.parametrize("places", ["many", None, True])
def test_places_that_are_no_number(tmp_path: Path, places: Any) -> None:
    with pytest.raises(ModelError, match="max_position_embeddings"):
        edited("roberta", tmp_path, max_position_embeddings=places)


def test_no_kinds_of_texts(tmp_path: Path) -> None:
    """llama.cpp doesn't load a model that says so."""
    with pytest.raises(ModelError, match="has no type_vocab_size"):
        edited("distilbert-masked", tmp_path, type_vocab_size=0)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("bert", {"hidden_act": "relu"}, "says hidden_act: 'relu', but llama.cpp computes GELU"),
        ("distilbert-masked", {"activation": "relu"}, "says activation: 'relu'"),
        ("jina-embeddings-v3", {"hidden_act": "silu"}, "says hidden_act: 'silu'"),
        ("bert", {"position_embedding_type": "relative_key"}, "has a table of places"),
        ("jina-embeddings-v3", {"lora_adaptations": ...}, "says position_embedding_type: 'rotary'"),
        ("bert", {"architectures": ["CamembertModel"]}, "is of a CamemBERT, whose Unigram vocabulary"),
        ("modernbert", {"hidden_activation": "relu"}, r"has for this architecture: gelu, silu\)"),
        ("neobert", {"hidden_act": "GELU"}, "says hidden_act: 'GELU', but llama.cpp computes SwiGLU"),
        ("jina-embeddings-v2-base-en", {"feed_forward_type": "reglu"}, "says feed_forward_type: 'reglu'"),
        ("nomic-embed-text-v1.5", {"prenorm": True}, "says prenorm: True, but llama.cpp has False"),
        ("nomic-embed-text-v1.5", {"qkv_proj_bias": True}, "says qkv_proj_bias: True"),
        ("nomic-embed-text-v2-moe", {"qkv_proj_bias": False}, "llama.cpp has True"),
        ("nomic-embed-text-v1.5", {"rotary_emb_scale_base": 512}, "says rotary_emb_scale_base: 512"),
    ],
)  # fmt: skip
def test_what_llama_cpp_would_compute_otherwise(
    tmp_path: Path, name: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        edited(name, tmp_path, **values)


@pytest.mark.parametrize("values", [{"n_positions": 512}, {"n_positions": [8192]}, {"n_positions": ...},
                                    {"max_trained_positions": 8192}])  # fmt: skip
def test_places_that_nomic_doesn_t_have(tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"\(expected: \(8192, 2048\) or \(2048, 2048\)\)"):
        edited("nomic-embed-text-v1.5", tmp_path, **values)


def test_swiglu_by_any_spelling(tmp_path: Path) -> None:
    assert edited("neobert", tmp_path, hidden_act="SwiGLU").arch == "neo-bert"


def test_the_bias_of_modernbert_s_masked_head(tmp_path: Path) -> None:
    """llama.cpp's converter can't name it, and the embedding serves as the matrix that it belongs to."""
    bias: Weights = {"decoder.bias": ("BF16", [301])}
    model = edited("modernbert-masked-nobias", tmp_path, lambda tensors: tensors.update(bias))
    assert not any("decoder" in it.name or it.name == "output.bias" for it in model.tensors)


def test_windows_that_llama_cpp_doesn_t_know(tmp_path: Path) -> None:
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    with pytest.raises(ModelError, match="full_attention in one of 3 layers"):
        edited("modernbert-v5", tmp_path, layer_types=kinds)
    with pytest.raises(ModelError, match="layer_types"):
        edited("modernbert-v5", tmp_path / "b", layer_types=kinds[:2])


def test_windows_of_another_period(tmp_path: Path) -> None:
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    model = edited("modernbert-v5", tmp_path, layer_types=kinds, global_attn_every_n_layers=2)
    assert said(model, "attention.sliding_window_pattern") == 2


def test_no_period_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no global_attn_every_n_layers"):
        edited("modernbert-v5", tmp_path, global_attn_every_n_layers=0)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("bert", "encoder.layer.1.attention.self.key.weight"),
        ("bert", "encoder.layer.1.attention.self.key.bias"),
        ("bert", "embeddings.position_embeddings.weight"),
        ("jina-reranker-v2", "roberta.encoder.layers.1.mixer.Wqkv.weight"),
        ("jina-embeddings-v3", "roberta.encoder.layers.0.norm1.bias"),
        ("nomic-embed-text-v2-moe", "encoder.layers.3.mlp.experts.mlp.w1"),
        ("nomic-embed-text-v2-moe", "encoder.layers.2.mlp.fc1.weight"),
        ("nomic-embed-text-v1.5", "encoder.layers.1.mlp.fc11.weight"),
        ("jina-embeddings-v2-base-code", "encoder.layer.1.attention.self.layer_norm_q.weight"),
        ("modernbert", "layers.1.attn_norm.weight"),
        ("neobert", "model.layer_norm.weight"),
        ("eurobert", "layers.1.self_attn.o_proj.weight"),
    ],
)
def test_half_a_model(tmp_path: Path, name: str, missing: str) -> None:
    with pytest.raises(ModelError, match="is missing; a part of the model is missing"):
        edited(name, tmp_path, lambda tensors: tensors.pop(missing))


def test_fewer_experts_than_config_says(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"can't have the shape \(8, 128, 64\)"):
        edited("nomic-embed-text-v2-moe", tmp_path, num_experts=8)


def test_a_feed_forward_without_a_gate(tmp_path: Path) -> None:
    def ungated(tensors: Weights) -> None:
        for layer in range(2):
            del tensors[f"bert.encoder.layer.{layer}.mlp.gated_layers.weight"]
            up = f"bert.encoder.layer.{layer}.intermediate.dense"
            tensors[f"{up}.weight"], tensors[f"{up}.bias"] = ("BF16", [128, 64]), ("BF16", [128])

    model = edited("jina-embeddings-v2-base-en", tmp_path, ungated, feed_forward_type="original")
    assert next(it.shape for it in model.tensors if it.name == "blk.0.ffn_up.weight") == (128, 64)


def test_the_token_that_nomic_s_sentencepiece_file_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nomic_bert, "_MASK", 2)
    arch = nomic_bert.NOMIC_BERT_MOE
    config = Config(path=tmp_path / "config.json", values={"type_vocab_size": 1})
    pairs = {
        "tokenizer.ggml.model": text("t5"),
        "tokenizer.ggml.tokens": texts(["<s>", "a", "[PAD2]"]),
        "tokenizer.ggml.scores": f32s([0.0, -1.5, -10000.0]),
        "tokenizer.ggml.token_type": i32s([3, 1, 5]),
    }
    as_read = arch.tokenizer(config, pairs)  # of tokenizer.json, which has it
    assert as_read["tokenizer.ggml.tokens"] == pairs["tokenizer.ggml.tokens"]
    (tmp_path / "sentencepiece.bpe.model").touch()
    found = {key: value.decode() for key, value in arch.tokenizer(config, pairs).items()}
    assert found["tokenizer.ggml.tokens"] == ["<s>", "a", "<mask>"]
    assert found["tokenizer.ggml.scores"] == [0.0, -1.5, 0.0]
    assert found["tokenizer.ggml.token_type"] == [3, 1, 3]
    monkeypatch.setattr(nomic_bert, "_MASK", 3)
    assert arch.tokenizer(config, pairs)["tokenizer.ggml.tokens"] == pairs["tokenizer.ggml.tokens"]
