"""Tables and text as Markdown, for pull requests, and as HTML, for pages.

Names and reasons come from files, and are shown as text: none of them is markup, a mention or a link.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from quantrecipe.cli.errors import printable
from quantrecipe.cli.tables.paragraph import Paragraph
from quantrecipe.cli.tables.table import Cell, Kind, Table, cell_text

__all__ = [
    "code",
    "details",
    "escaped",
    "escaped_around_code",
    "html_table",
    "markdown_rows",
    "markdown_table",
]

# What could be markup. An underscore within a word is none.
_SPECIAL = re.compile(r"[\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])")
# What begins a mention, a reference to an issue, or an address.
_LINK = re.compile(r"@|#(?=\d)|:(?=//)|www(?=\.)")


def markdown_table(table: Table) -> str:
    """The table with its headings; names stand as code; what is bold or red on a terminal is bold."""
    rows = [row for row in table.rows if not isinstance(row, Paragraph)]
    cells = [[_cell(cell, kind) for cell, kind in zip(row, table.kinds, strict=True)] for row in rows]
    return markdown_rows(table.headings, table.kinds, cells)


def markdown_rows(headings: Sequence[str], kinds: Sequence[Kind], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    marks = ["---:" if kind == "number" else "---" for kind in kinds]
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, marks, *rows))


def _cell(cell: Cell, kind: Kind) -> str:
    text = cell_text(cell)
    if kind in ("name", "code"):
        return code(text.plain)
    strong = {"bold", "red"} & {*str(text.style).split()}
    return f"**{escaped(text.plain)}**" if strong else escaped(text.plain)


def details(summary: str, body: str, *, shown: bool = False) -> str:
    """Markdown that is folded away below its summary, unless it is `shown` at first."""
    return f"<details{' open' if shown else ''}><summary>{summary}</summary>\n\n{body}\n\n</details>"


def code(text: str) -> str:
    """The text as code, in a table too: neither a backtick nor a bar in it ends anything."""
    text = printable(text).replace("`", "'").replace("|", "\\|").strip()
    return f"`{text}`" if text else ""


def escaped(text: str) -> str:
    """The text as text: a zero-width space keeps @names, #numbers and addresses from becoming links."""
    return _LINK.sub("\\g<0>\u200b", _SPECIAL.sub(r"\\\g<0>", printable(text)))


def escaped_around_code(text: str) -> str:
    """A message as text in which code between backticks stays code."""
    parts = printable(text).split("`")
    if len(parts) % 2 == 0:  # a backtick that nothing ends
        return escaped("'".join(parts))
    return "`".join(part if number % 2 else escaped(part) for number, part in enumerate(parts))


def html_table(table: Table) -> str:
    """The table with its headings; numbers have the class of their name, so that a page can put them to the right."""
    classes = [' class="number"' if kind == "number" else "" for kind in table.kinds]
    head = "".join(
        f"<th{style}>{html.escape(heading)}</th>"
        for heading, style in zip(table.headings, classes, strict=True)
    )
    lines = [f"<table><thead><tr>{head}</tr></thead><tbody>"]
    for row in table.rows:
        if isinstance(row, Paragraph):
            text = html.escape(str(row.text))
            lines.append(f'<tr><td colspan="{len(classes)}">{text}</td></tr>')
            continue
        cells = (html.escape(cell_text(cell).plain) for cell in row)
        lines.append(
            "<tr>" + "".join(f"<td{a}>{b}</td>" for a, b in zip(classes, cells, strict=True)) + "</tr>"
        )
    return "\n".join([*lines, "</tbody></table>"])
