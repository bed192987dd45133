"""open_huggingface: a Hugging Face folder becomes the Model that llama.cpp's converter would make of it.

    config.json                       architecture, hyper-parameters     model/architectures/
    *.safetensors                     tensors                            model/architectures/tensors
    tokenizer.json or .model, …       vocabulary                         model/tokenizer/
    README.md, folder name, …         general.*                          model/model_card

The converter meant is convert_hf_to_gguf.py with `--outtype bf16`: same names, shapes, bytes and order of tensors;
same keys, types, values and order of metadata. `general.file_type` and `general.quantization_version` stand
where it writes them, with what it writes for BF16.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from quantrecipe.errors import ModelError, UnknownArchitectureError
from quantrecipe.gguf.file_types import FILE_TYPES
from quantrecipe.model.architectures.architecture import Architecture
from quantrecipe.model.architectures.completion import complete, completed
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.hyperparameters import LAYERS
from quantrecipe.model.architectures.quantized.keys import (
    computes_in_16_bits,
    quantized_file_type,
    tensor_extra_pairs,
)
from quantrecipe.model.architectures.rope import rope_parameters
from quantrecipe.model.architectures.tensors import Converted, convert_tensors, parameters
from quantrecipe.model.json_file import read_json_object
from quantrecipe.model.model import Model
from quantrecipe.model.model_card import general_pairs
from quantrecipe.model.pairs import u32
from quantrecipe.model.safetensors import Checkpoint
from quantrecipe.model.tokenizer import tokenizer_pairs
from quantrecipe.wording import quoted

__all__ = ["open_huggingface"]

_ARCHITECTURE = "general.architecture"
_EMBEDDING = "token_embd.weight"
_QUANTIZATION_VERSION = 2  # ggml: GGML_QNT_VERSION
_READ = (
    "config.json", "generation_config.json", "hf_quant_config.json", "preprocessor_config.json",
    "processor_config.json", "modules.json", "*/config.json", "README.md", "added_tokens.json", "tokenizer_config.json",
    "tokenizer.json", "tokenizer.jsonl", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "merges.txt",
    "tiktoken.model", "*.tiktoken", "tekken.json", "rwkv_vocab_v20230424.txt", "tokenization_*.py",
    "chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja",
)  # fmt: skip
"""What is looked at besides the weights."""
_LANGUAGE = ("text_config", "llm_config", "lm_config", "language_config")
"""Where config.json has the language model's part."""
_OF_THE_WHOLE = {
    "DeepseekOCR2ForCausalLM", "DeepseekOCRForCausalLM", "Exaone4_5_ForConditionalGeneration",
    "KimiK3ForConditionalGeneration", "Sarashina2VisionForCausalLM", "Step3p7ForConditionalGeneration",
    "StepVLForConditionalGeneration", "UnlimitedOCRForCausalLM",
}  # fmt: skip
"""Classes that count even where the language model's part names another. Source: conversion/base.py, deepseek.py"""
_DRAFTS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "mtp_transformer_layers", "num_mtp_modules")
"""Names of the number of draft heads, which are layers, too."""
_ALL_OF_THEM = "`quantrecipe help architectures` lists them"
_LONGEST_CLASS = 100  # no class has more, and a comparison takes time
_PARTS = {"model": "the language model", "mmproj": "a projector", "mtp": "a draft head alone"}
_OPTIONS = {"model": "leave --mmproj and --mtp out", "mmproj": "say --mmproj", "mtp": "say --mtp"}
_CONVERTER = (
    "let llama.cpp's own converter read it: git clone https://github.com/ggml-org/llama.cpp && "
    "quantrecipe plan Q4_K_M MODEL --converter llama.cpp (`quantrecipe help converter`)"
)


def open_huggingface(
    folder: Path,
    checkpoint: Checkpoint,
    architectures: Mapping[str, Sequence[Architecture]],
    *,
    part: str = "model",
    pre: str | None = None,
) -> Model:
    """The Model of a folder that has a config.json, and whose tensors are `checkpoint`.

    `architectures` are those that are known, by their classes. `part` is what of the folder becomes the GGUF, one of
    `architectures.PARTS`. `pre` names the pre-tokenizer (llama.cpp's name) where tokenizer.json's rules aren't known.
    ModelError for an architecture that isn't supported, and for what is missing, damaged or already quantized.
    """
    path = folder / "config.json"
    values = read_json_object(path)
    arch, config = _architecture(path, values, part, architectures, checkpoint.tensors)
    _refuse(config, arch)
    tensors = convert_tensors(arch, config, checkpoint)
    size = next((info.rows for info, _ in tensors if info.name == _EMBEDDING), None)
    type_ = "mmproj" if arch.part == "mmproj" else "model"
    general = general_pairs(folder, arch.name, parameters(tensors), type=type_)
    metadata = {_ARCHITECTURE: general[_ARCHITECTURE]} | arch.early(config) | general
    metadata |= arch.common(arch.name, config)
    if (key := f"{arch.name}.block_count") in metadata:
        metadata[key] = u32(arch.layers(config))  # those of draft heads included
    if arch.file_type:
        kind = quantized_file_type(source.dtype for _, source in tensors)
        metadata["general.file_type"] = u32(FILE_TYPES[kind])
    metadata |= arch.pairs(config)
    metadata["general.quantization_version"] = u32(_QUANTIZATION_VERSION)
    metadata |= tensor_extra_pairs(_in_16_bits(config, tensors))
    if arch.part != "mmproj":  # a projector has no vocabulary
        vocabulary = tokenizer_pairs(folder, size, values, pre=pre, vocabulary=arch.vocabulary)
        metadata |= arch.tokenizer(config, vocabulary)
    return Model(
        path=folder,
        container="huggingface",
        arch=arch.name,
        tensors=tuple(info for info, _ in tensors),
        metadata=metadata,
        sources={info.name: source for info, source in tensors},
        files=(*checkpoint.files_read, *_files_read(folder)),
    )


