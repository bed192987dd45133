"""Large random models, for measuring: Gaussian weights, written straight to a GGUF."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantrecipe.gguf.header import TensorEntry
from quantrecipe.gguf.values import GGUFValue, ValueType
from quantrecipe.gguf.write_header import encode_header, padded

TYPES = {"F32": 0, "F16": 1, "BF16": 30}
F32 = TYPES["F32"]
_POOL = 1 << 24  # weights that are drawn; longer tensors repeat them


def write_llama(
    path: Path, *, layers: int, cols: int, hidden: int, vocab: int, experts: int = 0, dtype: str = "BF16"
) -> int:
    """Write a llama of random weights, and return how many it has. An existing file of the same size is kept."""
    pool = _pool(dtype)
    shapes = dict(_shapes(layers=layers, cols=cols, hidden=hidden, vocab=vocab, experts=experts))
    entries, offset = [], 0
    for name, shape in shapes.items():
        kind = TYPES[dtype] if len(shape) > 1 else F32
        entries.append(TensorEntry(name=name, shape=shape, ggml_type=kind, offset=offset))
        offset += padded(int(np.prod(shape)) * (4 if kind == F32 else pool.itemsize), 32)
    header = encode_header(
        _metadata(layers=layers, cols=cols, hidden=hidden, vocab=vocab, experts=experts), entries
    )
    weights = sum(int(np.prod(shape)) for shape in shapes.values())
    if path.exists() and path.stat().st_size == len(header) + offset:
        return weights
    with path.open("wb") as file:
        file.write(header)
        for entry in entries:
            size = int(np.prod(entry.shape))
            if len(entry.shape) == 1:
                file.write(np.ones(size, "<f4").tobytes())
            else:
                for start in range(0, size, _POOL):
                    file.write(pool[: size - start].tobytes())
            file.write(bytes(-file.tell() % 32))
    return weights


def _pool(dtype: str) -> NDArray[np.generic]:
    """Weights as they are stored in the type."""
    draw = np.random.default_rng(0).standard_normal(_POOL, dtype=np.float32) * np.float32(0.02)
    if dtype == "BF16":
        return (draw.view(np.uint32) >> np.uint32(16)).astype("<u2")
    return draw.astype({"F32": "<f4", "F16": "<f2"}[dtype])


def _shapes(
    *, layers: int, cols: int, hidden: int, vocab: int, experts: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "token_embd.weight", (vocab, cols)
    for i in range(layers):
        block = f"blk.{i}."
        yield block + "attn_norm.weight", (cols,)
        yield block + "attn_q.weight", (cols, cols)
        yield block + "attn_k.weight", (cols // 4, cols)
        yield block + "attn_v.weight", (cols // 4, cols)
        yield block + "attn_output.weight", (cols, cols)
        yield block + "ffn_norm.weight", (cols,)
        stack, suffix = ((experts,), "_exps") if experts else ((), "")
        if experts:
            yield block + "ffn_gate_inp.weight", (experts, cols)
        yield f"{block}ffn_gate{suffix}.weight", (*stack, hidden, cols)
        yield f"{block}ffn_up{suffix}.weight", (*stack, hidden, cols)
        yield f"{block}ffn_down{suffix}.weight", (*stack, cols, hidden)
    yield "output_norm.weight", (cols,)


def _metadata(*, layers: int, cols: int, hidden: int, vocab: int, experts: int) -> dict[str, GGUFValue]:
    numbers = {
        "block_count": layers,
        "context_length": 2048,
        "embedding_length": cols,
        "feed_forward_length": hidden,
        "attention.head_count": cols // 128,
        "attention.head_count_kv": cols // 512,
        "vocab_size": vocab,
    }
    if experts:
        numbers |= {"expert_count": experts, "expert_used_count": 2}
    return {
        "general.architecture": GGUFValue.of(ValueType.STRING, "llama"),
        **{f"llama.{key}": GGUFValue.of(ValueType.UINT32, number) for key, number in numbers.items()},
        "llama.attention.layer_norm_rms_epsilon": GGUFValue.of(ValueType.FLOAT32, 1e-5),
    }
