"""Small Hugging Face models: a recorded configuration and tokenizer, with weights remade from their names.

The weights are bytes of SHAKE-128 of the tensor's name, formed into BF16 numbers of ordinary size, so that
every machine and every NumPy makes the same.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).parents[1] / "data" / "huggingface"
MODELS = tuple(sorted(path.name for path in DATA.iterdir() if path.is_dir()))


def write_model(name: str, parent: Path) -> Path:
    """The model's folder, made whole under `parent`; its name is part of what is converted."""
    folder = parent / name
    shutil.copytree(DATA / name, folder, ignore=shutil.ignore_patterns("converted.json"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tensors = dict(tensor_shapes(config, **json.loads((DATA / name / "weights.json").read_text())))
    (folder / "weights.json").unlink()
    if name != "mistral-sharded":
        write_safetensors(folder / "model.safetensors", tensors)
        return folder
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    halves: list[dict[str, tuple[int, ...]]] = [{}, {}]
    for place, (tensor, shape) in enumerate(tensors.items()):
        halves[place % 2][tensor] = shape
    for shard, half in zip(shards, halves, strict=True):
        write_safetensors(folder / shard, half)
    weight_map = {tensor: shard for shard, half in zip(shards, halves, strict=True) for tensor in half}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )
    return folder


def write_safetensors(path: Path, tensors: Mapping[str, tuple[int, ...]], dtype: str = "BF16") -> None:
    """A file of BF16 tensors, their data in the order given."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in tensors.items():
        size = 2 * prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    raw = json.dumps(header).encode()
    data = b"".join(weights(name, shape).tobytes() for name, shape in tensors.items())
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)


def weights(name: str, shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """BF16 numbers between 2^-7 and 2, of both signs."""
    raw = np.frombuffer(hashlib.shake_128(name.encode()).digest(2 * prod(shape)), "<u2")
    return ((raw & 0x83FF) | 0x3C00).reshape(shape)


def tensor_shapes(
    config: Mapping[str, Any],
    *,
    bias: str = "",
    qk_norm: bool = False,
    head: bool = True,
    experts: str = "",
    shared_expert: bool = False,
    inv_freq: bool = False,
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes as such a model has them on Hugging Face. `bias` names the projections that have one."""
    hidden, ff, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads = config["num_attention_heads"]
    kv = config.get("num_key_value_heads", heads)
    dim = config.get("head_dim", hidden // heads)
    yield "model.embed_tokens.weight", (vocab, hidden)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        rows = {"q": heads * dim, "k": kv * dim, "v": kv * dim, "o": hidden}
        for letter, count in rows.items():
            cols = heads * dim if letter == "o" else hidden
            yield f"{layer}self_attn.{letter}_proj.weight", (count, cols)
            if letter in bias:
                yield f"{layer}self_attn.{letter}_proj.bias", (count,)
        if qk_norm:
            yield f"{layer}self_attn.q_norm.weight", (dim,)
            yield f"{layer}self_attn.k_norm.weight", (dim,)
        if inv_freq:
            yield f"{layer}self_attn.rotary_emb.inv_freq", (dim // 2,)
        yield f"{layer}input_layernorm.weight", (hidden,)
        yield f"{layer}post_attention_layernorm.weight", (hidden,)
        if not experts:
            yield from _feed_forward(f"{layer}mlp.", hidden, ff)
            continue
        count = config.get("num_local_experts") or config["num_experts"]
        length = config.get("moe_intermediate_size", ff)
        if experts == "mixtral":
            yield f"{layer}block_sparse_moe.gate.weight", (count, hidden)
            for expert in range(count):
                for w, shape in {
                    "w1": (length, hidden),
                    "w2": (hidden, length),
                    "w3": (length, hidden),
                }.items():
                    yield f"{layer}block_sparse_moe.experts.{expert}.{w}.weight", shape
            continue
        yield f"{layer}mlp.gate.weight", (count, hidden)
        if experts == "stacked":
            yield f"{layer}mlp.experts.gate_up_proj", (count, 2 * length, hidden)
            yield f"{layer}mlp.experts.down_proj", (count, hidden, length)
        else:
            for expert in range(count):
                yield from _feed_forward(f"{layer}mlp.experts.{expert}.", hidden, length)
        if shared_expert:
            yield from _feed_forward(
                f"{layer}mlp.shared_expert.", hidden, config["shared_expert_intermediate_size"]
            )
            yield f"{layer}mlp.shared_expert_gate.weight", (1, hidden)
    yield "model.norm.weight", (hidden,)
    if head:
        yield "lm_head.weight", (vocab, hidden)


def _feed_forward(prefix: str, hidden: int, length: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{prefix}gate_proj.weight", (length, hidden)
    yield f"{prefix}up_proj.weight", (length, hidden)
    yield f"{prefix}down_proj.weight", (hidden, length)
