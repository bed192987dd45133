"""LayerSet: which layers a rule is about.

    7              one block
    0-3            a range, both ends included
    first 4        the first four
    last 4         the last four
    first 1/8      every layer below n_layers // 8: none in a model of fewer than eight layers
    last 1/8       every layer from 7 * n_layers // 8 on; `first 7/8` and `last 1/8` make up all layers
    every 3 from 2 2, 5, 8, …; `every 3` starts at 0

Several are joined by commas, and a layer is in the set if it is in any of them. The fractions round as
llama.cpp's do.

Numbers and ranges are block numbers, so they reach the extra blocks for next-token prediction (MTP, nextn)
too, which follow the layers proper. `first`, `last` and `every` count the layers proper alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from quantrecipe.errors import RecipeError
from quantrecipe.wording import quoted

__all__ = ["LayerSet"]

_FORMS = "7, 0-3, first 4, last 4, first 1/8, last 1/8, every 3 from 2"
_FORM = re.compile(
    r"(?P<low>\d{1,6})(?: ?- ?(?P<high>\d{1,6}))?"
    r"|(?P<end>first|last) (?P<number>\d{1,6})(?: ?/ ?(?P<parts>\d{1,6}))?"
    r"|every (?P<step>\d{1,6})(?: from (?P<start>\d{1,6}))?",
    re.ASCII,
)
_MAX_LENGTH = 2000  # a list of every second layer of 400


@dataclass(frozen=True, slots=True)
class _Item:
    """One of the forms above, with its numbers."""

    text: str
    kind: str  # "blocks", "first", "last", "every"
    numbers: tuple[int, ...]

    def bounds(self, n_layers: int) -> range:
        match self.kind, self.numbers:
            case "blocks", (low, high):
                return range(low, high + 1)
            case "first", (number,):
                return range(min(number, n_layers))
            case "last", (number,):
                return range(max(n_layers - number, 0), n_layers)
            case "first", (part, parts):
                return range(part * n_layers // parts)
            case "last", (part, parts):
                return range((parts - part) * n_layers // parts, n_layers)
            case _, (step, start):
                return range(start, n_layers, step)
        raise AssertionError(self)

    @property
    def needs(self) -> int:
        """How many blocks a model must have so that every number of this item is one of them."""
        match self.kind, self.numbers:
            case "blocks", (_, high):
                return high + 1
            case (("first" | "last"), (number,)):
                return number
            case "every", (_, start):
                return start + 1
        return 0


@dataclass(frozen=True, slots=True)
class LayerSet:
    """A parsed set of layers; `str()` gives its text in the normal spelling."""

    text: str
    _items: tuple[_Item, ...] = field(repr=False)

    @property
    def cost(self) -> int:
        """What it costs to read it, and to plan with it, as `Effort` counts."""
        return 10 * len(self._items)

    @classmethod
    def parse(cls, text: str) -> LayerSet:
        """Parse a text. RecipeError if it isn't in one of the forms above."""
        if len(text) > _MAX_LENGTH:
            raise RecipeError(f"a list of layers of {len(text)} characters (at most {_MAX_LENGTH})")
        items = tuple(_parse_item(" ".join(item.split()), text) for item in text.split(","))
        return cls(", ".join(item.text for item in items), items)

    def contains(self, layer: int | None, n_layers: int) -> bool:
        """Say whether this block is in the set; None, outside the blocks, is in no set.

        `n_layers` doesn't count nextn blocks.
        """
        return layer is not None and any(layer in item.bounds(n_layers) for item in self._items)

    def members(self, n_layers: int, n_blocks: int | None = None) -> tuple[int, ...]:
        """Return the blocks of a model that are in the set, in order. `n_blocks` counts nextn blocks too."""
        return tuple(layer for layer in range(n_blocks or n_layers) if self.contains(layer, n_layers))

    def beyond(self, n_blocks: int) -> tuple[str, ...]:
        """Return the items that need more blocks than the model has: ("40", "first 80"). Fractions never do."""
        return tuple(item.text for item in self._items if item.needs > n_blocks)

    def __str__(self) -> str:
        return self.text


def _parse_item(item: str, text: str) -> _Item:
    match = _FORM.fullmatch(item)
    if not match:
        raise RecipeError(
            f"{item!r} in the layers {quoted(text)} isn't understood", f"write one of: {_FORMS}"
        )
    number = {name: int(value) for name, value in match.groupdict().items() if value and name != "end"}
    if "low" in number:
        low, high = number["low"], number.get("high", number["low"])
        if high < low:
            raise RecipeError(f"the layers {item!r} run backwards", f"write {high}-{low}")
        return _Item(str(low) if low == high else f"{low}-{high}", "blocks", (low, high))
    if "step" in number:
        step, start = number["step"], number.get("start", 0)
        if not step:
            raise RecipeError(f"the layers {item!r} never get on", "every 1 is every layer")
        return _Item(f"every {step} from {start}", "every", (step, start))
    end, count = match["end"], number["number"]
    if not count:
        raise RecipeError(f"the layers {item!r} are none", "leave the rule out, or write a number above 0")
    if (parts := number.get("parts")) is None:
        return _Item(f"{end} {count}", end, (count,))
    if count > parts:
        raise RecipeError(f"the layers {item!r} are more than all", "write a fraction of at most 1, like 1/8")
    return _Item(f"{end} {count}/{parts}", end, (count, parts))
