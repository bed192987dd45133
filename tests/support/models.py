"""Small random models, written as GGUF files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantrecipe.gguf.header import TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header, padded

TYPE_IDS = {"F32": 0, "F16": 1, "BF16": 30}


def llama_tensors(
    *,
    layers: int = 2,
    cols: int = 256,
    hidden: int = 512,
    vocab: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    experts: int = 0,
    tied: bool = False,
    seed: int = 0,
) -> dict[str, NDArray[np.float32]]:
    """Name → weights of a llama: dense, or with experts. The arrays are the caller's to change."""
    drawn = _drawn(layers, cols, hidden, vocab, heads, kv_heads, experts, tied, seed)
    return {name: weights.copy() for name, weights in drawn.items()}


# Many tests start from the same few models, and drawing them takes longer than the rest of a small test.
@lru_cache(maxsize=16)
def _drawn(
    layers: int,
    cols: int,
    hidden: int,
    vocab: int,
    heads: int,
    kv_heads: int,
    experts: int,
    tied: bool,
    seed: int,
) -> Mapping[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)

    def matrix(*shape: int) -> NDArray[np.float32]:
        return (rng.standard_normal(shape) * 0.05).astype(np.float32)

    kv = cols // heads * kv_heads
    tensors = {"token_embd.weight": matrix(vocab, cols)}
    for i in range(layers):
        block = f"blk.{i}."
        tensors |= {
            f"{block}attn_norm.weight": np.ones(cols, np.float32),
            f"{block}attn_q.weight": matrix(cols, cols),
            f"{block}attn_k.weight": matrix(kv, cols),
            f"{block}attn_v.weight": matrix(kv, cols),
            f"{block}attn_output.weight": matrix(cols, cols),
            f"{block}ffn_norm.weight": np.ones(cols, np.float32),
        }
        if experts:
            tensors |= {
                f"{block}ffn_gate_inp.weight": matrix(experts, cols),
                f"{block}ffn_gate_exps.weight": matrix(experts, hidden, cols),
                f"{block}ffn_up_exps.weight": matrix(experts, hidden, cols),
                f"{block}ffn_down_exps.weight": matrix(experts, cols, hidden),
            }
        else:
            tensors |= {
                f"{block}ffn_gate.weight": matrix(hidden, cols),
                f"{block}ffn_up.weight": matrix(hidden, cols),
                f"{block}ffn_down.weight": matrix(cols, hidden),
            }
    tensors["output_norm.weight"] = np.ones(cols, np.float32)
    if not tied:
        tensors["output.weight"] = matrix(vocab, cols)
    return tensors


def llama_metadata(**hyper: int) -> dict[str, GGUFValue]:
    """The least that makes a GGUF a llama; `block_count=4` becomes `llama.block_count`."""
    pairs = {"general.architecture": GGUFValue.of(ValueType.STRING, "llama")}
    for key, value in (
        {"block_count": 2, "attention.head_count": 4, "attention.head_count_kv": 2} | hyper
    ).items():
        pairs[f"llama.{key}"] = GGUFValue.of(ValueType.UINT32, value)
    return pairs


def stored(values: NDArray[np.float32], type_: str) -> bytes:
    """Weights in the bytes of a float type; BF16 by cutting, so pass values that have no low bits or don't care."""
    if type_ == "F32":
        return values.astype("<f4").tobytes()
    if type_ == "F16":
        return values.astype("<f2").tobytes()
    return (values.view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes()


def write_gguf(
    path: Path,
    tensors: Mapping[str, NDArray[np.float32]],
    metadata: Mapping[str, Any] | None = None,
    *,
    type_: str = "BF16",
    alignment: int = 32,
) -> Path:
    """A GGUF of these weights: matrices as `type_`, vectors as F32."""
    pairs = dict(metadata if metadata is not None else llama_metadata())
    if alignment != 32:
        pairs["general.alignment"] = GGUFValue.of(ValueType.UINT32, alignment)
    entries, blobs, offset = [], [], 0
    for name, values in tensors.items():
        kind = type_ if values.ndim > 1 else "F32"
        blob = stored(values, kind)
        entries.append(TensorEntry(name=name, shape=values.shape, ggml_type=TYPE_IDS[kind], offset=offset))
        size = padded(len(blob), alignment)
        blobs.append(blob.ljust(size, b"\0"))
        offset += size
    path.write_bytes(encode_header(pairs, entries, alignment) + b"".join(blobs))
    return path
