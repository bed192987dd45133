"""The frame of a page: its head, its style, and the pieces that sections are made of.

The page is one file. It has no scripts, and a policy in its head forbids them, and everything from elsewhere; what
folds is `<details>`. Colours are variables, for light and dark, and on paper they are those of light. Text from files
is escaped where it becomes a part of the page.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quantrecipe.cli.errors import printable
from quantrecipe.pictures.shades import shade_rules

__all__ = ["Section", "facts_html", "figure_html", "folded", "page_html", "paragraphs", "text"]

_CODE = re.compile("`([^`]+)`")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_LIGHT = """\
--ink: #1b1f24; --muted: #57606a; --line: #d0d7de; --paper: #ffffff; --soft: #f6f8fa; --link: #0a58ca;
--first: #1f6fb2; --second: #c2410c; --third: #15803d; --fourth: #7e3fb2; --warn: #8a4b00"""
_DARK = """\
--ink: #e6edf3; --muted: #9aa7b3; --line: #3d444d; --paper: #0d1117; --soft: #161b22; --link: #7ab7ff;
--first: #58a6ff; --second: #ff9e64; --third: #5fd07f; --fourth: #c9a2ff; --warn: #f0b35a"""
_STYLE = f"""\
:root {{ color-scheme: light dark; {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
* {{ box-sizing: border-box }}
body {{ margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }}
header, main, footer {{ max-width: 74rem; margin: 0 auto; padding: 0 1.25rem }}
h1, h2, h3 {{ line-height: 1.25; overflow-wrap: anywhere }}
h1 {{ font-size: 1.6rem; margin: 2rem 0 .5rem }}
h2 {{ font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line) }}
h3 {{ font-size: 1.05rem; margin: 1.5rem 0 .5rem }}
p, li {{ max-width: 46rem; overflow-wrap: anywhere }}
a {{ color: var(--link) }}
:focus-visible {{ outline: 3px solid var(--link); outline-offset: 2px }}
nav ul {{ display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; margin: 0; padding: 0 }}
.note {{ border-left: 4px solid var(--warn); padding: .1rem .9rem; margin: .6rem 0; background: var(--soft) }}
.muted, figcaption {{ color: var(--muted) }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem; margin: 1rem 0 }}
dt {{ color: var(--muted) }}
dd {{ margin: 0; overflow-wrap: anywhere; min-width: 0 }}
table {{ border-collapse: collapse; font-size: .875rem }}
caption {{ text-align: left; color: var(--muted); padding: .25rem 0 .5rem; caption-side: top }}
th, td {{ text-align: left; vertical-align: top; padding: .2rem .75rem .2rem 0; border-bottom: 1px solid var(--line) }}
td, th {{ overflow-wrap: break-word; max-width: 26rem }}
td.text {{ min-width: 13rem }} td.list {{ min-width: 7.5rem }}
.number {{ text-align: right; font-variant-numeric: tabular-nums }}
td.number {{ white-space: nowrap }}
.wide, .scroll {{ overflow-x: auto; margin: 1rem 0 }}
table.map {{ border-collapse: separate; border-spacing: 1px; font-size: .7rem; line-height: 1.3 }}
table.map caption {{ font-size: .875rem }}
table.map th, table.map td {{ border: 0; padding: .1rem .3rem; text-align: center }}
table.map thead th {{ vertical-align: bottom; font-weight: 600; max-width: 6.5rem; min-width: 3.6rem }}
table.map tbody th {{ text-align: right; font-weight: 400; font-variant-numeric: tabular-nums; color: var(--muted);
  position: sticky; left: 0; background: var(--paper) }}
table.map td {{ white-space: nowrap }}
table.map .none {{ background: var(--soft) }}
table.map .same {{ color: var(--muted); background: var(--soft) }}
.swatch {{ display: inline-block; padding: 0 .45rem; border-radius: .2rem; font-size: .8rem }}
ul.legend {{ display: flex; flex-wrap: wrap; gap: .3rem .8rem; list-style: none; padding: 0; margin: .5rem 0 }}
figure {{ margin: 1.25rem 0; max-width: 40rem }}
figure svg {{ display: block; width: 100%; height: auto }}
svg * {{ stroke-linejoin: round; stroke-linecap: butt }}
figcaption {{ font-size: .9rem }}
details {{ margin: .75rem 0 }}
summary {{ cursor: pointer; padding: .15rem 0 }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; background: var(--soft); padding: .75rem; font-size: .8rem;
  border: 1px solid var(--line); border-radius: .3rem }}
code {{ overflow-wrap: anywhere }}
footer {{ margin-top: 3rem; padding-bottom: 2rem; color: var(--muted); font-size: .875rem }}
@media (max-width: 40rem) {{
  header, main, footer {{ padding: 0 .9rem }}
  dl {{ grid-template-columns: 1fr; gap: 0 }} dd {{ margin-bottom: .5rem }}
}}
@page {{ margin: 14mm }}
@media print {{
  :root {{ {_LIGHT} }}
  body {{ font-size: 10pt; background: none }}
  header, main, footer {{ max-width: none; padding: 0 }}
  nav {{ display: none }}
  .wide, .scroll {{ overflow: visible }}
  table {{ font-size: 8pt }} table.map {{ font-size: 6pt }} table.map caption {{ font-size: 8pt }}
  table.map thead th {{ min-width: 0 }} table.map th, table.map td {{ padding: 0 .15rem }}
  table.map td, .swatch {{ -webkit-print-color-adjust: exact; print-color-adjust: exact }}
  figure {{ break-inside: avoid; max-width: 15cm }}
  h2, h3, caption {{ break-after: avoid }} tr {{ break-inside: avoid }}
}}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of the page. ident: its place within the page, for links; body: HTML."""

    ident: str
    title: str
    body: str


