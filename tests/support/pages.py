"""Reading a page of HTML as a browser would, as far as tests ask: what is in it, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

__all__ = ["Page", "TableOnPage", "read_page"]

_VOID = {"meta", "wbr", "br", "hr", "img", "link", "input"}


@dataclass
class TableOnPage:
    """A table: its caption, and the text of each cell."""

    caption: str = ""
    rows: list[list[str]] = field(default_factory=list)
    classes: list[list[str]] = field(default_factory=list)
    scopes: list[str | None] = field(default_factory=list)

    @property
    def headings(self) -> list[str]:
        """The first row."""
        return self.rows[0]

    def column(self, heading: str) -> list[str]:
        """What stands below a heading."""
        place = self.headings.index(heading)
        return [row[place] for row in self.rows[1:]]


@dataclass
class Page:
    """What is on a page. problems: what an HTML checker would complain about."""

    tables: list[TableOnPage] = field(default_factory=list)
    headings: list[tuple[int, str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str | None]] = field(default_factory=list)
    text: str = ""
    problems: list[str] = field(default_factory=list)

    def table(self, caption: str) -> TableOnPage:
        """The one table whose caption begins so."""
        (found,) = [it for it in self.tables if it.caption.startswith(caption)]
        return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self.open: list[str] = []
        self.table: list[TableOnPage] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if len(found) != len(attrs):
            self.page.problems.append(f"<{tag}> has an attribute twice")
        self.page.tags.append(tag)
        self.page.attributes += [(tag, name, value) for name, value in attrs]
        if found.get("id"):
            self.page.ids.append(str(found["id"]))
        if tag == "a":
            self.page.links.append(str(found.get("href")))
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "table":
            self.table.append(TableOnPage())
            self.page.tables.append(self.table[-1])
        elif tag == "tr":
            self.table[-1].rows.append([])
            self.table[-1].classes.append([])
        elif tag in ("td", "th"):
            self.table[-1].rows[-1].append("")
            self.table[-1].classes[-1].append(str(found.get("class") or ""))
            if tag == "th":
                self.table[-1].scopes.append(found.get("scope"))
        elif tag in ("h1", "h2", "h3", "h4"):
            self.page.headings.append((int(tag[1]), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.page.problems.append(f"</{tag}> ends {self.open[-1:]}")
            return
        self.open.pop()
        if tag == "table":
            self.table.pop()

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.page.text += data
        if self.open and self.open[-1] in ("h1", "h2", "h3", "h4"):
            level, so_far = self.page.headings[-1]
            self.page.headings[-1] = level, so_far + data
        elif self.table and "caption" in self.open:
            self.table[-1].caption += data
        elif self.table and {"td", "th"} & {*self.open[-2:]}:
            self.table[-1].rows[-1][-1] += data


def read_page(text: str) -> Page:
    """Read it to the end."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    page = reader.page
    page.problems += [f"<{tag}> is never ended" for tag in reader.open]
    page.problems += [f"id {it!r} is there twice" for it in {*page.ids} if page.ids.count(it) > 1]
    return page
