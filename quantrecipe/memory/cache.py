"""The KV cache and recurrent states of each layer, as llama.cpp allocates them, read off the layer's own tensors.

    attention         keys and values of every token of the context: rows of attn_k and attn_v
    sliding window    the same for a window and a batch only
    MLA               one compressed row for each token: rows of attn_kv_a_mqa; no values
    draft heads       nothing, as long as they aren't used: a context of their own has them
    recurrent         one state for each sequence, whatever the context: convolution and state matrix, in F32

Origin of the facts: llama.cpp b11312, src/llama-kv-cache.cpp, llama-kv-cache-iswa.cpp, llama-memory-recurrent.cpp,
llama-model.cpp (create_memory: which layers) and llama-hparams.cpp (n_embd_r, n_embd_s).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quantrecipe.errors import PlanError
from quantrecipe.model.model import Model
from quantrecipe.model.sliding_window import SlidingWindows
from quantrecipe.tensor import TensorInfo, nextn_layers, split_name

__all__ = ["CACHE_TYPES", "LayerCache", "layer_caches", "padded_context"]

CACHE_TYPES = {
    "f32": (1, 4),
    "f16": (1, 2),
    "bf16": (1, 2),
    "q8_0": (32, 34),
    "q5_1": (32, 24),
    "q5_0": (32, 22),
    "q4_1": (32, 20),
    "q4_0": (32, 18),
    "iq4_nl": (32, 18),
}
"""Weights of a block, and its bytes, of the types that a cache can have (llama.cpp: --cache-type-k)."""

_PAD = 256  # llama.cpp: contexts, and caches of windows, are multiples of it
_F32 = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerCache:
    """What one layer keeps of the tokens that it has seen.

    k, v:   width of a token's keys and values
    window: tokens that it looks back, 0 where it looks at all
    state:  bytes for each sequence
    """

    k: int = 0
    v: int = 0
    window: int = 0
    state: int = 0

    def cells(self, context: int, ubatch: int) -> int:
        """How many tokens of a context are kept."""
        context = padded_context(context)
        if not self.window:
            return context
        return min(context, -(-(min(context, self.window + ubatch)) // _PAD) * _PAD)

    def nbytes(self, context: int, kv: str, ubatch: int) -> int:
        """For one sequence. PlanError where the type's blocks don't fit the width."""
        cells = self.cells(context, ubatch)
        return cells * (_row_bytes(self.k, kv) + _row_bytes(self.v, kv)) + self.state


def padded_context(context: int) -> int:
    """The context that llama.cpp allocates for one of so many tokens."""
    return -(-context // _PAD) * _PAD


def layer_caches(model: Model) -> Mapping[int, LayerCache]:
    """What each layer keeps, by its number; layers that keep nothing aren't there."""
    layers: dict[int, dict[str, TensorInfo]] = {}
    for tensor in model.tensors:
        layer, role = split_name(tensor.name.removeprefix("dec."))  # of T5, the decoder has a cache
        if layer is not None:
            layers.setdefault(layer, {})[role] = tensor
    windows = SlidingWindows(model, max(layers, default=-1) + 1)
    drafts = nextn_layers(model.tensors)
    if drafts >= layers.keys():  # a draft head alone: its own context keeps what its layers see
        drafts = set()
    found = {}
    for layer, tensors in sorted(layers.items()):
        if layer in drafts:
            continue
        state = _state(tensors, model)
        k, v = _widths(tensors, model, layer) if windows.has_cache(layer) else (0, 0)
        if k or state:
            found[layer] = LayerCache(k=k, v=v, window=windows.of(layer) if k else 0, state=state)
    return found


def _widths(tensors: Mapping[str, TensorInfo], model: Model, layer: int) -> tuple[int, int]:
    """The widths of a token's keys and values; 0 where the layer has no attention."""
    if latent := tensors.get("attn_kv_a_mqa"):
        if "attn_k_b" in tensors:  # multi-head latent attention as it is: what is compressed is kept
            return latent.rows, 0
        heads = model.number("attention.head_count", layer=layer)
        return heads * model.number("attention.key_length"), heads * model.number("attention.value_length")
    if "attn_k" in tensors and "attn_v" in tensors:
        return tensors["attn_k"].rows, tensors["attn_v"].rows
    if "attn_k" in tensors:  # keys that are the values, too
        return tensors["attn_k"].rows, tensors["attn_k"].rows
    fused = tensors.get("attn_qkv")
    if fused is None or any(role.startswith("ssm_") for role in tensors):
        return 0, 0
    heads = model.number("attention.head_count", layer=layer)
    kv_heads = model.number("attention.head_count_kv", heads, layer=layer)
    both = fused.rows * kv_heads // (heads + 2 * kv_heads) if heads else 0
    return both, both


def _state(tensors: Mapping[str, TensorInfo], model: Model) -> int:
    """Bytes of a recurrent layer's states for one sequence."""
    # llama.cpp: n_embd_r, the window of the convolution without its newest column, and n_embd_s, the state itself.
    if conv := tensors.get("ssm_conv1d"):
        inner = model.number("ssm.inner_size") or (
            tensors["ssm_out"].cols if "ssm_out" in tensors else conv.rows
        )
        decay = tensors.get("ssm_a")
        few = 128 if decay is None or decay.size == decay.rows or decay.cols == 1 else decay.cols
        size = model.number("ssm.state_size", few)
        return _F32 * ((conv.cols - 1) * conv.rows + size * inner)
    if conv := tensors.get("ssm_conv1d_q"):  # Kimi's delta attention
        head = model.number("kda.head_dim", 128)
        return _F32 * (3 * (conv.cols - 1) * conv.rows + head * conv.rows)
    if conv := tensors.get("shortconv.conv"):
        return _F32 * (conv.cols - 1) * conv.rows
    if any(role.startswith("time_mix_") for role in tensors):
        width = model.number("embedding_length")
        return _F32 * width * (model.number("token_shift_count", 2) + model.number("wkv.head_size", 64))
    return 0


def _row_bytes(width: int, kv: str) -> int:
    block, nbytes = CACHE_TYPES[kv]
    if width % block:
        raise PlanError(
            f"a KV cache of {kv} isn't possible: rows of {width} don't divide into blocks of {block}",
            "use f16",
        )
    return width // block * nbytes
