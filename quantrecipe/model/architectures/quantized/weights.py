"""Weights that a checkpoint stores quantized, as sources; config.json says by which method (see quantization.py).

    fp8                 X, X_scale_inv                             DeepSeek: blocks; others: one scale, or one for a row
                        X.weight, X.qscale_weight                  Mistral's own names: one scale
                        X.weight, X.scale                          DeepSeek V4: E8M0 for blocks; experts are MXFP4
                        X.weight, X.weight_scale                   MiMo: experts that are MXFP4
    compressed-tensors  X.weight, X.weight_scale                   float-, int-, naive-quantized: tensor, channel, block
                        X.weight_packed, X.weight_scale, …         pack-quantized: int4 and int8 in groups
                        … X.weight_global_scale, …                 nvfp4-pack-quantized, mxfp4-pack-quantized
    modelopt            X.weight, X.weight_scale                   FP8: one scale
                        X.weight, X.weight_scale, X.weight_scale_2, X.input_scale    NVFP4
    mxfp4               X_blocks, X_scales                         gpt-oss
    gptq                X.qweight, X.qzeros, X.scales, X.g_idx     int2, int4 and int8 in groups
    bitnet              X.weight, X.weight_scale                   -1, 0 and 1

Bytes, packed integers and ternary weights become BF16, as from llama.cpp's converter with `--outtype bf16`: they are
multiplied in float32 and rounded once. MXFP4 and NVFP4 become ggml's types of the same names, bit for bit. Other
scales of activations, and of keys and values in the cache, are for engines that compute in 8 bits; they are left out.

What a tensor is, it says itself, by its dtype and by the scales beside it. So a checkpoint may be FP8 in one layer and
NVFP4 in another, and have BF16 anywhere; of the experts of one stack, all have to be alike.

Source: llama.cpp's conversion/base.py, dequant_model and _generate_nvfp4_tensors; deepseek.py, gpt_oss.py, mimo.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from quantrecipe.errors import ModelError, Problem, abridged
from quantrecipe.model.architectures.config import Config, shown
from quantrecipe.model.architectures.quantized.nvfp4 import NVFP4Tensor, in_stack, nvfp4_sources
from quantrecipe.model.architectures.quantized.quantization import (
    ORIGINAL,
    Block,
    Quantization,
    quantization_of,
)
from quantrecipe.model.safetensors import Checkpoint
from quantrecipe.model.source.arithmetic import Inverse
from quantrecipe.model.source.dequantize import GPTQ, BitNet, PackedInt, fp8
from quantrecipe.model.source.layout import Transpose, reshape
from quantrecipe.model.source.repack import MXFP4
from quantrecipe.model.source.source import TensorSource, fail

__all__ = ["weights_of"]

Weights: TypeAlias = Mapping[str, TensorSource]
_Reader: TypeAlias = Callable[[Quantization, Weights], dict[str, TensorSource]]

_UNUSED = (
    ".activation_scale", "_activation_scale", ".input_scale", ".output_scale", ".qscale_act",
    ".k_scale", ".v_scale", ".q_scale", ".kv_cache_scale", ".input_global_scale", ".input_zero_point",
)  # fmt: skip
"""Ends of names of scales that are for engines which compute in 8 bits."""

_AGAIN = "download the model again"
_FLOATS_OF_8_BITS = ("F8_E4M3", "F8_E5M2")
_BYTES = ("U8", "I8", "F4")
"""Two weights of 4 bits, four of 2, or an integer: what it is, follows from the scales."""
_EXPONENTS = ("U8", "F8_E8M0")


def weights_of(config: Config, checkpoint: Checkpoint) -> dict[str, TensorSource]:
    """The checkpoint's tensors by their own names, quantized weights as sources that a GGUF can hold, without scales.

    What isn't quantized is there as it is stored. What is quantized has the name that it would have otherwise:

        X.weight    BF16 (…, rows, cols), or MXFP4, NVFP4; X of gpt-oss: "….experts.gate_up_proj", MXFP4 (experts,
                    rows, cols), gate and up row by row in turn
        X.scale, X.input_scale    of NVFP4 alone: F32 (matrices,), the factor of X.weight, and that of its inputs. There
                    where they aren't 1, of experts that are stored one by one for all or for none of a stack. They
                    follow X.weight: `concat` of the experts' is that of the stack. One that isn't stored is a
                    `Constant` of 1, which has no extents

    The sources of one stack's experts have one class and one `stored_type`, so that `stack` makes one source of them.
    The bytes of factors are read, to see whether they are 1; nothing else is.

    ModelError for methods that aren't known here, for scales and weights without each other, and for what doesn't fit.
    """
    stored: dict[str, TensorSource] = {name: it.source for name, it in checkpoint.tensors.items()}
    quantization = quantization_of(config)
    if quantization is None:
        return stored
    read, variants = _READERS.get(quantization.method, (None, ()))
    if read is None or (variants and quantization.variant not in variants):
        known = ", ".join(variants or sorted(_READERS))
        quantization.fail(
            f"says that its weights are quantized by {quantization.called} (what can be read: {known})"
        )
    made = read(quantization, stored)
    _check_stacks(made)
    return made


def _fp8(quantization: Quantization, weights: Weights) -> dict[str, TensorSource]:
    group = quantization.settings.get("mxfp4_block_size", 32)
    if group != 32:
        quantization.fail(f"says mxfp4_block_size: {shown(group)} (expected: 32, as in ggml)")
    mistral = _pairs(weights, {".qscale_weight": ".weight"})
    deepseek4 = {
        weight: scale
        for weight, scale in _pairs(weights, {".scale": ".weight"}).items()
        if weight in weights
        and weights[weight].dtype in (*_FLOATS_OF_8_BITS, *_BYTES)  # not the scale of a norm
    }
    usual = _pairs(weights, {"_scale_inv": "", ".weight_scale": ".weight"})
    expected = ".qscale_weight" if mistral else ".scale" if deepseek4 else ".weight_scale_inv"
    return _scaled(weights, usual | mistral | deepseek4, quantization.block, expected)


def _compressed(quantization: Quantization, weights: Weights) -> dict[str, TensorSource]:
    if unknown := sorted(quantization.formats.difference(_FORMATS)):
        said = f"{quantization.called}, with weights that are {unknown[0]}"
        quantization.fail(
            f"says that its weights are quantized by {said} (what can be read: {', '.join(_FORMATS)})"
        )
    block = quantization.eight_bits
    if "pack-quantized" in quantization.formats:
        quantization.integers  # noqa: B018  # what is wrong with settings is said, whether or not weights need them
    made: dict[str, TensorSource] = {}
    blocks: list[NVFP4Tensor] = []
    used: set[str] = set()
    for name, source in weights.items():
        if not name.endswith(".weight_packed"):
            continue
        base = name.removesuffix("_packed")
        stem = base.removesuffix(".weight")
        used.update(f"{base}{part}" for part in _PARTS)
        if f"{base}_g_idx" in weights:
            what = f"tensor {name!r} has its columns in another order (act-order), which isn't read"
            raise ModelError(what, ORIGINAL, file=source.extents[0].path)
        scales = _part(weights, source, f"{base}_scale")
        if source.dtype == "I32":
            made[base] = _integers(quantization, source, scales, weights.get(f"{base}_zero_point"))
        elif scales.dtype in _EXPONENTS:
            made[base] = MXFP4(blocks=source, scales=scales)
        else:
            # These are what the weights were multiplied by, and not what multiplies them.
            given = (weights.get(f"{base}_global_scale"), weights.get(f"{stem}.input_global_scale"))
            factor, inputs = (None if it is None else Inverse(source=it) for it in given)
            blocks.append(NVFP4Tensor(name=base, weights=source, scales=scales, factor=factor, inputs=inputs))
    rest = {name: it for name, it in weights.items() if name not in used}
    for name, source in rest.items():
        if name.endswith(".weight_zero_point") and (weight := name.removesuffix("_zero_point")) in rest:
            what = f"tensor {name!r} has the zero points of {weight!r}, which aren't read"
            raise ModelError(what, ORIGINAL, file=source.extents[0].path)
    _refuse_left(rest, tuple(f".weight{part}" for part in _PARTS[2:]), ".weight_packed")
    return (
        _scaled(rest, _pairs(rest, {".weight_scale": ".weight"}), block, ".weight_scale")
        | made
        | nvfp4_sources(blocks)
    )


def _integers(
    quantization: Quantization, packed: TensorSource, scales: TensorSource, zeros: TensorSource | None
) -> TensorSource:
    integers = quantization.integers
    whole = packed.cols * (32 // integers.bits)  # with what fills the last I32 up
    length = whole if integers.group is None else min(whole, scales.cols * integers.group)
    return PackedInt(
        packed=packed,
        scales=scales,
        zeros=zeros,
        length=length,
        group=integers.group or length,
        bits=integers.bits,
    )


def _modelopt(quantization: Quantization, weights: Weights) -> dict[str, TensorSource]:
    if smoothed := next((name for name in weights if name.endswith(".pre_quant_scale")), None):
        quantization.fail(
            f"is of a model whose activations are scaled first ({smoothed!r}), which isn't read"
        )
    blocks: list[NVFP4Tensor] = []
    used: set[str] = set()
    for weight, scale in _pairs(weights, {".weight_scale": ".weight"}).items():
        if weight in weights and weights[weight].dtype in _BYTES:
            stem = weight.removesuffix(".weight")
            factor, inputs = (weights.get(f"{stem}.{end}") for end in ("weight_scale_2", "input_scale"))
            blocks.append(
                NVFP4Tensor(
                    name=weight, weights=weights[weight], scales=weights[scale], factor=factor, inputs=inputs
                )
            )
            used.update((weight, scale, f"{stem}.weight_scale_2", f"{stem}.input_scale"))
    rest = {name: it for name, it in weights.items() if name not in used}
    _refuse_left(rest, (".weight_scale_2",), ".weight")
    return _scaled(rest, _pairs(rest, {".weight_scale": ".weight"}), None, ".weight_scale") | nvfp4_sources(
        blocks
    )


def _mxfp4(quantization: Quantization, weights: Weights) -> dict[str, TensorSource]:
    made: dict[str, TensorSource] = {}
    for name, source in weights.items():
        base = name.removesuffix("_blocks")
        if name.endswith("_blocks"):
            if len(source.shape) < 4:
                fail(source, "can't be blocks of MXFP4 (expected: experts, rows, blocks, 16)")
            *stacked, groups, each = source.shape
            blocks = reshape(source, (*stacked, groups * each))
            made[base] = MXFP4(blocks=blocks, scales=_part(weights, source, f"{base}_scales"))
        elif not name.endswith("_scales"):
            made[name] = source
        elif f"{name.removesuffix('_scales')}_blocks" not in weights:
            _part(weights, source, f"{name.removesuffix('_scales')}_blocks")
    return made


def _bitnet(quantization: Quantization, weights: Weights) -> dict[str, TensorSource]:
    scales = _pairs(weights, {".weight_scale": ".weight"})
    _check_pairs(weights, scales, ".weight_scale")
    return {
        name: BitNet(packed=it, scale=weights[scales[name]]) if name in scales else it
        for name, it in weights.items()
        if not name.endswith(".weight_scale")
    }


def _gptq(quantization: Quantization, weights: Weights) -> dict[str, TensorSource]:
    bits = quantization.settings.get("bits")
    if type(bits) is not int or bits not in (2, 4, 8):
        quantization.fail(f"says bits: {shown(bits)} (expected: 2, 4 or 8)")
    first_version = quantization.settings.get("checkpoint_format", "gptq") == "gptq"
    parts = (".qzeros", ".scales", ".g_idx")
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
        elif not name.endswith(parts):
            made[name] = source
        else:
            _part(weights, source, f"{base}.qweight")
    return made


def _pairs(weights: Weights, ends: Mapping[str, str]) -> dict[str, str]:
    """Weight → scale. `ends`: what a scale's name ends with → what stands there in the weight's."""
    return {
        f"{name.removesuffix(end)}{of}": name
        for name in weights
        for end, of in ends.items()
        if name.endswith(end) and not name.endswith(_UNUSED)
    }


def _scaled(
    weights: Weights, scales: Mapping[str, str], block: Block, expected: str
) -> dict[str, TensorSource]:
    """Each weight that has a scale, times it, or as MXFP4. `expected`: what the scales' names end with, for errors."""
    _check_pairs(weights, scales, expected)
    used = set(scales.values())
    return {
        name: _one(source, weights[scales[name]], block) if name in scales else source
        for name, source in weights.items()
        if name not in used and not name.endswith(_UNUSED)
    }


