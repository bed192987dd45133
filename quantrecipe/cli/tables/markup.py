"""Tables and text as Markdown, for pull requests, and as HTML, for pages.

Names and reasons come from files, and are shown as text: none of them is markup, a mention or a link.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.tables.paragraph import Paragraph
from quantrecipe.cli.tables.table import Cell, Kind, Table, cell_text

__all__ = [
    "breakable",
    "code",
    "details",
    "escaped",
    "escaped_around_code",
    "html_of",
    "html_table",
    "markdown_rows",
    "markdown_table",
]

# What could be markup. An underscore within a word is none.
_SPECIAL = re.compile(r"[\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])")
# Behind which a name may go on in the next line.
_PARTS = re.compile(r"[_./-](?=[^_./-])")
_INDENT = re.compile(r"^ +")
# Characters of a name in a table that stays in one line.
_LONG = 20
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


def html_table(table: Table, *, caption: str = "", row_headings: bool = False) -> str:
    """The table with its headings. Columns of numbers, lists and text have the class of their kind, for a page's style.

    caption: what the table is; row_headings: the first column says what the others are about
    """
    classes = [f' class="{kind}"' if kind in ("number", "text", "list") else "" for kind in table.kinds]
    lines = [f"<table>{f'<caption>{html.escape(caption)}</caption>' if caption else ''}"]
    if table.headings:
        head = "".join(
            f'<th scope="col"{style}>{html.escape(heading)}</th>' if heading else "<td></td>"
            for heading, style in zip(table.headings, classes, strict=True)
        )
        lines.append(f"<thead><tr>{head}</tr></thead>")
    lines.append("<tbody>")
    for row in table.rows:
        if isinstance(row, Paragraph):
            text = html.escape(str(row.text))
            lines.append(f'<tr><td colspan="{len(classes)}">{text}</td></tr>')
            continue
        cells = []
        for number, (cell, kind, style) in enumerate(zip(row, table.kinds, classes, strict=True)):
            plain = _INDENT.sub(lambda it: "\N{NO-BREAK SPACE}" * len(it[0]), cell_text(cell).plain)
            long = kind in ("name", "code") and len(plain) > _LONG
            text = breakable(plain) if long else html.escape(plain)
            heading = row_headings and number == 0
            cells.append(f'<th scope="row"{style}>{text}</th>' if heading else f"<td{style}>{text}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def html_of(shown: RenderableType, *, caption: str, row_headings: bool = False) -> str:
    """What a command shows on a terminal, as HTML: paragraphs and tables.

    caption: of the table; where there are several, the others have a number besides. TypeError for anything but
    groups, tables and texts: nothing is left out in silence.
    """
    parts, tables = [], 0
    for it in _flat(shown):
        if isinstance(it, Table):
            tables += 1
            said = caption if tables == 1 else f"{caption} ({tables})"
            table = html_table(it, caption=said, row_headings=row_headings)
            # What may be wider than a screen scrolls, and the keyboard has to get there.
            begin = f'<div class="wide" role="region" aria-label="{html.escape(said)}" tabindex="0">'
            parts.append(f"{begin}{table}</div>")
        else:
            parts.append(f"<p>{html.escape(it)}</p>")
    return "\n".join(parts)


def _flat(shown: RenderableType) -> Iterator[Table | str]:
    """The tables and texts in it that aren't empty, in their order."""
    if isinstance(shown, Group):
        for it in shown.renderables:
            yield from _flat(it)
    elif isinstance(shown, Table):
        yield from [shown] if shown.rows else []
    elif isinstance(shown, Paragraph | Text):
        text = str(shown.text if isinstance(shown, Paragraph) else shown).strip()
        yield from [text] if text else []
    else:
        raise TypeError(f"{type(shown).__name__} has no HTML")


def breakable(text: str) -> str:
    """A name as HTML, in which a line may end behind each part: "blk.<wbr>0.<wbr>ffn_<wbr>down"."""
    return _PARTS.sub("\\g<0><wbr>", html.escape(printable(text)))
