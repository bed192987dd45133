"""What holds tensors and is no model: LoRA adapters, control vectors, vocabularies. Recipes are for models.

    general.type = adapter; *.lora_a and *.lora_b      an adapter for llama.cpp
    adapter_config.json, adapter_model.safetensors     one of PEFT's
    general.architecture = controlvector               a control vector
    tokenizer.ggml.tokens, and no tensor               a vocabulary

llama-quantize copies the first three as they are, and labels them with the type that was asked for.
Sources: llama.cpp, gguf-py/gguf/constants.py (GGUFType), src/llama-adapter.cpp, tools/cvector-generator; PEFT's
utils/constants.py. An importance matrix is refused where GGUFs are opened; a projector (mmproj) is a model.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from quantrecipe.errors import ModelError
from quantrecipe.gguf.values import metadata_text
from quantrecipe.model.model import Model

__all__ = ["refuse_peft", "require_model"]

_LORA = re.compile(r"\.lora_(?:a|b|down|up|embedding_a|embedding_b)(?:\.|$)", re.IGNORECASE)
_PEFT_CONFIG = "adapter_config.json"
_PEFT_WEIGHTS = "adapter_model."  # .safetensors, .bin
_EXPORT = "llama-export-lora -m BASE.gguf --lora {adapter} -o merged.gguf"


def require_model(model: Model) -> None:
    """ModelError, with what to do instead, where the tensors are no model's."""
    if not model.tensors:
        if "tokenizer.ggml.tokens" in model.metadata:
            what = "holds a vocabulary and no tensors: there is nothing to quantize"
            raise ModelError(what, "give the file with the model's weights", file=model.path)
        raise ModelError("has no tensors", "give the file with the model's weights", file=model.path)
    if _is_adapter(model):
        raise _adapter(model.path, f"merge it into its base model first: {_merging(model)}")
    if model.arch == "controlvector":
        what = "is a control vector: a vector for each layer, which llama.cpp reads as F32"
        raise ModelError(
            what, "use it as it is (llama-cli --control-vector), beside a quantized model", file=model.path
        )


def refuse_peft(path: Path) -> None:
    """ModelError for an adapter as PEFT saves it: the folder, or the file in it."""
    names = {file.name for file in path.iterdir()} if path.is_dir() else {path.name}
    weights = {name for name in names if name.startswith(_PEFT_WEIGHTS)}
    others = any(name.endswith((".safetensors", ".gguf")) for name in names - weights)
    if (weights or _PEFT_CONFIG in names) and not others:
        raise _adapter(
            path,
            "merge it into its base model first (in Python: PeftModel.merge_and_unload(), then save_pretrained()), or "
            f"make a GGUF of it with convert_lora_to_gguf.py and: {_EXPORT.format(adapter='ADAPTER.gguf')}",
        )


def _is_adapter(model: Model) -> bool:
    if metadata_text(model.metadata, "general.type") == "adapter":
        return True
    return 2 * len(_factors([tensor.name for tensor in model.tensors])) > len(model.tensors)


def _factors(names: Collection[str]) -> list[str]:
    """The halves of low-rank products. A model may have a few; of an adapter they are most."""
    return [name for name in names if _LORA.search(name)]


def _merging(model: Model) -> str:
    if model.container == "gguf":
        return _EXPORT.format(adapter=model.path.name)
    return "with the program that trained it"


def _adapter(path: Path, remedy: str) -> ModelError:
    what = (
        "is a LoRA adapter: small factors, which add to the weights of a base model, and nothing to quantize"
    )
    return ModelError(what, f"{remedy}; then quantize what comes of it", file=path)
