"""describe: tensors and types in a few words: "attn_v, layers 0-3 → Q3_K"."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from quantrecipe.tensor import split_name

__all__ = ["describe", "layers_text"]


def describe(types: Mapping[str, str]) -> str:
    """The roles, the layers that they have together, and the types."""
    layers: dict[str, list[int]] = defaultdict(list)
    for name in types:
        layer, role = split_name(name)
        layers[role] += [] if layer is None else [layer]
    groups: dict[str, list[str]] = defaultdict(list)
    for role, numbers in layers.items():
        groups[layers_text(numbers)].append(role)
    parts = [", ".join(roles) + (f", {text}" if text else "") for text, roles in groups.items()]
    return f"{'; '.join(parts)} → {', '.join(sorted(set(types.values())))}"


def layers_text(numbers: Iterable[int]) -> str:
    """[0, 1, 2, 5] → "layers 0-2, 5"; "" for none."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    if not runs:
        return ""
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    return f"{'layer' if texts == [str(runs[0][0])] else 'layers'} {', '.join(texts)}"
