"""The map of a model's layers as a table in HTML: that is what a screen reader reads, and what prints."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass

from quantrecipe.cli.errors import printable
from quantrecipe.cli.tables.markup import breakable
from quantrecipe.pictures.layer_map import Field, Stack

__all__ = ["Shown", "map_html"]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a field shows: a text, the class of its colour, and what is to be read besides."""

    text: str
    shade: str = ""
    more: str = ""


def map_html(stack: Stack, show: Callable[[Field], Shown], *, caption: str, ident: str) -> str:
    """A stack as a table that scrolls where it is wider than the page, and that the keyboard reaches.

    show: what a field shows; caption and ident: text, and a name that nothing else on the page has
    """
    heads = "".join(f'<th scope="col">{breakable(role)}</th>' for role in stack.roles)
    lines = [
        f'<div class="scroll" role="region" aria-labelledby="{ident}" tabindex="0">'
        f'<table class="map"><caption id="{ident}">{html.escape(caption)}</caption>',
        f'<thead><tr><th scope="col">layer</th>{heads}</tr></thead><tbody>',
    ]
    for layer in stack.layers:
        cells = "".join(_cell(stack.fields.get((layer, role)), show) for role in stack.roles)
        lines.append(f'<tr><th scope="row">{layer}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody></table></div>"])


def _cell(field: Field | None, show: Callable[[Field], Shown]) -> str:
    if not field:
        return '<td class="none"></td>'
    shown = show(field)
    shade = f' class="{shown.shade}"' if shown.shade else ""
    more = f' title="{html.escape(printable(shown.more))}"' if shown.more else ""
    return f"<td{shade}{more}>{html.escape(printable(shown.text))}</td>"
