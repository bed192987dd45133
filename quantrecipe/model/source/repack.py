"""Blocks that are ggml's but for the order of their bits: they are moved, and no number changes.

    MXFP4   32 weights of 4 bits → E8M0 scale + 16 bytes (17 bytes); gpt-oss, DeepSeek V4, compressed-tensors
            stored: byte i has weights 2i (low) and 2i + 1 (high)
            ggml:   byte i has weights i (low) and i + 16 (high)

    NVFP4   64 weights of 4 bits → 4 × UE4M3 scale + 4 × 8 bytes (36 bytes); NVIDIA's ModelOpt
            stored: byte i has weights 2i (low) and 2i + 1 (high); an E4M3 scale for each 16 weights
            ggml:   of each 16 weights, byte i has weights i (low) and i + 8 (high)

The tensor's own factor (weight_scale_2) is a tensor of its own in the GGUF.

Source: ggml-quants.c, block_mxfp4 and block_nvfp4; llama.cpp's conversion/gpt_oss.py and base.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quantrecipe.model.source.layout import stack
from quantrecipe.model.source.reading import Reading
from quantrecipe.model.source.source import Operation, Shape, TensorSource, fail, label

__all__ = ["MXFP4", "NVFP4"]

_Bytes = NDArray[np.uint8]

_PACKED = ("U8", "I8", "F4")
"""How two weights in a byte are declared: as bytes of either sign, or as what they are."""

_GGML_MXFP4 = 17
_GGML_NVFP4 = 36
_ORIGINAL = "start from the model's BF16, F16 or F32 weights"


@dataclass(frozen=True, kw_only=True, slots=True)
class MXFP4(Operation):
    """blocks: bytes (…, rows, blocks · 16); scales: U8 or F8_E8M0 (…, rows, blocks) → MXFP4 (…, rows, blocks · 32)."""

    blocks: TensorSource
    scales: TensorSource

    def infer(self) -> tuple[Shape, str]:
        *stacked, count = self.scales.shape or (0,)
        if self.scales.dtype not in ("U8", "F8_E8M0") or self.blocks.dtype not in _PACKED:
            fail(self.blocks, f"with {label(self.scales)} isn't MXFP4 (expected: U8 and U8)")
        if self.blocks.row_bytes != 16 * count or self.blocks.shape[:-1] != (*stacked,):
            fail(self.blocks, f"doesn't have 16 bytes for each scale of {label(self.scales)}")
        return (*stacked, 32 * count), "MXFP4"

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return (self.blocks, self.scales)

    @property
    def row_bytes(self) -> int:
        return self.scales.cols * _GGML_MXFP4

    @property
    def stored_type(self) -> str:
        return self.dtype

    def join(self, others: Sequence[Self], shape: Shape) -> MXFP4 | None:
        if len(shape) != 3:
            return None
        every = (self, *others)
        blocks, scales = stack([it.blocks for it in every]), stack([it.scales for it in every])
        return replace(self, blocks=blocks, scales=scales)

    def read(self, start: int, stop: int, reading: Reading) -> _Bytes:
        count = self.scales.cols
        stored = self.blocks.read(start, stop, reading).reshape(stop - start, count, 16)
        out = np.empty((stop - start, count, _GGML_MXFP4), np.uint8)
        out[:, :, 0] = self.scales.read(start, stop, reading)
        out[:, :, 1:] = _halves(stored)
        return out.reshape(stop - start, -1)


@dataclass(frozen=True, kw_only=True, slots=True)
class NVFP4(Operation):
    """weights: U8 (…, rows, cols / 2); scales: F8_E4M3 (…, rows, cols / 16) → NVFP4 (…, rows, cols)."""

    weights: TensorSource
    scales: TensorSource

    def infer(self) -> tuple[Shape, str]:
        *stacked, groups = self.scales.shape or (0,)
        if self.scales.dtype != "F8_E4M3" or self.weights.dtype not in _PACKED:
            fail(self.weights, f"with {label(self.scales)} isn't NVFP4 (expected: U8 and F8_E4M3)")
        if self.weights.row_bytes != 8 * groups or self.weights.shape[:-1] != (*stacked,):
            fail(self.weights, f"doesn't have 8 bytes for each scale of {label(self.scales)}")
        if groups % 4:
            fail(
                self.weights,
                f"has rows of {16 * groups} weights, which aren't whole blocks of 64",
                _ORIGINAL,
            )
        return (*stacked, 16 * groups), "NVFP4"

    @property
    def operands(self) -> tuple[TensorSource, ...]:
        return (self.weights, self.scales)

    @property
    def row_bytes(self) -> int:
        return self.scales.cols // 4 * _GGML_NVFP4

    @property
    def stored_type(self) -> str:
        return self.dtype

    def join(self, others: Sequence[Self], shape: Shape) -> NVFP4 | None:
        if len(shape) != 3:
            return None
        every = (self, *others)
        weights, scales = stack([it.weights for it in every]), stack([it.scales for it in every])
        return replace(self, weights=weights, scales=scales)

    def read(self, start: int, stop: int, reading: Reading) -> _Bytes:
        groups = self.scales.cols
        stored = self.weights.read(start, stop, reading).reshape(stop - start, groups, 8)
        scales = self.scales.read(start, stop, reading)
        out = np.empty((stop - start, groups // 4, _GGML_NVFP4), np.uint8)
        out[:, :, :4] = (scales & np.uint8(0x7F)).reshape(stop - start, -1, 4)  # ggml's have no sign
        out[:, :, 4:] = _halves(stored).reshape(stop - start, -1, 32)
        return out.reshape(stop - start, -1)


def _halves(stored: _Bytes) -> _Bytes:
    """Neighbours in a byte → the weight and the one half a group further on in a byte.

    stored: uint8 (rows, groups, n), two weights in each byte → the same shape
    """
    low, high = stored & np.uint8(0x0F), stored >> np.uint8(4)
    weights = np.stack([low, high], axis=-1).reshape(*stored.shape[:-1], 2, -1)
    packed: _Bytes = weights[..., 0, :] | weights[..., 1, :] << np.uint8(4)
    return packed
