"""What notebooks show of a value: a table in HTML or by rich, and a data frame.

pandas is asked for here alone, and only when somebody wants a frame. Names come from files: they are escaped.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas
    from rich.table import Table

__all__ = ["Shown", "data_frame"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A table with a title above it.

    numbers: the columns that stand to the right
    texts:   those that may take several lines
    extra:   those that only a page has room for
    """

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    def html(self) -> str:
        """The table in HTML, without scripts or styles of a page."""
        head = "".join(f'<th scope="col">{html.escape(it)}</th>' for it in self.headings)
        body = "".join(f"<tr>{''.join(map(self._cell, self.headings, row))}</tr>" for row in self.rows)
        caption = f'<caption style="text-align: left">{html.escape(_printable(self.title))}</caption>'
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _cell(self, heading: str, text: str) -> str:
        side = "right" if heading in self.numbers else "left"
        return f'<td style="text-align: {side}">{html.escape(_printable(text))}</td>'

    def __rich__(self) -> Table:
        """The same as rich prints it."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=Text(_printable(self.title)),
            title_justify="left",
            box=SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        shown = [place for place, heading in enumerate(self.headings) if heading not in self.extra]
        for heading in (self.headings[place] for place in shown):
            table.add_column(
                heading,
                justify="right" if heading in self.numbers else "left",
                no_wrap=heading not in self.texts,
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*(Text(_printable(row[place])) for place in shown))
        return table


def data_frame(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pandas.DataFrame:
    """A data frame of these records. ImportError, with the line that brings it, where pandas isn't installed."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_pandas needs pandas: pip install pandas") from error
    return pandas.DataFrame.from_records([dict(it) for it in records], columns=list(columns))


def _printable(text: str) -> str:
    return "".join(it if it.isprintable() else " " for it in text)
