"""What holds tensors and is no model is refused, with what to do instead; what is one is let pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.errors import ModelError
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.model.not_a_model import require_model
from quantrecipe.model.open_model import open_model
from quantrecipe.planning import make_plan
from quantrecipe.recipe.load import load_recipe
from quantrecipe.registry import load_registry

REGISTRY = load_registry(plugins=False)
FACTORS = {
    "blk.0.attn_q.weight.lora_a": np.ones((8, 256), np.float32),
    "blk.0.attn_q.weight.lora_b": np.ones((256, 8), np.float32),
}


def text(value: str) -> GGUFValue:
    return GGUFValue.of(ValueType.STRING, value)


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        make_plan(
            load_recipe("llama.cpp/Q4_K_M", registry=REGISTRY),
            open_model(path, registry=REGISTRY),
            registry=REGISTRY,
        )
    return str(caught.value)


@pytest.mark.parametrize("said", [{"general.type": text("adapter")}, {}], ids=["by its type", "by its names"])
def test_an_adapter_is_to_be_merged(tmp_path: Path, said: dict[str, GGUFValue]) -> None:
    told = refusal(write_gguf(tmp_path / "lora.gguf", FACTORS, llama_metadata() | said))
    assert "is a LoRA adapter" in told
    assert "llama-export-lora -m BASE.gguf --lora lora.gguf" in told


def test_a_model_with_a_few_factors_is_a_model(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama_tensors() | FACTORS)
    require_model(open_model(path, registry=REGISTRY))


def test_a_projector_is_a_model(tmp_path: Path) -> None:
    tensors = {"v.blk.0.attn_q.weight": np.ones((64, 64), np.float32)}
    metadata = {"general.architecture": text("clip"), "general.type": text("mmproj")}
    require_model(open_model(write_gguf(tmp_path / "mmproj.gguf", tensors, metadata), registry=REGISTRY))


def test_a_control_vector_is_used_as_it_is(tmp_path: Path) -> None:
    tensors = {f"direction.{layer}": np.ones(256, np.float32) for layer in (1, 2)}
    path = write_gguf(tmp_path / "cv.gguf", tensors, {"general.architecture": text("controlvector")})
    assert "is a control vector" in refusal(path)


def test_a_vocabulary_has_nothing_to_quantize(tmp_path: Path) -> None:
    tokens = {"tokenizer.ggml.tokens": GGUFValue.array(ValueType.STRING, ["a", "b"])}
    assert "holds a vocabulary" in refusal(write_gguf(tmp_path / "vocab.gguf", {}, llama_metadata() | tokens))
    assert "has no tensors" in refusal(write_gguf(tmp_path / "empty.gguf", {}))


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_of_peft_is_told_by_its_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    for path in (tmp_path, tmp_path / name, tmp_path / "adapter_config.json"):
        with pytest.raises(ModelError, match=r"merge_and_unload.*convert_lora_to_gguf\.py"):
            open_model(path, arch="llama", registry=REGISTRY)


def test_a_model_may_lie_beside_an_adapter(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError) as caught:
        open_model(tmp_path, registry=REGISTRY)
    assert "adapter" not in str(caught.value)
