"""Hooks of MkDocs (mkdocs.yml): the documentation as a site, from the pages as they lie in the repository.

    pip install -e ".[docs]" && mkdocs serve          on http://127.0.0.1:8000
    mkdocs build --strict                             into site/; a link that leads nowhere is an error

Pages stay where people who browse the repository find them. The site has these pages, and
  * those outside docs/: README.md is its beginning; CHANGELOG.md, CONTRIBUTING.md, SECURITY.md, recipes and plugins
  * a page for each command, made of the command itself
  * the files of the repository that pages link to: recipes, tables of facts
  * the recipes' schema under schema/recipe-VERSION.json, for editors
Links are rewritten from where a page lies in the repository to where it is on the site.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from quantrecipe.cli.app import SECTIONS, app
from quantrecipe.cli.lazy_group import LazyGroup

ROOT = Path(__file__).parents[1]

OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "recipes/README.md": "recipes/index.md",
    "recipes/evidence/README.md": "recipes/evidence.md",
    "recipes/evidence/measured.md": "recipes/measured.md",
    "recipes/evidence/planned.md": "recipes/planned.md",
    "plugins/quantrecipe-example/README.md": "plugins/quantrecipe-example.md",
    "plugins/quantrecipe-ik/README.md": "plugins/quantrecipe-ik.md",
    "tests/data/memory/README.md": "measured-memory.md",
}
"""Where pages outside docs/ are on the site."""

_CODE = re.compile(r"(^```.*?^```|(?:^(?: {4}|\t)[^\n]*\n)+|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_NESTED = re.compile(r"^ {2,3}(?=[*-] )", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Decisions and commands are in the navigation, in their order, without being listed by hand."""
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    commands = [{section: [f"commands/{name}.md" for name in names]} for section, names in SECTIONS.items()]
    made = {"DECISIONS": [f"decisions/{path.name}" for path in decisions], "COMMANDS": commands}
    config.nav = _filled(config.nav, made)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what doesn't lie in docs/."""
    for source, place in OUTSIDE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    for names in SECTIONS.values():
        for name in names:
            files.append(File.generated(config, f"commands/{name}.md", content=command_page(name)))
    schema = (ROOT / "quantrecipe/recipe/schema.json").read_text(encoding="utf-8")
    version = json.loads(schema)["$id"].rpartition(":")[2]
    files.append(File.generated(config, f"schema/recipe-{version}.json", content=schema))
    for path in sorted(linked_files()):
        files.append(File.generated(config, f"files/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they are on the site, and nested lists as deep as Python's Markdown wants them."""
    place = page.file.src_uri
    origin = _origins().get(place, f"docs/{place}")
    if place.startswith("commands/"):
        return markdown
    return _outside_code(markdown, lambda text: _NESTED.sub("    ", _relinked(text, origin, place)))


def command_page(name: str) -> str:
    """What a command says of itself: usage, arguments, options, examples; the same of its own commands."""
    context = click.Context(app, info_name="quantrecipe")
    command = app.get_command(context, name)
    assert command is not None, name
    below = f"[What it does, in full](../cli.md#{name})\n"
    return "\n".join([*_said(command, context, level=1), below])


def _said(command: click.Command, parent: click.Context, *, level: int) -> Iterator[str]:
    name = command.name or ""
    context = click.Context(command, info_name=name, parent=parent)
    yield f"{'#' * level} {name}\n"
    usage = command.get_usage(context).removeprefix("Usage: ")
    yield f"```text\n{usage}\n```\n"
    for paragraph in (command.help or "").replace("\b\n", "").split("\n\n"):
        yield " ".join(paragraph.split()) + "\n"
    options = [it for it in command.params if isinstance(it, click.Option) and not it.hidden]
    if options:
        yield "| option | meaning |\n|---|---|"
        for option in options:
            record = option.get_help_record(context)
            if record is not None:
                spelling, meaning = record
                yield f"| `{spelling.replace('|', chr(92) + '|')}` | {_cell(meaning)} |"
        yield ""
    if command.epilog:
        lines = [line.strip() for line in command.epilog.replace("\b", "").splitlines()[1:] if line.strip()]
        if lines and lines[0] == "Examples:":
            lines = lines[1:]
        yield "```sh\n" + "\n".join(lines) + "\n```\n"
    if isinstance(command, LazyGroup):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None:
                yield from _said(found, context, level=level + 1)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def pages() -> dict[str, str]:
    """Where each page of the repository is on the site."""
    found = {
        f"docs/{path.relative_to(ROOT / 'docs').as_posix()}": path.relative_to(ROOT / "docs").as_posix()
        for path in (ROOT / "docs").rglob("*.md")
    }
    return found | OUTSIDE


def linked_files() -> set[str]:
    """Files of the repository, besides pages and pictures in docs/, that pages link to; of folders, what is in them."""
    known, found = pages(), set()
    for source in known:
        text = (ROOT / source).read_text(encoding="utf-8")
        for target in _targets(text, source):
            path = ROOT / target
            if path.is_file() and target not in known and not target.startswith("docs/"):
                found.add(target)
    return found


def _targets(text: str, source: str) -> Iterator[str]:
    """Paths in the repository that a page links to."""
    parts = _CODE.split(text)
    for part in parts[::2]:
        for _, link, _ in _LINK.findall(part):
            if "://" not in link and not link.startswith(("#", "mailto:")):
                yield posixpath.normpath(posixpath.join(posixpath.dirname(source), link.partition("#")[0]))


def _relinked(text: str, origin: str, place: str) -> str:
    known = pages()

    def moved(match: re.Match[str]) -> str:
        link, _, section = match[2].partition("#")
        if not link or "://" in link or link.startswith("mailto:"):
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
        here = next((known[it] for it in (target, f"{target}/README.md") if it in known), None)
        if here is None and (ROOT / target).is_dir():
            here = _of_folder(target)
        if here is None:
            here = target.removeprefix("docs/") if target.startswith("docs/") else f"files/{target}"
        relative = posixpath.relpath(here, posixpath.dirname(place) or ".")
        return f"{match[1]}{relative}{'#' + section if section else ''}{match[3]}"

    return _LINK.sub(moved, text)


def _of_folder(target: str) -> str:
    """The page that says most of a folder: that of the nearest folder above it that has one."""
    known = pages()
    while target not in ("", "."):
        target = posixpath.dirname(target)
        if f"{target}/README.md" in known:
            return known[f"{target}/README.md"]
    return OUTSIDE["README.md"]


def _outside_code(text: str, change: Any) -> str:
    parts = _CODE.split(text)
    parts[::2] = [change(part) for part in parts[::2]]
    return "".join(parts)


def _origins() -> Mapping[str, str]:
    return {place: source for source, place in OUTSIDE.items()}


def _filled(nav: Any, made: Mapping[str, Any]) -> Any:
    """The navigation, with what is made in place of its name."""
    if isinstance(nav, list):
        filled: list[Any] = []
        for it in nav:
            filled += made[it] if isinstance(it, str) and it in made else [_filled(it, made)]
        return filled
    if isinstance(nav, dict):
        return {title: _filled(below, made) for title, below in nav.items()}
    return nav
