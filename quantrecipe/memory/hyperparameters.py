"""Hyper-parameters of a model's metadata, by their key behind the architecture's name, for each layer if need be."""

from __future__ import annotations

from typing import Any

from quantrecipe.model.model import Model

__all__ = ["Hyperparameters"]


class Hyperparameters:
    """`Hyperparameters(model).number("block_count")` is `llama.block_count`."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def value(self, key: str) -> Any:
        """A plain value or a list of them; None where the model doesn't say."""
        value = self._model.metadata.get(f"{self._model.arch}.{key}")
        return None if value is None else value.decode()

    def number(self, key: str, default: int = 0, *, layer: int = 0) -> int:
        """A whole number, that of the layer where it is given layer by layer."""
        value = self.value(key)
        if isinstance(value, list):
            value = value[layer] if layer < len(value) else None
        return default if value is None else int(value)
