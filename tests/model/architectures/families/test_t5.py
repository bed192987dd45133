"""T5: copies of the embedding, two towers, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.recorded_architectures import edit_config, write_recorded

from quantrecipe.errors import ModelError
from quantrecipe.model import huggingface
from quantrecipe.model.open_model import open_model
from quantrecipe.model.source.source import Stored

Weights = dict[str, tuple[str, list[int]]]
SHARED = "shared.weight"


@pytest.fixture(autouse=True)
def no_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "tokenizer_pairs", lambda *_, **__: {})


@pytest.mark.parametrize(
    ("names", "first"),
    [
        ([SHARED], SHARED),
        ([SHARED, "encoder.embed_tokens.weight"], "encoder.embed_tokens.weight"),
        (
            [SHARED, "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"],
            "decoder.embed_tokens.weight",
        ),
    ],
)
def test_of_copies_the_first_is_taken(names: list[str], first: str, tmp_path: Path) -> None:
    def copied(weights: Weights) -> None:
        weights |= dict.fromkeys(names, weights[SHARED])

    source = open_model(write_recorded("t5", tmp_path, copied)).sources["token_embd.weight"]
    assert isinstance(source, Stored)
    assert source.stored_name == first


@pytest.mark.parametrize("folder", ["t5", "t5encoder"])
@pytest.mark.parametrize(
    "tensor",
    [
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "encoder.block.1.layer.1.DenseReluDense.wi_0.weight",
        "encoder.final_layer_norm.weight",
        SHARED,
    ],
)
def test_tensors_that_have_to_be_there(folder: str, tensor: str, tmp_path: Path) -> None:
    model = write_recorded(folder, tmp_path, lambda weights: weights.pop(tensor))
    with pytest.raises(ModelError, match="is missing"):
        open_model(model)


def test_a_decoder_may_be_deeper_than_its_encoder(tmp_path: Path) -> None:
    def shallow(weights: Weights) -> None:
        for name in [name for name in weights if name.startswith("encoder.block.1.")]:
            del weights[name]

    folder = edit_config(write_recorded("t5", tmp_path, shallow), lambda it: it.update(num_layers=1))
    model = open_model(folder)
    assert "dec.blk.1.attn_q.weight" in model.sources
    assert model.metadata["t5.block_count"].decode() == 1


def test_a_tower_without_its_layers(tmp_path: Path) -> None:
    folder = edit_config(write_recorded("t5", tmp_path), lambda it: it.update(num_decoder_layers=1))
    with pytest.raises(ModelError, match=r"is none that llama\.cpp has for a t5"):
        open_model(folder)


def test_a_decoder_begins_with_a_token(tmp_path: Path) -> None:
    folder = edit_config(write_recorded("t5", tmp_path), lambda it: it.pop("decoder_start_token_id"))
    with pytest.raises(ModelError, match="has no decoder_start_token_id"):
        open_model(folder)
