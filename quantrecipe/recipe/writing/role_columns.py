"""Columns: the tensors of one role with their types, and each column as one type and its exceptions.

A tensor in no block has the place None in its column. Towers (`enc.blk.3.attn_q`) have columns of their own, whose
layers a recipe can only tell apart by whole names. Names that a pattern can't spell are odd, and in no column.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quantrecipe.recipe.terms.expression import Expression
from quantrecipe.recipe.terms.fact_kinds import FACTS
from quantrecipe.recipe.writing.braces import is_plain
from quantrecipe.recipe.writing.layer_items import layer_items, layer_texts
from quantrecipe.tensor import TensorInfo, tensor_order

__all__ = ["MORE_BITS", "Cell", "Column", "Selector", "columns", "describe"]

_MORE_BITS = Expression.parse(
    "layer < n_layers//8 or layer >= 7*n_layers//8 or (layer - n_layers//8) % 3 == 2"
)
"""llama.cpp's layers with more bits (`use_more_bits`)."""
MORE_BITS = Expression.parse("more_bits", FACTS, {"more_bits": _MORE_BITS})
"""The same as recipes say it, by a fact of this name."""

_MORE_BITS_BY_RANK = Expression.parse("rank < count//8 or rank >= 7*count//8 or (rank - count//8) % 3 == 2")
_FEWEST_ITEMS = 3
"""Items from which on a list of layers is worth an expression instead."""
_TOWER = re.compile(r"(.+\.blk\.)([^.]+)(\..+)")
_OUTSIDE = Expression.parse("not layer >= 0")
_INSIDE = Expression.parse("layer >= 0")


@dataclass(frozen=True, slots=True)
class Selector:
    """Which part of its columns a rule is about; all of them if nothing is said.

    names:  whole names, for towers
    column: pattern of the only column that it is for: `when` counts tensors
    """

    layers: str | None = None
    when: Expression | None = None
    names: tuple[str, ...] = ()
    column: str = ""

    @property
    def everything(self) -> bool:
        """Say whether all of the columns is meant."""
        return self.layers is None and self.when is None and not self.names


@dataclass(frozen=True, slots=True)
class Cell:
    """One tensor of a column.

    type:  None if no rule may name the tensor
    given: True if the tensor has its type without any rule
    """

    name: str
    layer: int | None
    type: str | None
    given: bool


@dataclass(frozen=True, slots=True)
class Column:
    """The tensors of one role, or of one role in a tower.

    pattern: names all of them
    cells:   in the order of their layers; the tensor outside the blocks comes first
    """

    pattern: str
    tower: bool
    cells: list[Cell] = field(default_factory=list)


def columns(
    types: Mapping[str, str], tensors: Sequence[TensorInfo], base: Mapping[str, str]
) -> tuple[list[Column], list[Cell]]:
    """Return the columns, in the order in which a file has their first tensors, and the odd tensors."""
    found: dict[tuple[str, bool], Column] = {}
    odd: list[Cell] = []
    names = {tensor.name for tensor in tensors}
    for tensor in sorted(tensors, key=tensor_order):
        type_ = types.get(tensor.name)
        given = type_ is not None and type_ == base.get(tensor.name)
        cell = Cell(tensor.name, tensor.layer, type_, given)
        match = _TOWER.fullmatch(tensor.role) if tensor.layer is None else None
        pattern = f"{match[1]}*{match[3]}" if match else tensor.role
        # Of two names that are the same without `.weight`, patterns mean the one that has it.
        spelt = tensor.name.endswith(".weight") or f"{tensor.name}.weight" not in names
        if spelt and is_plain(pattern) and (match or "blk." not in pattern) and is_plain(tensor.role):
            found.setdefault((pattern, bool(match)), Column(pattern, bool(match))).cells.append(cell)
        else:
            odd.append(cell)
    return list(found.values()), odd


def describe(column: Column, n_layers: int) -> list[tuple[Selector, str]]:
    """Say which part of the column gets which type. A selector of everything comes last, and gives the rest.

    Cells that need no rule are left alone, where that is shorter.
    """
    if all(cell.type is None or cell.given for cell in column.cells):
        return []
    ways = [_parts(column, n_layers, None)]
    counts = Counter(cell.type for cell in column.cells if cell.type is not None)
    if counts.total() == len(column.cells):
        most = sorted(counts, key=lambda type_: (-counts[type_], type_))[:3]
        ways += [[*_parts(column, n_layers, rest), (Selector(), rest)] for rest in most]
    return min(ways, key=lambda parts: (len(parts), sum(map(_length, parts))))


def _parts(column: Column, n_layers: int, rest: str | None) -> list[tuple[Selector, str]]:
    """Return a part for each type but `rest`. Without a `rest`, cells that need no rule are left out."""
    wanted: dict[str, list[Cell]] = {}
    for cell in column.cells:
        if cell.type is not None and cell.type != rest and not (rest is None and cell.given):
            wanted.setdefault(cell.type, []).append(cell)
    return [
        (selector, type_)
        for type_, cells in wanted.items()
        for selector in _selectors(column, cells, n_layers)
    ]


def _selectors(column: Column, cells: Sequence[Cell], n_layers: int) -> list[Selector]:
    """Return selectors that together name these cells of the column, and no others."""
    if len(cells) == len(column.cells):
        return [Selector()]
    if column.tower:
        return [Selector(names=tuple(cell.name for cell in cells))]
    selectors = [Selector(when=_OUTSIDE)] if cells[0].layer is None else []
    wanted = {cell.layer for cell in cells if cell.layer is not None}
    present = [cell.layer for cell in column.cells if cell.layer is not None]
    if not wanted:
        return selectors
    if len(wanted) == len(present):
        return [*selectors, Selector(when=_INSIDE)]
    items = layer_items(wanted, present, n_layers)
    if len(items) >= _FEWEST_ITEMS:
        if wanted == {layer for layer in present if _more_bits(layer, n_layers)}:
            return [*selectors, Selector(when=MORE_BITS)]
        by_rank = {layer for rank, layer in enumerate(present) if _more_bits(rank, len(present))}
        if wanted == by_rank and len(present) == len(column.cells):
            return [Selector(when=_MORE_BITS_BY_RANK, column=column.pattern)]
    return [*selectors, *(Selector(layers=text) for text in layer_texts(items))]


def _more_bits(i: int, n: int) -> bool:
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def _length(part: tuple[Selector, str]) -> int:
    selector, _ = part
    if selector.names:
        return len(selector.names)
    if selector.everything:
        return 0
    return selector.layers.count(",") + 1 if selector.layers else 1
