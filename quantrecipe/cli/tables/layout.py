"""How a table looks: whole in a pipe, and within the width of a terminal.

In a pipe nothing is cut or wrapped: a row is a line, however long, for grep and awk. On a terminal that is too narrow,
in this order:

1. columns that can be spared are left out;
2. headings and texts wrap; names lose what all of them share (said once above the table), then their middles;
3. a text in the last column goes on lines of its own below its row, if that takes fewer;
4. the columns that don't fit go into a second table below the first one.

So nothing is left out that isn't told otherwise, and two names that differ never look alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from quantrecipe.cli.context import UNLIMITED
from quantrecipe.cli.errors import printable
from quantrecipe.cli.tables.paragraph import Paragraph
from quantrecipe.cli.tables.short_names import head_of, shared_parts, shorten
from quantrecipe.cli.tables.table import Cell, Kind, Table, cell_text

__all__ = ["laid_out"]

# Cells between columns.
_GAP = 2
# Cells that columns keep which could do with less.
_LEAST: dict[Kind, int] = {"name": 20, "list": 12, "text": 24, "code": 24}
# Cells that a text is given so that its words, such as a path, stay whole.
_LONGEST_WORD = 44
# Columns that are repeated in each part of a split table, at most.
_MOST_KEYS = 3
# Cells of a word in a heading that stays whole: headings can be names of files.
_LONGEST_HEADING = 24
# How far a text on a line of its own is indented.
_BELOW = 4
# Cells that leaving out what names share must save.
_WORTH_IT = 6


def laid_out(table: Table, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
    """The lines of a table from top to bottom."""
    width = options.max_width
    rows = [[cell_text(cell) for cell in row] for row in table.rows if not isinstance(row, Paragraph)]
    headings = [printable(text) for text in table.headings] or [""] * len(table.kinds)
    columns = [
        _column(heading, kind, [row[number] for row in rows])
        for number, (heading, kind) in enumerate(zip(headings, table.kinds, strict=True))
    ]
    for spare in table.spare:
        if _room(column.most for column in columns) > width:
            columns = [column for column in columns if column.heading != spare]
    parts = _whole(columns) if width >= UNLIMITED else _parts(columns, width)
    if table.headings:
        yield from (Paragraph(_shared(column), "dim") for column in parts[0] if column.shared)
    rule = ("-" if options.ascii_only else "─") if table.ruled else ""
    across = _across(table.rows)
    for part in parts:
        if table.headings:
            yield from _heading(part, width, rule)
        yield from _body(part, width, console, across if part is parts[0] else {})
        if table.headings and table.ruled:
            yield Text()


def _across(rows: Sequence[Sequence[Cell] | Paragraph]) -> dict[int, list[Paragraph]]:
    """The lines across all columns, by the number of rows of cells that stand above them."""
    found: dict[int, list[Paragraph]] = {}
    above = 0
    for row in rows:
        if isinstance(row, Paragraph):
            found.setdefault(above, []).append(row)
        else:
            above += 1
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class _Column:
    """A column and its width in cells: what it wants, what it needs, what it gets; 0 is a line of its own."""

    heading: str
    kind: Kind
    cells: Sequence[Text]
    most: int
    least: int
    width: int = 0
    shared: str = ""  # what is left out of its names, with * for what is left


def _column(heading: str, kind: Kind, cells: Sequence[Text]) -> _Column:
    body = max((cell_len(line) for cell in cells for line in cell.plain.split("\n")), default=0) or 1
    pieces = max(map(cell_len, _pieces(heading)), default=0)
    least = max(body, min(pieces, _LONGEST_HEADING))
    if kind in _LEAST:
        words = max((cell_len(word) for cell in cells for word in cell.plain.split()), default=0)
        words = 0 if kind == "name" else min(words, _LONGEST_WORD)
        least = min(least, max(_LEAST[kind], pieces, words))
    return _Column(heading=heading, kind=kind, cells=cells, most=max(body, cell_len(heading)), least=least)


def _whole(columns: Sequence[_Column]) -> list[list[_Column]]:
    """The columns as a pipe gets them, in one part: a cell of several lines becomes one line."""
    joined = [[Text("; ").join(cell.split("\n")) for cell in column.cells] for column in columns]
    columns = [_column(it.heading, it.kind, cells) for it, cells in zip(columns, joined, strict=True)]
    return [[replace(column, width=column.most) for column in columns]]


def _parts(columns: Sequence[_Column], width: int) -> list[list[_Column]]:
    """The columns, those that don't fit beside the others in further parts, each with its width."""
    if _room(column.most for column in columns) <= width:
        return [[replace(column, width=column.most) for column in columns]]
    columns = [_without_shared(column) for column in columns]
    *others, last = columns
    ways = [_squeezed(columns, width)] if _fits(columns, width) else []
    if last.kind in ("text", "code") and others and _fits(others, width):
        ways.append([*_squeezed(others, width), last])
    if ways:
        return [min(ways, key=lambda way: _height(way, width))]  # of equals the first: beside each other
    keys = _keys(columns)
    parts, rest = [], columns[keys:]
    while rest:
        count = next((n for n in range(len(rest), 1, -1) if _fits([*columns[:keys], *rest[:n]], width)), 1)
        parts.append(_squeezed([*columns[:keys], *rest[:count]], width))
        rest = rest[count:]
    return parts or [_squeezed(columns, width)]


def _keys(columns: Sequence[_Column]) -> int:
    """How many columns, from the first, tell the rows apart, and so stand in each part of a split table."""
    rows = list(zip(*([cell.plain for cell in column.cells] for column in columns), strict=True))
    different = len(set(rows))
    return next((n for n in range(1, _MOST_KEYS + 1) if len({row[:n] for row in rows}) == different), 1)


