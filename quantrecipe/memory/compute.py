"""Compute buffers: the largest of what is alive at once while a batch passes through the model.

    logits       every row of the batch times the vocabulary
    feed-forward gate, up and their product; of experts those that a token is sent to
    attention    queries, keys, values; with MLA the compressed queries and their parts
    mask         context × batch, in F16; on the GPU as long as there is attention there

each with the residual stream beside it. llama.cpp's allocator packs real graphs; this is within a few per cent of
what llama-fit-params prints (docs/budgets.md has the comparison). Flash attention is taken to be on, which is
llama.cpp's default where it can be.
"""

from __future__ import annotations

from quantrecipe.memory.cache import LayerCache, padded_context
from quantrecipe.model.model import Model
from quantrecipe.tensor import TensorInfo

__all__ = ["Compute"]

_F32, _F16 = 4, 2
_STREAMS = 3  # residual stream, its norm, a sub-layer's output


class Compute:
    """The compute buffers of one model, for a batch and a context."""

    def __init__(self, model: Model, *, ubatch: int, context: int) -> None:
        self._model = model
        self._batch = min(ubatch, padded_context(context))
        self._context = padded_context(context)
        embedding = next((t for t in model.tensors if t.role == "token_embd"), None)
        self._width = model.number("embedding_length", embedding.cols if embedding else 0)
        self._vocabulary = next((t.rows for t in model.tensors if t.name == model.head), 0)
        self._layers: dict[int, dict[str, TensorInfo]] = {}
        for tensor in model.tensors:
            if tensor.layer is not None:
                self._layers.setdefault(tensor.layer, {})[tensor.role] = tensor

    @property
    def logits(self) -> int:
        """Bytes of the logits, and of what makes them, where the head is."""
        return self._batch * _F32 * (self._vocabulary + 2 * self._width)

    @property
    def stream(self) -> int:
        """Bytes of a batch of hidden states."""
        return self._batch * _F32 * self._width

    @property
    def inputs(self) -> int:
        """Bytes in main memory, whatever is on the GPU: the mask, the embedded tokens and their copy."""
        return self.mask(None) + 2 * self.stream

    def mask(self, cache: LayerCache | None) -> int:
        """Bytes of an attention mask."""
        cells = self._context if cache is None else cache.cells(self._context, self._batch)
        return self._batch * _F16 * cells

    def layer(self, number: int, cache: LayerCache | None, *, experts_here: bool = True) -> int:
        """Bytes where a layer is; `experts_here` False: its experts are somewhere else."""
        tensors = self._layers.get(number, {})
        mask = self.mask(cache) if cache is not None and cache.k else 0
        parts = (
            self._feed_forward(tensors, number, experts_here=experts_here),
            self._attention(tensors, number),
        )
        return mask + self._batch * _F32 * (_STREAMS * self._width + max(parts))

    def experts(self, number: int) -> int:
        """Bytes where a layer's experts are, if the rest of it is somewhere else."""
        wide = self._feed_forward(self._layers.get(number, {}), number, experts_here=True)
        return self._batch * _F32 * (_STREAMS * self._width + wide)

    def _feed_forward(self, tensors: dict[str, TensorInfo], layer: int, *, experts_here: bool) -> int:
        # Gate, up and their product are alive at once.
        widest = max((3 * t.rows for role, t in tensors.items() if role in ("ffn_up", "ffn_gate")), default=0)
        fused = tensors.get("ffn_up") if "ffn_gate" not in tensors else None
        if fused is not None and "ffn_down" in tensors:
            widest = fused.rows + tensors["ffn_down"].cols
        down = tensors.get("ffn_down_exps")
        if down is None or not experts_here:
            return widest
        used = self._model.number("expert_used_count", min(8, down.experts), layer=layer)
        return max(widest, 3 * used * down.cols, used * (down.cols + 2 * down.rows))

    def _attention(self, tensors: dict[str, TensorInfo], layer: int) -> int:
        if (latent := tensors.get("attn_kv_a_mqa")) and (k_b := tensors.get("attn_k_b")):
            heads, compressed = k_b.experts, k_b.rows
            queries = tensors.get("attn_q_b") or tensors.get("attn_q")
            rope = latent.rows - compressed
            return heads * (compressed + latent.rows + rope) + (queries.rows if queries else 0)
        rows = [t.rows for role, t in tensors.items() if role in ("attn_q", "attn_k", "attn_v", "attn_qkv")]
        return sum(rows) + max(rows, default=0)
