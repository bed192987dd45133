"""Models that llama.cpp can't load, or that are only a part of one, are refused when they are opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.huggingface import MODELS, write_model, write_safetensors

from quantrecipe.errors import ModelError
from quantrecipe.model.open_model import open_model
from quantrecipe.model.safetensors import read_safetensors_header

Tensors = dict[str, tuple[int, ...]]
ONE_FILE = [name for name in MODELS if name != "mistral-sharded"]
LAYER = "model.layers.1."


def problems(folder: Path) -> list[str]:
    """What opening the folder complains about."""
    with pytest.raises(ModelError) as caught:
        open_model(folder)
    return [str(problem) for problem in caught.value.problems]


def change_tensors(folder: Path, change: Callable[[Tensors], object]) -> Path:
    path = folder / "model.safetensors"
    tensors = {name: stored.shape for name, stored in read_safetensors_header(path).tensors.items()}
    change(tensors)
    write_safetensors(path, tensors)
    return folder


def change_config(folder: Path, **values: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


@pytest.mark.parametrize("name", ONE_FILE)
def test_every_tensor_is_needed_but_the_output(name: str, tmp_path: Path) -> None:
    folder = write_model(name, tmp_path)
    original = read_safetensors_header(folder / "model.safetensors").tensors
    last = max(json.loads((folder / "config.json").read_text())["num_hidden_layers"] - 1, 0)
    for tensor in original:
        within = f"layers.{last}." in tensor or "layers." not in tensor
        if not within or tensor.endswith("inv_freq") or tensor == "lm_head.weight":
            continue  # the output has a test of its own
        if last == 0 and tensor.endswith(".bias"):
            continue
        change_tensors(folder, lambda tensors, gone=tensor: tensors.pop(gone))  # type: ignore[misc]  # bound by default
        told = problems(folder)
        stem = tensor.removesuffix(".weight").replace("experts.gate_up_proj", "experts.gate_proj")
        assert any(f"tensor '{stem}" in problem and "is missing" in problem for problem in told), told
        assert all(str(folder) in problem for problem in told)
        write_safetensors(folder / "model.safetensors", {n: stored.shape for n, stored in original.items()})
    open_model(folder)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("key", ["hidden_size", "intermediate_size", "num_key_value_heads", "vocab_size"])
def test_a_size_that_the_tensors_dont_have(name: str, key: str, tmp_path: Path) -> None:
    moe_has_its_own = name.startswith(("qwen2moe", "qwen3moe")) and key == "intermediate_size"
    folder = change_config(write_model(name, tmp_path), **{key: 12})
    if moe_has_its_own:  # llama.cpp doesn't look at it, either
        open_model(folder)
        return
    told = problems(folder)
    assert len(told) <= 6
    assert key in told[0]


@pytest.mark.parametrize("name", ["qwen2moe", "qwen3moe", "qwen3moe-stacked"])
@pytest.mark.parametrize("key", ["moe_intermediate_size", "shared_expert_intermediate_size"])
def test_lengths_of_experts(name: str, key: str, tmp_path: Path) -> None:
    folder = change_config(write_model(name, tmp_path), **{key: 12})
    if key.startswith("shared") and name != "qwen2moe":
        open_model(folder)
    else:
        assert key in problems(folder)[0].partition("by ")[2]


class TestMessages:
    def test_a_missing_tensor_goes_by_both_names(self, tmp_path: Path) -> None:
        folder = write_model("llama-tied", tmp_path)
        change_tensors(folder, lambda tensors: tensors.pop(f"{LAYER}mlp.up_proj.weight"))
        assert problems(folder) == [
            f"{folder}: tensor 'model.layers.1.mlp.up_proj.weight' (blk.1.ffn_up.weight) is missing; "
            "a part of the model is missing: download it again"
        ]

    def test_a_wrong_size_tells_the_first_few(self, tmp_path: Path) -> None:
        folder = change_config(write_model("llama-tied", tmp_path), intermediate_size=12)
        told = problems(folder)
        assert told[0].startswith(f"{folder / 'config.json'}: tensor 'model.layers.0.mlp.gate_proj.weight' ")
        assert "has the shape (96, 64) (expected: (12, 64), by intermediate_size, hidden_size)" in told[0]
        assert told[5] == f"{folder / 'config.json'}: … and 1 more like these"

    def test_layers_without_tensors(self, tmp_path: Path) -> None:
        (told,) = problems(change_config(write_model("llama-tied", tmp_path), num_hidden_layers=9))
        assert "config.json: says that there are 9 layers" in told
        assert "no tensors of 7 of them (2, 3, 4, 5, 6, …)" in told

    def test_layers_beyond_the_last(self, tmp_path: Path) -> None:
        told = problems(change_config(write_model("llama-tied", tmp_path), num_hidden_layers=1))
        assert "'model.layers.1.input_layernorm.weight' is none that a llama of 1 layers has" in told[0]
        assert len(told) == 6

    def test_tensors_that_llama_cpp_has_no_place_for(self, tmp_path: Path) -> None:
        folder = write_model("qwen2", tmp_path)
        change_tensors(folder, lambda tensors: tensors.update({f"{LAYER}self_attn.o_proj.bias": (64,)}))
        (told,) = problems(folder)
        assert "o_proj.bias' (blk.1.attn_output.bias) is none that llama.cpp has for a qwen2" in told


class TestOutput:
    def test_tied_by_config(self, tmp_path: Path) -> None:
        folder = change_config(write_model("llama-tied", tmp_path), tie_word_embeddings=False)
        (told,) = problems(folder)
        assert "'lm_head.weight' (output.weight) is missing" in told
        assert '"tie_word_embeddings": true' in told

    def test_an_embedding_model_has_no_use_for_one(self, tmp_path: Path) -> None:
        folder = write_model("Qwen3-Embedding-0.1B", tmp_path)
        change_tensors(folder, lambda tensors: tensors.pop("lm_head.weight"))
        assert "output.weight" not in {tensor.name for tensor in open_model(folder).tensors}

    def test_qwen2moe_has_to_have_one(self, tmp_path: Path) -> None:
        folder = change_config(write_model("qwen2moe", tmp_path), tie_word_embeddings=True)
        change_tensors(folder, lambda tensors: tensors.pop("lm_head.weight"))
        assert "'lm_head.weight' (output.weight) is missing" in problems(folder)[0]


class TestExperts:
    def test_missing_ones_are_named(self, tmp_path: Path) -> None:
        told = problems(change_config(write_model("qwen3moe", tmp_path), num_experts=5))
        assert "'model.layers.0.mlp.experts.4.down_proj.weight' is missing" in told[0]
        assert told[-1].endswith("… and 1 more like these")

    @pytest.mark.parametrize(("name", "key"), [("mixtral", "num_local_experts"), ("qwen3moe", "num_experts")])
    def test_more_than_config_says(self, name: str, key: str, tmp_path: Path) -> None:
        (told,) = problems(change_config(write_model(name, tmp_path), **{key: 3}))
        assert f"config.json: says {key}: 3, but there is a tensor 'model.layers.0." in told

    def test_an_absurd_number_of_them(self, tmp_path: Path) -> None:
        (told,) = problems(change_config(write_model("qwen3moe", tmp_path), num_experts=2**31))
        assert "says num_experts: 2147483648, but there are only" in told

    def test_more_in_a_stack_than_config_says(self, tmp_path: Path) -> None:
        told = problems(change_config(write_model("qwen3moe-stacked", tmp_path), num_experts=3))
        assert "(expected: (3, 64), by num_experts, hidden_size)" in told[0]

    @pytest.mark.parametrize("used", [0, 5, None])
    def test_asked_of_each_token(self, used: int | None, tmp_path: Path) -> None:
        (told,) = problems(change_config(write_model("qwen3moe", tmp_path), num_experts_per_tok=used))
        assert f"each token is sent to {used or 0} of 4 experts" in told

    def test_a_llama_with_experts(self, tmp_path: Path) -> None:
        (told,) = problems(change_config(write_model("llama-tied", tmp_path), num_local_experts=8))
        assert "is a model with experts (num_local_experts)" in told

    @pytest.mark.parametrize("shape", [(0, 64, 64), (4, 64, 0), (4, 2, 16, 1, 64)])
    def test_stacks_that_no_gguf_holds(self, shape: tuple[int, ...], tmp_path: Path) -> None:
        folder = write_model("qwen3moe-stacked", tmp_path)
        name = f"{LAYER}mlp.experts.gate_up_proj"
        change_tensors(folder, lambda tensors: tensors.update({name: shape}))
        assert f"tensor '{name}' " in problems(folder)[0]


@pytest.mark.parametrize("name", ONE_FILE)
def test_a_row_may_be_a_vector(name: str, tmp_path: Path) -> None:
    """To ggml, (1, n) and (n) are the same."""
    folder = write_model(name, tmp_path)
    change_tensors(folder, lambda tensors: tensors.update({"model.norm.weight": (1, 64)}))
    open_model(folder)
