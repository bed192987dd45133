"""How far each layer of a model looks back, as its metadata says it, or llama.cpp's code for its architecture.

Metadata says it layer by layer, or as a period: one layer of each period looks at everything. For architectures that
say neither, `sliding_window.toml` has what llama.cpp sets without asking the file.
"""

from __future__ import annotations

from collections.abc import Sequence

from quantrecipe.model.model import Model
from quantrecipe.packaged import packaged_table

__all__ = ["SlidingWindows", "layer_windows"]

_TABLE = "model/sliding_window.toml"


class SlidingWindows:
    """The windows of a model of so many layers."""

    def __init__(self, model: Model, n_layers: int) -> None:
        table = packaged_table(_TABLE)
        known = table["architectures"].get(model.arch, {})
        self._layers_with_cache: int = known.get("layers_with_cache") or n_layers - model.number(
            "attention.shared_kv_layers"
        )
        window = model.number("attention.sliding_window", known.get("window", 0))
        if window and known.get("fixed"):  # llama.cpp sets it, whatever the file says
            window = known["window"]
        pattern = model.hyperparameter("attention.sliding_window_pattern")
        period = pattern if isinstance(pattern, int) else known.get("period", 0)
        self._of: Sequence[int] = [0] * n_layers
        if not window or model.arch in table["none"]["architectures"]:
            return
        if isinstance(pattern, list):
            self._of = [window if is_window else 0 for is_window in pattern]
        elif period:
            dense = 0 if known.get("dense_first") else period - 1
            self._of = [0 if layer % period == dense else window for layer in range(n_layers)]

    def of(self, layer: int) -> int:
        """Tokens that a layer looks back; 0 where it looks at all of them."""
        return self._of[layer] if layer < len(self._of) else 0

    def has_cache(self, layer: int) -> bool:
        """False for a layer that uses the keys and values of an earlier one."""
        return layer < self._layers_with_cache


def layer_windows(model: Model, n_layers: int) -> tuple[int, ...]:
    """How many tokens each of so many layers looks back; 0 for a layer that looks at all of them."""
    windows = SlidingWindows(model, n_layers)
    return tuple(windows.of(layer) for layer in range(n_layers))
