"""Tables and paragraphs as they are shown: whole in a pipe, and within the width of a terminal.

A Table is a value: headings, each with the kind of what is below it, and rows. How it looks is decided where it is
printed. In a pipe nothing is cut or wrapped: a row is a line, however long, for grep and awk. On a terminal that is
too narrow, in this order:

1. headings and texts wrap; names lose what all of them share (said once above the table), then their middles;
2. a text in the last column goes on lines of its own below its row, if that takes fewer;
3. the columns that don't fit go into a second table below the first one.

So nothing is left out, and two names that differ never look alike.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import commonpath
from pathlib import Path
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text

from quantrecipe.cli.context import UNLIMITED
from quantrecipe.cli.errors import printable

__all__ = ["Cell", "Kind", "Paragraph", "Table", "shared_parts", "shorten", "within_folder"]

Kind = Literal["word", "number", "name", "list", "text"]
"""What a column holds. word, number: shown whole, numbers to the right; name: may lose its middle; list: wraps, even
where there is little room; text: wraps where there is room.
"""

Cell = str | tuple[str, str] | Text
"""Text from anywhere, alone or with a style; Text where there are several styles."""

_GAP = 2
_LEAST: dict[Kind, int] = {"name": 20, "list": 12, "text": 24}
"""Cells that columns keep which could do with less."""
_LONGEST_WORD = 44
"""Cells that a text is given so that its words, such as a path, stay whole."""
_MOST_KEYS = 3
"""Columns that are repeated in each part of a split table, at most."""
_LONGEST_HEADING = 24
"""Cells of a word in a heading that stays whole: headings can be names of files."""
_BELOW = 4
"""How far a text on a line of its own is indented."""
_WORTH_IT = 6
"""Cells that leaving out what names share must save."""
_WORD = r"`[^`]*`|\bpip install (?:'[^']*'|\S+)|\S"
"""What words are made of: characters, and commands, which are copied as a whole."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Text that rich prints as lines that end between words, all but the first of them indented.

    Commands, and `whole`, which may be a path with spaces, are never broken: where one is longer than a line, it is
    left to the terminal, which lets it be copied as it is.
    """

    text: Text | str
    style: str = ""
    indent: int = 2
    whole: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        text = Text(self.text, self.style) if isinstance(self.text, str) else self.text
        pattern = f"(?:{re.escape(self.whole)}|{_WORD})" if self.whole else f"(?:{_WORD})"
        ends, used = [], 0
        for word in re.finditer(rf"{pattern}+\s*", text.plain):
            length = cell_len(word[0].rstrip())
            # What is longer than a line gains nothing by one of its own.
            if used + length > options.max_width >= self.indent + length:
                ends.append(word.start())
                used = self.indent
            used += cell_len(word[0])
        for number, line in enumerate(text.divide(ends)):
            line.rstrip()
            yield Text(" " * self.indent * (number > 0), no_wrap=True, overflow="ignore").append_text(line)


@dataclass(frozen=True, slots=True)
class Table:
    """Something that rich prints.

    columns: heading → kind; only kinds for a table without headings
    rows:    a cell for each column
    """

    columns: Mapping[str, Kind] | Sequence[Kind]
    rows: Sequence[Sequence[Cell]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text | Paragraph]:
        headed = isinstance(self.columns, Mapping)
        headings = [printable(text) for text in self.columns] if headed else [""] * len(self.columns)
        kinds = self.columns.values() if isinstance(self.columns, Mapping) else self.columns
        rows = [[_text(cell) for cell in row] for row in self.rows]
        columns = [
            _column(heading, kind, [row[number] for row in rows])
            for number, (heading, kind) in enumerate(zip(headings, kinds, strict=True))
        ]
        width = options.max_width
        parts = _whole(columns) if width >= UNLIMITED else _parts(columns, width)
        if headed:
            yield from (Paragraph(_shared(column), "dim") for column in parts[0] if column.shared)
        for part in parts:
            if headed:
                yield from _heading(part, width, "-" if options.ascii_only else "─")
            yield from _body(part, width, console)
            if headed:
                yield Text()


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
    """For a pipe: a cell of several lines is one."""
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
    if last.kind == "text" and others and _fits(others, width):
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
    """Lines that the rows take, about."""
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
        yield _line([Text(cell, "bold") for cell in cells], columns)
    below = [column.heading for column in columns if not column.width]
    yield from (Text(f"{' ' * _BELOW}{heading}", "bold") for heading in below)
    length = _room(column.width for column in columns if column.width)
    if width >= UNLIMITED and columns[-1].kind in ("name", "text"):  # its texts may be longer than any screen
        length += cell_len(columns[-1].heading) - columns[-1].width
    yield Text(rule * length)


def _body(columns: Sequence[_Column], width: int, console: Console) -> Iterator[Text]:
    beside = [column for column in columns if column.width]
    lines = [_lines(column, console) for column in beside]
    for number in range(len(columns[0].cells)):
        row = [cells[number] for cells in lines]
        for line in range(max(map(len, row))):
            yield _line([cell[line] if line < len(cell) else Text() for cell in row], beside)
        if len(beside) < len(columns):
            for text in columns[-1].cells[number].wrap(console, width - _BELOW, overflow="fold"):
                text.rstrip()
                if text:
                    yield Text(" " * _BELOW, "dim").append_text(text)


def _lines(column: _Column, console: Console) -> list[list[Text]]:
    """The lines of each cell, within the column's width."""
    names = None
    if column.kind == "name":
        names = shorten([cell.plain for cell in column.cells], column.width)
    if names is not None:
        return [[Text(name, cell.style)] for name, cell in zip(names, column.cells, strict=True)]
    return [list(cell.wrap(console, column.width, overflow="fold")) for cell in column.cells]


