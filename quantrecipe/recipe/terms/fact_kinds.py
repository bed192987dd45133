"""The facts that expressions may ask for, and of what kind each is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

__all__ = ["FACTS", "MODEL_FACTS", "RULE_FACTS", "TENSOR_FACTS", "Kind", "Value"]

Kind = Literal["a number", "a text", "a yes-or-no"]
Value = int | float | str | bool | None

MODEL_FACTS: Mapping[str, Kind] = MappingProxyType(
    {
        "arch": "a text",
        "n_layers": "a number",
        "n_blocks": "a number",
        "n_expert": "a number",
        "n_gqa": "a number",
        "tied_embeddings": "a yes-or-no",
        "has_importance": "a yes-or-no",
    }
)
"""Facts of the model."""

TENSOR_FACTS: Mapping[str, Kind] = MappingProxyType(
    {
        "layer": "a number",
        "rows": "a number",
        "cols": "a number",
        "dims": "a number",
        "experts": "a number",
        "covered": "a yes-or-no",
        "source_type": "a text",
    }
)
"""Facts of a tensor by itself."""

RULE_FACTS: Mapping[str, Kind] = MappingProxyType({"rank": "a number", "count": "a number"})
"""Facts of a tensor among those that the rule names."""

FACTS: Mapping[str, Kind] = MappingProxyType({**MODEL_FACTS, **TENSOR_FACTS, **RULE_FACTS})
"""All facts."""