def _one(source: TensorSource, scales: TensorSource, block: Block) -> TensorSource:
    if source.dtype in _BYTES and scales.dtype in _EXPONENTS:
        return MXFP4(blocks=source, scales=scales)
    return fp8(source, scales, block)


def _check_pairs(weights: Weights, scales: Mapping[str, str], expected: str) -> None:
    """ModelError where a scale has no weight, or a weight that needs a scale has none."""
    problems = [*_without_weights(weights, scales), *_without_scales(weights, scales, expected)]
    if problems:
        raise ModelError(abridged(problems))


def _without_weights(weights: Weights, scales: Mapping[str, str]) -> Iterator[Problem]:
    for name, scale in scales.items():
        if name not in weights:
            what = f"tensor {name!r} is missing, which {scale!r} is the scale of"
            yield Problem(what=what, remedy=_AGAIN, file=weights[scale].extents[0].path)


def _without_scales(weights: Weights, scales: Mapping[str, str], expected: str) -> Iterator[Problem]:
    used = set(scales.values())
    for name, source in weights.items():
        packed = source.dtype in _BYTES and name.endswith(".weight")
        if name not in scales and name not in used and (packed or source.dtype in _FLOATS_OF_8_BITS):
            end = expected if name.endswith(".weight") else expected.removeprefix(".weight")
            scale = f"{name.removesuffix('.weight')}{end}"
            what = f"tensor {name!r} is {source.dtype}, and its scale {scale} is missing"
            yield Problem(what=what, remedy=_AGAIN, file=source.extents[0].path)


