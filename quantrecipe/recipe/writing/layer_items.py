"""Which layers, in as few words as a person would use: `first 4, last 4`, `every 3 from 2`, `0-3, 7`.

The reverse of `LayerSet`: from the layers that are wanted to its language. Layers that the tensors in question don't
have may be covered or not, which makes `first 4` of what would be `1, 3`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from quantrecipe.layer_ranges import layer_runs

__all__ = ["layer_items", "layer_texts"]

_MOST_PARTS = (2, 3, 4, 8, 16)
"""Fractions that people say: halves, thirds, quarters; llama.cpp has eighths and sixteenths."""
_LONGEST_STEP = 8
"""Hybrids have attention in every 4th to every 8th layer; longer steps would be coincidences."""
_FEWEST_STEPS = 3
"""Members that `every K from M` needs to be shorter, and less of a coincidence, than a list."""
_COUNTED = 4
"""Up to here a number of layers is said as such: `first 4`, not `first 1/8`."""
_MOST_ABSENT = 100
"""Steps are looked for layer by layer; a file may claim to have billions."""
_MAX_TEXT = 1500
"""Characters; LayerSet reads 2000."""


def layer_items(wanted: Collection[int], present: Sequence[int], n_layers: int) -> list[str]:
    """Return items that together hold all of `wanted` and nothing else of `present`, in ascending order.

    present: the layers that matter, ascending; `wanted` is some of them
    n_layers: layers of the model, without nextn blocks
    """
    best = _runs(wanted, frozenset(), present, n_layers)
    if len(best) < _FEWEST_STEPS or n_layers > _MOST_ABSENT + 4 * len(present):
        return best
    for step, start, covered in _steps(wanted, present, n_layers):
        left = [layer for layer in wanted if layer not in covered]
        items = [*_runs(left, covered, present, n_layers), f"every {step} from {start}"]
        if len(items) < len(best):
            best = items
    return best


def layer_texts(items: Iterable[str]) -> list[str]:
    """Join the items to texts that LayerSet reads; to several if one would be too long."""
    texts: list[str] = []
    for item in items:
        if texts and len(texts[-1]) + len(item) + 2 <= _MAX_TEXT:
            texts[-1] += f", {item}"
        else:
            texts.append(item)
    return texts


def _runs(wanted: Collection[int], free: Collection[int], present: Sequence[int], n_layers: int) -> list[str]:
    """Return an item for each run of wanted layers. A run goes on over layers that are absent or `free`."""
    chosen = frozenset(wanted)
    mattering = [layer for layer in present if layer in chosen or layer not in free]
    # In places of `mattering`, so that layers that don't matter join what stands around them.
    runs = layer_runs(place for place, layer in enumerate(mattering) if layer in chosen)
    return [_item(mattering[first], mattering[last], n_layers) for first, last in runs]


def _item(first: int, last: int, n_layers: int) -> str:
    if last < n_layers:
        few = 2 * (last + 1 - first) <= n_layers
        if few and first == 0 < last < n_layers - 1:
            return f"first {_share(last + 1, n_layers, first=True)}"
        if few and 0 < first <= last == n_layers - 1:
            return f"last {_share(n_layers - first, n_layers, first=False)}"
    return str(first) if first == last else f"{first}-{last}"


def _share(count: int, n_layers: int, *, first: bool) -> str:
    """Return "4", or a fraction of the layers that says the same."""
    if count > _COUNTED:
        for parts in _MOST_PARTS:
            here = n_layers // parts if first else n_layers - (parts - 1) * n_layers // parts
            if here == count:
                return f"1/{parts}"
    return str(count)


def _steps(
    wanted: Collection[int], present: Sequence[int], n_layers: int
) -> Iterable[tuple[int, int, frozenset[int]]]:
    """Yield (step, start, layers) of each `every STEP from START` that holds only wanted layers, short steps first."""
    refused = {layer for layer in present if layer < n_layers}.difference(wanted)
    for step in range(2, _LONGEST_STEP + 1):
        for end in range(step):  # from the last layer backwards, until one is refused
            start = None
            for layer in range(n_layers - 1 - end, -1, -step):
                if layer in refused:
                    break
                if layer in wanted:
                    start = layer
            if start is None:
                continue
            covered = frozenset(range(start, n_layers, step)).intersection(wanted)
            if len(covered) >= _FEWEST_STEPS:
                yield step, start, covered