def _line(cells: Sequence[Text], columns: Sequence[_Column]) -> Text:
    """The cells beside each other; nothing behind the last one."""
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
        head = _head(text, width) or text[:1]
        yield head
        text = text[len(head) :]
    yield text


def _text(cell: Cell) -> Text:
    if isinstance(cell, Text):
        return cell
    text, style = (cell, "") if isinstance(cell, str) else cell
    return Text(printable(text), style)


def shared_parts(names: Iterable[str]) -> tuple[str, str]:
    """What all names begin and end with, in whole words, so that something of each is left: ("Qwen3-14B-", ".gguf").

    Nothing where there is only one name. An underscore ends no word: Q4_K_M is one.
    """
    different = set(names)
    if len(different) < 2:
        return "", ""
    before = re.sub(r"[^-./\\ ]*$", "", _common(different))
    after = _common({name[len(before) :][::-1] for name in different})[::-1]
    after = re.sub(r"^[^-./\\ ]*", "", after)
    if any(len(name) <= len(before) + len(after) for name in different):
        after = ""
    if any(len(name) <= len(before) for name in different):
        before = ""
    return before, after


def shorten(names: Sequence[str], width: int) -> list[str] | None:
    """Each name in at most `width` cells, … where its middle was; None where two that differ would look alike."""
    if all(cell_len(name) <= width for name in names):
        return list(names)
    for head in sorted(range(1, width - 1), key=lambda head: abs(2 * head - width)):
        cut = [_cut(name, head, width) for name in names]
        if len(set(cut)) == len(set(names)):
            return cut
    return None


def within_folder(paths: Sequence[Path]) -> tuple[str, list[str]]:
    """The folder that all files are in, "" for the current one, and their paths from there."""
    try:
        folder = commonpath([path.parent for path in paths])
    except ValueError:  # none at all, some absolute, or of several drives
        folder = ""
    return folder, [str(path.relative_to(folder)) if folder else str(path) for path in paths]


def _common(names: Collection[str]) -> str:
    """What all begin with: what the first and the last of them in order begin with."""
    first, last = min(names), max(names)
    return first[: next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]


def _cut(name: str, head: int, width: int) -> str:
    if cell_len(name) <= width:
        return name
    return f"{_head(name, head)}…{_head(name[::-1], width - 1 - head)[::-1]}"


def _head(text: str, width: int) -> str:
    """As much of the text as fits into `width` cells."""
    end = used = 0
    while end < len(text) and (used := used + cell_len(text[end])) <= width:
        end += 1
    return text[:end]