def page_html(title: str, intro: str, sections: Sequence[Section], foot: str) -> str:
    """The whole page. title: text; intro, foot: HTML that stands before and behind the sections."""
    links = "".join(f'<li><a href="#{it.ident}">{text(it.title)}</a></li>' for it in sections)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        '<head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{text(title)}</title>",
        f"<style>\n{_STYLE}{shade_rules()}\n</style></head>",
        f"<body><header><h1>{text(title)}</h1>",
        intro,
        f'<nav aria-label="Contents"><ul>{links}</ul></nav></header>',
        "<main>",
        *(
            f'<section id="{it.ident}" aria-labelledby="{it.ident}-title">'
            f'<h2 id="{it.ident}-title">{text(it.title)}</h2>\n{it.body}</section>'
            for it in sections
        ),
        f"</main><footer>{foot}</footer></body></html>\n",
    ]
    return "\n".join(parts)


def text(content: str) -> str:
    """A text from anywhere, as text of the page."""
    return html.escape(printable(content))


def paragraphs(contents: Iterable[str], *, note: bool = False) -> str:
    """A paragraph for each text, in which what stands between backticks is code; notes are set off."""
    style = ' class="note"' if note else ""
    bodies = (_CODE.sub(r"<code>\1</code>", text(it)) for it in contents)
    return "\n".join(f"<p{style}>{body}</p>" for body in bodies)


def facts_html(facts: Iterable[tuple[str, str]]) -> str:
    """Pairs of a name and a value, as text; those without a value are left out."""
    pairs = (f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in facts if value)
    return f"<dl>{''.join(pairs)}</dl>"


def figure_html(svg: str, caption: str) -> str:
    """A figure (HTML) with its caption (text)."""
    return f"<figure>{svg}<figcaption>{text(caption)}</figcaption></figure>"


def folded(summary: str, body: str) -> str:
    """HTML that is folded away below a summary (text)."""
    return f"<details><summary>{text(summary)}</summary>\n{body}</details>"
