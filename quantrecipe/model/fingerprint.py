"""Fingerprint: which model this is, whatever file it lies in.

    v1:STRUCTURE:NORMS
    STRUCTURE   XXH3-64 of names and shapes of the tensors that every form of a model has
    NORMS       XXH3-128 of names and values of its norms, as float32

The Hugging Face folder, the BF16 GGUF and every quantized GGUF of a model share it: norms stay float32 in all of them,
and a BF16 norm becomes float32 without a loss. A model without some of its layers has another one. Only norms are
read, a few MB of the largest models.

**What it can't tell**: two models of one family with the same norms have the same fingerprint. Training moves norms
nearly always, but adapters (LoRA) usually leave them alone, so what was merged from one often has its base's; and a
few families have no weights in their norms (OLMo), so that only the structure is left.

Forms of a model differ in much else, which is why only few matrices count (`_MATRICES`):

    output.weight                       is left out where it is the embedding (tied), by some converters only
    rope_freqs, rope_factors_*          are computed from config.json, and rounded as the program happens to round
    ssm_a, ssm_d, biases, sinks         the same, or have other shapes in other versions of the converter
    attn_q, attn_k, attn_v / attn_qkv   apart or in one; so are ffn_gate and ffn_up, ssm_in and attn_gate, ssm_ba, …
    attn_kv_b / attn_k_b, attn_v_b      latent attention: in one in files before May 2025
    blocks with nextn.* (MTP)           are left out by older converters, and on request
    indexer.*, v.*, mm.*, a.*           of sparse attention, vision and sound: left out, or in a file of their own
    *.scale, *.input_scale              companions of types that need a factor for each tensor

Source: llama.cpp's conversion/ and what it makes of the models in tests/data/huggingface.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from quantrecipe.model.model import Model
from quantrecipe.model.source.reading import Reading
from quantrecipe.model.source.source import TensorSource
from quantrecipe.model.tensor_reader import TensorReader
from quantrecipe.tensor import TensorInfo, nextn_layers

__all__ = ["Fingerprint", "fingerprint"]

_VERSION = "v1"
_TEXT = re.compile(rf"{_VERSION}:([0-9a-f]{{16}}):([0-9a-f]{{32}})")
_NORM = re.compile(r".*_norm(\.weight|\.bias)?")
_MATRICES = frozenset({"token_embd", "attn_output", "ffn_down", "ffn_down_exps", "ffn_down_shexp", "ssm_out"})
"""By the last part of their role: matrices with one name and one shape in every form of a model."""
_NOT_EVERYWHERE = frozenset({"nextn", "indexer", "v", "mm", "a"})
"""Parts of names whose tensors some forms of a model lack."""
_LARGEST_NORM = 1 << 22
"""Weights: the widest models have norms of some 20,000. What is larger is no norm, and isn't read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """Which model this is, as far as structure and norms tell.

    norms: "" where the values aren't at hand: a shape file
    """

    structure: str
    norms: str

    def __str__(self) -> str:
        """Write it as files hold it: v1:STRUCTURE:NORMS."""
        return f"{_VERSION}:{self.structure}:{self.norms}"

    @classmethod
    def parse(cls, text: str) -> Fingerprint | None:
        """Read what `str` wrote; None for a version that isn't known here, and for what is no fingerprint."""
        match = _TEXT.fullmatch(text)
        return None if match is None else cls(structure=match[1], norms=match[2])

    def agrees(self, other: Fingerprint) -> bool:
        """True unless both are known to differ: norms that aren't at hand can't."""
        unknown = not (self.norms and other.norms)
        return self.structure == other.structure and (unknown or self.norms == other.norms)


def fingerprint(model: Model) -> Fingerprint:
    """The fingerprint of a model, before any of its layers is pruned. Reads its norms.

    ModelError where the file doesn't hold them any more.
    """
    tensors = [it for it in _in_every_form(model) if _is_norm(it) or _last(it) in _MATRICES]
    structure = xxhash.xxh3_64()
    # A model whose tensors have no name that is known here, such as one for images, is known by all of them.
    for tensor in sorted(tensors or model.tensors, key=lambda it: it.name):
        structure.update(f"{tensor.name}\0{_shape(tensor)}\0".encode())
    if not model.has_weights:
        return Fingerprint(structure=structure.hexdigest(), norms="")
    norms = xxhash.xxh3_128()
    with TensorReader() as reader:
        for tensor in sorted(filter(_is_norm, tensors), key=lambda it: it.name):
            norms.update(f"{tensor.name}\0".encode())
            norms.update(_values(model.sources[tensor.name], tensor, reader).tobytes())
    return Fingerprint(structure=structure.hexdigest(), norms=norms.hexdigest())


def _in_every_form(model: Model) -> Iterator[TensorInfo]:
    """Go through the tensors that no converter leaves out."""
    predicting = nextn_layers(
        model.tensors
    )  # some files say in their metadata how many there are, and have none
    for tensor in model.tensors:
        if tensor.layer not in predicting and not _NOT_EVERYWHERE & set(tensor.role.split(".")):
            yield tensor


def _is_norm(tensor: TensorInfo) -> bool:
    return _NORM.fullmatch(tensor.name) is not None and tensor.size <= _LARGEST_NORM


def _last(tensor: TensorInfo) -> str:
    """The role within a block of any kind: "enc.blk.0.ffn_down" of a T5, too, whose blocks aren't `blk.N.`."""
    return tensor.role.rpartition(".")[2]


def _shape(tensor: TensorInfo) -> tuple[int, ...]:
    """The shape without leading ones, which llama-quantize leaves out and gguf-py doesn't."""
    shape = tensor.shape
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _values(source: TensorSource, tensor: TensorInfo, reader: TensorReader) -> NDArray[np.generic]:
    """The norm as little-endian float32; in a type that isn't a float's, the bytes as they are."""
    raw = source.read(0, source.total_rows, Reading(reader, tensor=tensor.name))
    flat = np.ascontiguousarray(raw).reshape(-1)
    match source.dtype:
        case "BF16":
            return (flat.view("<u2").astype("<u4") << 16).view("<f4")
        case "F16":
            return flat.view("<f2").astype("<f4")
        case "F64":
            with np.errstate(
                over="ignore"
            ):  # what is too large for float32 stops apply, and is only hashed here
                return flat.view("<f8").astype("<f4")
    return flat
