"""A table as HTML, for a page."""

from __future__ import annotations

import html

from quantrecipe.cli.tables.paragraph import Paragraph
from quantrecipe.cli.tables.table import Table, cell_text

__all__ = ["html_table"]


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
