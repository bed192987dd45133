"""What lies on the GPU and what beside it, as llama.cpp divides a model, and what that takes.

`--n-gpu-layers N` puts the last N of the layers on the GPU, of which the head counts as one; the token embedding
always stays in main memory, and where it is the head, too, the GPU has a copy. `--cpu-moe` keeps experts in main
memory. A GPU that computes with weights of main memory gets them by copies, for which it needs room.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from quantrecipe.memory.cache import layer_caches
from quantrecipe.memory.compute import Compute
from quantrecipe.model.model import Model
from quantrecipe.tensor import TensorInfo

__all__ = ["DeviceMemory", "Division", "Place", "Settings", "reserved"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How the model is run: see VramBudget, whose fields these are."""

    context: int = 4096
    kv: str = "f16"
    layers: int | None = None
    experts: Literal["gpu", "cpu"] = "gpu"
    ubatch: int = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceMemory:
    """What a model takes of one device, in bytes.

    cache:  KV cache and recurrent states
    copies: room for matrices of main memory that the GPU computes with
    """

    weights: int
    cache: int
    compute: int
    copies: int = 0

    @property
    def total(self) -> int:
        """All bytes together."""
        return self.weights + self.cache + self.compute + self.copies


Place = Literal["gpu", "cpu", "both"]


_KEPT_FREE = 512 << 20
"""What drivers and the CUDA context take beside llama.cpp's buffers; llama.cpp's own --fit leaves 1 GiB."""
_KEPT_FREE_SHARE = 20

_INPUTS = ("token_embd", "per_layer_token_embd", "token_embd_norm", "position_embd", "token_types")
"""Tables of what goes in, which llama.cpp keeps in main memory whatever --n-gpu-layers says."""


def reserved(total: int) -> int:
    """Bytes of a GPU's memory that aren't for the model: half a GiB, of small ones a twentieth."""
    return min(_KEPT_FREE, total // _KEPT_FREE_SHARE)


class Division:
    """Where the tensors and caches of a model are, and what they take."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self._settings = settings
        self._caches = layer_caches(model)
        self._compute = Compute(model, ubatch=settings.ubatch, context=settings.context)
        blocks = 1 + max((t.layer for t in model.tensors if t.layer is not None), default=-1)
        self._layers = range(blocks)
        on_gpu = blocks + 1 if settings.layers is None else min(settings.layers, blocks + 1)
        self._first = blocks + 1 - on_gpu
        self._head = model.head
        self._head_on_gpu = on_gpu > 0

    @property
    def layers_on_gpu(self) -> int:
        """How many layers are on the GPU, as llama.cpp counts them: the head is one."""
        return len(self._layers) + 1 - self._first

    def place(self, tensor: TensorInfo) -> Place:
        """On which device a tensor's bytes are."""
        if tensor.layer is None:
            if tensor.role in _INPUTS:
                return "both" if tensor.name == self._head and self._head_on_gpu else "cpu"
            return "gpu" if self._head_on_gpu else "cpu"
        if tensor.layer < self._first or (self._settings.experts == "cpu" and _is_expert(tensor)):
            return "cpu"
        return "gpu"

    def on_gpu(self, tensor: TensorInfo, nbytes: int) -> int:
        """How many of a tensor's bytes are on the GPU."""
        return nbytes if self.place(tensor) != "cpu" else 0

    def on_cpu(self, tensor: TensorInfo, nbytes: int) -> int:
        """How many of a tensor's bytes are in main memory."""
        return nbytes if self.place(tensor) != "gpu" else 0

    def gpu(self, tensors: Iterable[tuple[TensorInfo, int]]) -> DeviceMemory:
        """What the GPU holds, if the tensors have so many bytes."""
        tensors = list(tensors)
        if not self._head_on_gpu:
            return DeviceMemory(weights=0, cache=0, compute=0)
        layers = self._layers[self._first :]
        compute = max([self._compute.logits, *(self._of_layer(layer) for layer in layers)])
        return DeviceMemory(
            weights=sum(self.on_gpu(tensor, nbytes) for tensor, nbytes in tensors),
            cache=self._cache(layers),
            compute=compute,
            copies=self._copies(tensors),
        )

    def cpu(self, tensors: Iterable[tuple[TensorInfo, int]]) -> DeviceMemory:
        """What main memory holds, if the tensors have so many bytes."""
        here = [self._of_layer(layer) for layer in self._layers[: self._first]]
        if not self._head_on_gpu:
            here.append(self._compute.logits)
        if here:
            compute = self._compute.stream + max(here)
        elif self._settings.experts == "cpu":
            compute = self._compute.mask(None) + max(
                (self._compute.experts(layer) for layer in self._layers), default=0
            )
        else:
            compute = self._compute.inputs
        return DeviceMemory(
            weights=sum(self.on_cpu(tensor, nbytes) for tensor, nbytes in tensors),
            cache=self._cache(self._layers[: self._first]),
            compute=compute,
        )

    def _of_layer(self, layer: int) -> int:
        experts_here = self._settings.experts == "gpu"
        return self._compute.layer(layer, self._caches.get(layer), experts_here=experts_here)

    def _cache(self, layers: range) -> int:
        settings = self._settings
        return sum(
            self._caches[layer].nbytes(settings.context, settings.kv, settings.ubatch)
            for layer in layers
            if layer in self._caches
        )

    def _copies(self, tensors: Iterable[tuple[TensorInfo, int]]) -> int:
        """Room for the largest matrix of main memory that the GPU computes with (llama.cpp: op_offload)."""
        return max(
            (
                nbytes
                for tensor, nbytes in tensors
                if tensor.layer is not None and len(tensor.shape) > 1 and self.place(tensor) == "cpu"
            ),
            default=0,
        )


def _is_expert(tensor: TensorInfo) -> bool:
    """True for what `--cpu-moe` keeps in main memory: the matrices of experts, and their biases."""
    return tensor.role.removesuffix(".bias").endswith(("_exps", "_chexps"))