def _refuse_left(weights: Weights, ends: tuple[str, ...], of: str) -> None:
    """ModelError where there are parts of a weight, and it isn't there itself."""
    for name, source in weights.items():
        for end in ends:
            if name.endswith(end):
                _part(weights, source, f"{name.removesuffix(end)}{of}")


def _part(weights: Weights, of: TensorSource, name: str) -> TensorSource:
    """What belongs to a quantized weight. ModelError where it is missing."""
    if name not in weights:
        what = f"tensor {name!r} is missing, which {of.stored_name!r} needs"
        raise ModelError(what, _AGAIN, file=of.extents[0].path)
    return weights[name]


def _check_stacks(weights: Weights) -> None:
    """ModelError where an expert is stored in another way than those beside it, which are to be one tensor."""
    first: dict[str, tuple[str, TensorSource]] = {}
    problems = []
    for name, source in weights.items():
        if (stack := in_stack(name)) == name:
            continue
        other, like = first.setdefault(stack, (name, source))
        if source.stored_type != like.stored_type:
            what = f"tensor {name!r} is {source.stored_type}, unlike {other!r}, which is {like.stored_type}"
            remedy = f"{_AGAIN}: the experts of a layer have to be stored alike"
            problems.append(Problem(what=what, remedy=remedy, file=source.leaves[0].extents[0].path))
    if problems:
        raise ModelError(abridged(problems))


_PARTS = ("_packed", "_scale", "_zero_point", "_shape", "_g_idx", "_global_scale")
"""What compressed-tensors stores of a weight X.weight: X.weight_packed, …"""

_FORMATS = (
    "float-quantized", "int-quantized", "mxfp4-pack-quantized", "naive-quantized", "nvfp4-pack-quantized",
    "pack-quantized",
)  # fmt: skip

_ALGORITHMS = ("FP8", "FP8_PER_CHANNEL_PER_TOKEN", "MIXED_PRECISION", "NVFP4", "W4A16_NVFP4")

_READERS: Mapping[str, tuple[_Reader, tuple[str, ...]]] = {
    "bitnet": (_bitnet, ()),
    "compressed-tensors": (_compressed, (*_FORMATS, "mixed-precision")),
    "fp8": (_fp8, ()),
    "gptq": (_gptq, ()),
    "modelopt": (_modelopt, _ALGORITHMS),
    "mxfp4": (_mxfp4, ()),
}
"""Methods, and the variants of each that are read; () for a method without variants."""
