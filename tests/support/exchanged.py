"""The weights that `refine` writes into an open model, without llama.cpp: what would lie in its memory."""

from __future__ import annotations

import threading
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from quantrecipe.api import QuantFormat
from quantrecipe.model.model import Model
from quantrecipe.registry import Registry

__all__ = ["Exchanged"]


class Exchanged:
    """In the place of `measure.open_resident.Exchange`.

    memory: by tensor, the bytes that were written; zeros where nothing was
    order:  names of tensors, as they were asked about: a list for each stage
    unused: what the engine wouldn't use
    """

    memory: ClassVar[dict[str, NDArray[np.uint8]]] = {}
    order: ClassVar[list[list[str]]] = []
    unused: ClassVar[set[str]] = set()

    def __init__(self, session: object, held: Model, registry: Registry) -> None:
        self._types = {tensor.name: tensor.dtype for tensor in held.tensors}
        self._sizes = {tensor.name: 4 * tensor.size for tensor in held.tensors}  # of F32, the largest
        self._registry, self._lock = registry, threading.Lock()

    @classmethod
    def clear(cls) -> None:
        cls.memory.clear()
        cls.order.clear()
        cls.unused.clear()

    def usable(self, names: list[str]) -> list[str]:
        self.order.append(sorted(names))
        return [name for name in names if name not in self.unused]

    def format_of(self, name: str) -> QuantFormat:
        return self._registry.format(self._types[name])

    def write(self, name: str, data: memoryview, offset: int) -> None:
        with self._lock:
            memory = self.memory.setdefault(name, np.zeros(self._sizes[name], np.uint8))
            memory[offset : offset + data.nbytes] = np.frombuffer(data, np.uint8)
