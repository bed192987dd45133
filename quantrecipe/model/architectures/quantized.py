"""Weights that a checkpoint stores quantized, as sources of numbers; config.json says by which method.

    fp8                 X.weight, X.weight_scale_inv               DeepSeek: blocks; Mistral: one scale
    compressed-tensors  X.weight, X.weight_scale                   float-quantized: tensor, channel or block
                        X.weight_packed, X.weight_scale, …         pack-quantized: int4 and int8 in groups
    modelopt            X.weight, X.weight_scale                   FP8: one scale
    gptq                X.qweight, X.qzeros, X.scales, X.g_idx     int4 and int8 in groups

What comes out is BF16, as from llama.cpp's converter with `--outtype bf16`: weights are multiplied in float32 and
rounded once. Scales of activations, and of keys and values in the cache, are for engines that compute in 8 bits; they
are left out.

Source: llama.cpp's conversion/base.py, dequant_model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from quantrecipe.errors import ModelError, Problem, abridged
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.safetensors import Checkpoint
from quantrecipe.model.source.dequantize import GPTQ, PackedInt, fp8
from quantrecipe.model.source.layout import Transpose
from quantrecipe.model.source.source import TensorSource
from quantrecipe.wording import shortened

__all__ = ["weights_of"]

Weights: TypeAlias = Mapping[str, TensorSource]
_Settings: TypeAlias = Mapping[str, Any]
_Block: TypeAlias = tuple[int, int] | None
_Reader: TypeAlias = Callable[[Config, _Settings, Weights], dict[str, TensorSource]]

_UNUSED = (
    ".activation_scale", "_activation_scale", ".input_scale", ".output_scale", ".qscale_act",
    ".k_scale", ".v_scale", ".q_scale", ".kv_cache_scale",
)  # fmt: skip
"""Ends of names of scales that are for engines which compute in 8 bits."""

_AGAIN = "download the model again"
_ORIGINAL = "start from the model's BF16, F16 or F32 weights"
_FP8 = ("F8_E4M3", "F8_E5M2")


def weights_of(config: Config, checkpoint: Checkpoint) -> dict[str, TensorSource]:
    """The checkpoint's tensors by their own names, quantized weights as numbers, without their scales.

    ModelError for methods that aren't known here, and for scales that are missing or don't fit.
    """
    stored: dict[str, TensorSource] = {name: it.source for name, it in checkpoint.tensors.items()}
    settings = config.find("quantization_config")
    if not isinstance(settings, dict) or not settings:
        return stored
    read = _READERS.get(_kind(settings))
    if read is None:
        kinds = ", ".join(sorted(_READERS))
        what = f"says that its weights are quantized by {_kind(settings)} (what can be read: {kinds})"
        config.fail(what, _ORIGINAL)
    return read(config, settings, {name: it for name, it in stored.items() if not name.endswith(_UNUSED)})


def _kind(settings: _Settings) -> str:
    """The method, and its variant where it has several: "compressed-tensors float-quantized"."""
    method = settings.get("quant_method")
    if not isinstance(method, str):
        return "an unknown method"
    variant = {"compressed-tensors": "format", "modelopt": "quant_algo"}.get(method)
    return shortened(method if variant is None else f"{method} {settings.get(variant)}")


def _fp8(config: Config, settings: _Settings, weights: Weights) -> dict[str, TensorSource]:
    block = _block(config, "weight_block_size", settings.get("weight_block_size"))
    mistral = any(name.endswith(".qscale_weight") for name in weights)
    return _scaled(config, weights, ".qscale_weight" if mistral else ".weight_scale_inv", block)


def _float_quantized(config: Config, settings: _Settings, weights: Weights) -> dict[str, TensorSource]:
    group = _weight_settings(config, settings)
    if (group.get("type"), group.get("num_bits")) != ("float", 8):
        said = f"{shown(group.get('type'))} of {shown(group.get('num_bits'))} bits"
        config.fail(f"says that its weights are {said} (expected: 'float' of 8 bits)", _ORIGINAL)
    strategy, block = group.get("strategy"), None
    if strategy == "block":
        block = _block(config, "block_structure", group.get("block_structure"))
    elif strategy not in ("channel", "tensor"):
        config.fail(f"says strategy: {shown(strategy)} (expected: tensor, channel or block)", _ORIGINAL)
    return _scaled(config, weights, ".weight_scale", block)


def _modelopt(config: Config, settings: _Settings, weights: Weights) -> dict[str, TensorSource]:
    return _scaled(config, weights, ".weight_scale", None)


def _scaled(config: Config, weights: Weights, suffix: str, block: _Block) -> dict[str, TensorSource]:
    """Each weight that has a scale of this name, times it."""
    scales = {f"{name.removesuffix(suffix)}.weight": name for name in weights if name.endswith(suffix)}
    problems = [*_without_weights(config, weights, scales), *_without_scales(weights, scales, suffix)]
    if problems:
        raise ModelError(abridged(problems))
    return {
        name: fp8(source, weights[scales[name]], block) if name in scales else source
        for name, source in weights.items()
        if not name.endswith(suffix)
    }


def _without_weights(config: Config, weights: Weights, scales: Mapping[str, str]) -> Iterator[Problem]:
    for name, scale in scales.items():
        if name not in weights:
            what = f"tensor {name!r} is missing, which {scale!r} is the scale of"
            yield Problem(what=what, remedy=_AGAIN, file=weights[scale].extents[0].path)


def _without_scales(weights: Weights, scales: Mapping[str, str], suffix: str) -> Iterator[Problem]:
    for name, source in weights.items():
        if source.dtype in _FP8 and name not in scales:
            what = f"tensor {name!r} is {source.dtype}, and its scale {name.removesuffix('.weight')}{suffix} is missing"
            yield Problem(what=what, remedy=_AGAIN, file=source.extents[0].path)


def _pack_quantized(config: Config, settings: _Settings, weights: Weights) -> dict[str, TensorSource]:
    group = _weight_settings(config, settings)
    bits, size = group.get("num_bits"), group.get("group_size")
    if (
        (group.get("strategy"), group.get("type", "int")) != ("group", "int")
        or type(bits) is not int
        or bits not in (4, 8)
    ):
        said = f"{shown(group.get('type'))} of {shown(bits)} bits by {shown(group.get('strategy'))}"
        config.fail(
            f"says that its weights are {said} (expected: 'int' of 4 or 8 bits by 'group')", _ORIGINAL
        )
    if type(size) is not int or size < 1:
        config.fail(f"says group_size: {shown(size)} (expected: a whole number above 0)")
    parts = ("_packed", "_scale", "_zero_point", "_shape", "_g_idx")
    made: dict[str, TensorSource] = {}
    for name, source in weights.items():
        base = name.removesuffix("_packed")
        if name.endswith(".weight_packed"):
            if f"{base}_g_idx" in weights:
                what = f"tensor {name!r} has its columns in another order (act-order), which isn't read"
                raise ModelError(what, _ORIGINAL, file=source.extents[0].path)
            made[base] = PackedInt(
                packed=source,
                scales=_part(weights, source, f"{base}_scale"),
                zeros=weights.get(f"{base}_zero_point"),
                length=source.cols * 32 // bits,
                group=size,
                bits=bits,
            )
        elif not name.endswith(tuple(f".weight{part}" for part in parts)):
            made[name] = source
    return made


def _gptq(config: Config, settings: _Settings, weights: Weights) -> dict[str, TensorSource]:
    bits = settings.get("bits")
    if type(bits) is not int or bits not in (2, 4, 8):
        config.fail(f"says bits: {shown(bits)} (expected: 2, 4 or 8)", _ORIGINAL)
    first_version = settings.get("checkpoint_format", "gptq") == "gptq"
    made: dict[str, TensorSource] = {}
    for name, source in weights.items():
        base = name.rpartition(".")[0]
        if name.endswith(".qweight"):
            numbers = GPTQ(
                packed=source,
                zeros=_part(weights, source, f"{base}.qzeros"),
                scales=_part(weights, source, f"{base}.scales"),
                group_of=_part(weights, source, f"{base}.g_idx"),
                bits=bits,
                added=1 if first_version else 0,
            )
            made[f"{base}.weight"] = Transpose(source=numbers)
        elif f"{base}.qweight" not in weights or not name.endswith((".qzeros", ".scales", ".g_idx")):
            made[name] = source
    return made


def _part(weights: Weights, of: TensorSource, name: str) -> TensorSource:
    """What belongs to a quantized weight."""
    if name not in weights:
        what = f"tensor {name!r} is missing, which {of.stored_name!r} needs"
        raise ModelError(what, _AGAIN, file=of.extents[0].path)
    return weights[name]


def _weight_settings(config: Config, settings: _Settings) -> _Settings:
    """What compressed-tensors says of weights: in one group, since all that is read has one."""
    groups = settings.get("config_groups")
    if not isinstance(groups, dict) or len(groups) != 1:
        count = len(groups) if isinstance(groups, dict) else 0
        config.fail(f"has {count} config_groups of quantized weights (expected: 1)", _ORIGINAL)
    (group,) = groups.values()
    found = group.get("weights") if isinstance(group, dict) else None
    if not isinstance(found, dict):
        config.fail("doesn't say how its weights are quantized (expected: config_groups with weights)")
    return found


def _block(config: Config, name: str, value: Any) -> _Block:
    """Rows and columns that share a scale; None where config.json has no blocks."""
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or len(value) != 2
        or any(type(length) is not int or length < 1 for length in value)
    ):
        config.fail(f"says {name}: {shown(value)} (expected: rows and columns, such as [128, 128])")
    return value[0], value[1]


_READERS: Mapping[str, _Reader] = {
    "fp8": _fp8,
    "compressed-tensors float-quantized": _float_quantized,
    "compressed-tensors pack-quantized": _pack_quantized,
    "modelopt FP8": _modelopt,
    "gptq": _gptq,
}