def _files_read(folder: Path) -> Iterable[Path]:
    return (file for pattern in _READ for file in sorted(folder.glob(pattern)) if file.is_file())


def _in_16_bits(config: Config, tensors: Sequence[Converted]) -> Iterable[str]:
    """Names of weights in NVFP4 whose activations aren't to be rounded to 4 bits."""
    there = [(info.name, source.stored_name) for info, source in tensors if source.dtype == "NVFP4"]
    if not there:
        return []
    chosen = computes_in_16_bits(config)
    return [name for name, stored in there if chosen(re.sub(r"\.experts\.\d+\.", ".experts.", stored))]


def _class_name(values: Mapping[str, Any], part: str) -> Any:
    """The class that config.json names; of several towers, the one that the part of the wanted one names."""
    inner = next((it for name in _LANGUAGE if isinstance(it := values.get(name), Mapping)), {})
    named, own = values.get("architectures"), inner.get("architectures")
    name = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else None
    if part == "mmproj":
        seen = values.get("vision_config")
        own = seen.get("architectures") if isinstance(seen, Mapping) else None
    if name not in _OF_THE_WHOLE and isinstance(own, list) and own:
        return own[0]
    return name


def _architecture(
    path: Path,
    values: dict[str, Any],
    part: str,
    known: Mapping[str, Sequence[Architecture]],
    stored: Collection[str],
) -> tuple[Architecture, Config]:
    """The architecture of a class that is for this configuration, and the configuration as it sees it."""
    name = _class_name(values, part)
    if not isinstance(name, str):
        what = (
            'names no architecture (expected under "architectures": a list with a class, "LlamaForCausalLM")'
        )
        raise ModelError(what, "add it, or give the model as a GGUF", file=path)
    if name not in known:
        close = get_close_matches(name[:_LONGEST_CLASS], known, 3, 0.7)
        which = f"closest of {len(known)}: {', '.join(close)}" if close else f"{len(known)} others are"
        what = f"the architecture {quoted(name)} is not supported ({which}; {_ALL_OF_THEM})"
        raise UnknownArchitectureError(what, _CONVERTER, file=path)
    for arch in known[name]:
        if arch.part == part:
            config = _complete(path, values, arch, stored)
            if arch.applies(config):
                return arch, config
    raise UnknownArchitectureError(*_absent(name, part, {arch.part for arch in known[name]}), file=path)


def _absent(name: str, part: str, parts: Collection[str]) -> tuple[str, str]:
    """What to say where a class is known, and not for the part that is wanted; `parts` are those it is known for."""
    if part in parts:
        what = f"the architecture {name!r} can't be converted with this configuration"
        return what, _CONVERTER
    what = f"{_PARTS[part]} of the architecture {name!r} can't be converted"
    others = [option for other, option in _OPTIONS.items() if other in parts]
    if not others:
        return what, _CONVERTER
    return f"{what}; what can be: {', '.join(_PARTS[it] for it in _OPTIONS if it in parts)}", (
        f"{' or '.join(others)}, or {_CONVERTER}"
    )


def _complete(path: Path, values: dict[str, Any], arch: Architecture, stored: Collection[str]) -> Config:
    """Complete config.json by what transformers assumes."""
    _check_layers(path, values, stored)
    language = values.get("text_config")
    language = language if isinstance(language, Mapping) else {}
    said = frozenset((*values, *language))
    stated = {**values, **language} if arch.as_stated else complete(values)
    whole, values = completed(values), {**arch.defaults, **stated}
    for name, derive in arch.derive.items():
        if values.get(name) is None:
            values[name] = derive(values)
    adjusted = arch.adjust(values)
    rope = rope_parameters(path, adjusted, arch.default_theta)
    return Config(path=path, values=adjusted, rope=rope, whole=whole, said=said, stored=stored)


def _check_layers(path: Path, values: Mapping[str, Any], stored: Collection[str]) -> None:
    """ModelError for more layers than tensors, before anything is made for each layer."""
    for part in (values, *(it for name in _LANGUAGE if isinstance(it := values.get(name), Mapping))):
        for name in (*LAYERS, *_DRAFTS):
            if isinstance(count := part.get(name), int) and count > len(stored):
                what = f"says {name}: {shown(count)}, but there are only {len(stored)} tensors"
                raise ModelError(what, "download it again, or mend it", file=path)


def _refuse(config: Config, arch: Architecture) -> None:
    if (reason := arch.refuse(config)) is not None:
        raise ModelError(reason, _CONVERTER, file=config.path)
