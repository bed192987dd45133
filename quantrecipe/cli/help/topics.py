"""The pages of the documentation as topics: `check`, `plugins/tutorial`. A wheel has them as data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import quantrecipe

__all__ = ["find_section", "page_text", "title_of", "topics"]

_PACKAGE = Path(quantrecipe.__file__).parent
# The page of a folder, which goes by the folder's name.
_INDEX = "README"
# A decision, which goes by its number.
_NUMBERED = re.compile(r"(/[0-9]{4})-.*")
_HEADING = re.compile(r"^(#{1,6}) (.+)$")
# Blocks between fences, and indented ones: nothing in them is a link.
_CODE = re.compile(r"(^```.*?^```$|^(?: {4}[^\n]*\n)+)", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->\n*", re.DOTALL)
_PICTURE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def topics() -> Mapping[str, Path]:
    """The file of each page by the name of its topic. Pages in folders come last."""
    folder = _folder()
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.md"), key=lambda it: (len(it.relative_to(folder).parts), it)):
        name = path.relative_to(folder).with_suffix("").as_posix()
        found[_NUMBERED.sub(r"\1", name.removesuffix(f"/{_INDEX}"))] = path
    return found


def title_of(path: Path) -> str:
    """The page's heading."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := _HEADING.match(line):
            return match[2]
    return path.stem


def page_text(path: Path) -> str:
    """The page as Markdown, with links to other pages as the topics that they are, and without pictures."""
    text = _COMMENT.sub("", path.read_text(encoding="utf-8"))
    parts = _CODE.split(text)
    names = {file.resolve(): name for name, file in topics().items()}
    for number in range(0, len(parts), 2):  # code stays as it is
        plain = _PICTURE.sub(lambda it: f"(picture: {it[1]})" if it[1] else "", parts[number])
        parts[number] = _LINK.sub(lambda it: _link(it[1], it[2], path, names), plain)
    return "".join(parts)


def find_section(word: str) -> str | None:
    """The first section whose heading begins with the word, with what is below it: QR202, `--locked`, prune."""
    wanted = word.lower().strip("`")
    for path in topics().values():
        lines = page_text(path).splitlines()
        for start, level in _headings(lines, wanted):
            ends = (at for at, other in _headings(lines, "") if at > start and other <= level)
            return "\n".join(lines[start : next(ends, len(lines))]).rstrip() + "\n"
    return None


def _headings(lines: list[str], wanted: str) -> Iterator[tuple[int, int]]:
    """The lines and levels of the headings that begin so, without those of whole pages."""
    in_code = False
    for at, line in enumerate(lines):
        in_code ^= line.startswith("```")
        match = None if in_code else _HEADING.match(line)
        if match and len(match[1]) > 1:
            said = match[2].replace("`", "").lower()
            if said == wanted or said.startswith((f"{wanted} ", f"{wanted}:")) or not wanted:
                yield at, len(match[1])


def _link(text: str, target: str, page: Path, names: Mapping[Path, str]) -> str:
    if "://" in target:
        return f"{text} ({target})"
    file, _, _ = target.partition("#")
    if not file:  # on this page
        return text
    path = (page.parent / file).resolve()
    if path in names:
        return f"{text} (`quantrecipe help {names[path]}`)"
    parts = [part for part in Path(file).parts if part != ".."]
    return f"{text} ({'/'.join(parts)} in the repository)"


def _folder() -> Path:
    """The folder of the pages: inside the package where it was installed, beside it in a source tree."""
    installed = _PACKAGE / "shipped_docs"
    return installed if installed.is_dir() else _PACKAGE.parent / "docs"
