"""Table: headings, each with the kind of what is below it, and rows. A value: who renders it decides how it looks.

console.print(table)      on a terminal, or in a pipe (`layout`)
markdown_table(table)     in the comment of a pull request
html_table(table)         on a page; html_of takes paragraphs, too
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.tables.paragraph import Paragraph

__all__ = ["Cell", "Kind", "Table", "cell_text", "numbers"]

Kind = Literal["word", "number", "name", "list", "text", "code"]
"""What a column holds. word, number: shown whole, numbers to the right; name: may lose its middle; list: wraps, even
where there is little room; text: wraps where there is room; code: the same, of what stands in a file.
"""

Cell = str | tuple[str, str] | Text
"""Text from anywhere, alone or with a style; Text where there are several styles."""


@dataclass(frozen=True, slots=True)
class Table:
    """Something that rich prints.

    columns: heading → kind; only kinds for a table without headings
    rows:    a cell for each column; a Paragraph instead of cells is a line across all of them
    ruled:   False for a table within a text: its headings are dim, with no line below them and none behind the rows
    spare:   headings of columns that are left out where there is no room, in this order: others tell the same
    """

    columns: Mapping[str, Kind] | Sequence[Kind]
    rows: Sequence[Sequence[Cell] | Paragraph]
    ruled: bool = True
    spare: Sequence[str] = ()

    @property
    def headings(self) -> tuple[str, ...]:
        """What stands above the columns; nothing where they have no headings."""
        return tuple(self.columns) if isinstance(self.columns, Mapping) else ()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What each column holds."""
        return tuple(self.columns.values()) if isinstance(self.columns, Mapping) else tuple(self.columns)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from quantrecipe.cli.tables.layout import laid_out

        yield from laid_out(self, console, options)


def numbers(*headings: str) -> dict[str, Kind]:
    """Columns of numbers, for the columns of a Table."""
    return dict.fromkeys(headings, "number")


def cell_text(cell: Cell) -> Text:
    """The cell with its styles; nothing from a file drives the terminal."""
    if isinstance(cell, Text):
        return cell
    text, style = (cell, "") if isinstance(cell, str) else cell
    return Text(printable(text), style)