def _height(columns: Sequence[_Column], width: int) -> int:
    """How many lines the rows take, roughly."""
    cells = [
        [-(-cell.cell_len // (column.width or width - _BELOW)) for cell in column.cells] for column in columns
    ]
    below = 0 if columns[-1].width else sum(cells.pop())
    rows: Iterable[tuple[int, ...]] = zip(*cells, strict=True)
    return sum(map(max, rows)) + below


def _room(widths: Iterable[int]) -> int:
    return sum(width + _GAP for width in widths) - _GAP


def _fits(columns: Sequence[_Column], width: int) -> bool:
    return _room(column.least for column in columns) <= width


def _squeezed(columns: Sequence[_Column], width: int) -> list[_Column]:
    """What is left when all have what they need goes to those that want more, the most modest first; to headings that
    could do with several lines last.
    """
    spare = max(0, width - _room(column.least for column in columns))
    widths = [column.least for column in columns]
    for bodies in (True, False):
        wishes = [(it.most - it.least, n) for n, it in enumerate(columns) if (it.kind in _LEAST) is bodies]
        for place, (wish, number) in enumerate(sorted(wishes)):
            more = min(wish, spare // (len(wishes) - place))
            widths[number] += more
            spare -= more
    while _room(widths) > width and max(widths) > 1:  # a terminal of a few columns
        widths[widths.index(max(widths))] -= 1
    return [replace(column, width=width) for column, width in zip(columns, widths, strict=True)]


def _without_shared(column: _Column) -> _Column:
    if column.kind != "name":
        return column
    names = [cell.plain for cell in column.cells]
    before, after = shared_parts(names)
    if cell_len(before + after) < _WORTH_IT:
        return column
    cells = [
        Text(name[len(before) : len(name) - len(after)], cell.style)
        for name, cell in zip(names, column.cells, strict=True)
    ]
    return replace(_column(column.heading, "name", cells), shared=f"{before}*{after}")


def _shared(column: _Column) -> str:
    return f"{column.heading}: {column.shared}; below is what stands for *"


def _heading(columns: Sequence[_Column], width: int, rule: str) -> Iterator[Text]:
    headings = [_heading_lines(column.heading, column.width) for column in columns if column.width]
    height = max(map(len, headings))
    for number in range(height):  # what has fewer lines stands at the bottom
        cells = [lines[number - height] if number >= height - len(lines) else "" for lines in headings]
        yield _line([Text(cell, "bold" if rule else "dim") for cell in cells], columns)
    below = [column.heading for column in columns if not column.width]
    yield from (Text(f"{' ' * _BELOW}{heading}", "bold") for heading in below)
    if not rule:
        return
    length = _room(column.width for column in columns if column.width)
    if width >= UNLIMITED and columns[-1].kind in (
        "name",
        "text",
        "code",
    ):  # its texts may be longer than any screen
        length += cell_len(columns[-1].heading) - columns[-1].width
    yield Text(rule * length)


def _body(
    columns: Sequence[_Column], width: int, console: Console, across: Mapping[int, Sequence[Paragraph]]
) -> Iterator[RenderableType]:
    beside = [column for column in columns if column.width]
    lines = [_lines(column, console) for column in beside]
    for number in range(len(columns[0].cells)):
        yield from across.get(number, ())
        row = [cells[number] for cells in lines]
        for line in range(max(map(len, row))):
            yield _line([cell[line] if line < len(cell) else Text() for cell in row], beside)
        if len(beside) < len(columns):
            for text in columns[-1].cells[number].wrap(console, width - _BELOW, overflow="fold"):
                text.rstrip()
                if text:
                    yield Text(" " * _BELOW, "dim").append_text(text)
    yield from across.get(len(columns[0].cells), ())


def _lines(column: _Column, console: Console) -> list[list[Text]]:
    """The lines of each cell, within the column's width."""
    names = None
    if column.kind == "name":
        names = shorten([cell.plain for cell in column.cells], column.width)
    if names is not None:
        return [[Text(name, cell.style)] for name, cell in zip(names, column.cells, strict=True)]
    return [list(cell.wrap(console, column.width, overflow="fold")) for cell in column.cells]


def _line(cells: Sequence[Text], columns: Sequence[_Column]) -> Text:
    """The cells beside each other, with nothing behind the last one."""
    line = Text()
    for number, (cell, column) in enumerate(zip(cells, columns, strict=False)):
        padding = " " * (column.width - cell.cell_len)
        line.append(" " * _GAP if number else "")
        if column.kind == "number":
            line.append(padding)
        line.append_text(cell)
        if column.kind != "number":
            line.append(padding)
    line.rstrip()
    return line


def _heading_lines(heading: str, width: int) -> list[str]:
    lines = [""]
    for piece in _pieces(heading):
        for part in _folded(piece, width):
            fits = cell_len((lines[-1] + part).rstrip()) <= width
            lines[-1:] = [lines[-1] + part] if fits else [lines[-1].rstrip(), part]
    return [line.rstrip() for line in lines]


def _pieces(heading: str) -> list[str]:
    """ "bits/weight in all" → "bits/", "weight ", "in ", "all"."""
    return re.findall(r"[^\s/]*(?:/|\s+|$)", heading)[:-1]


def _folded(text: str, width: int) -> Iterator[str]:
    while cell_len(text.rstrip()) > width:
        head = head_of(text, width) or text[:1]
        yield head
        text = text[len(head) :]
    yield text
