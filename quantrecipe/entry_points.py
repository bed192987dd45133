"""Entry points of installed packages, read from the folders of sys.path.

    PACKAGE-1.0.dist-info/entry_points.txt     [quantrecipe]
                                               NAME = MODULE
    PACKAGE-1.0.dist-info/METADATA             Name: PACKAGE
                                               Version: 1.0

importlib.metadata says the same, but to import it takes as long as to read a recipe (it has parsers of mail and of zip
files). So it is asked only where packages may lie elsewhere: in zip files, eggs, or with a finder of their own.

Source: the specifications of entry points and of recording installed projects, packaging.python.org.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["EntryPoint", "entry_points"]

_INFO = ("dist-info", "egg-info")
_ITEM = re.compile(r"(?P<name>[^=]+?)\s*=\s*(?P<value>.+)")


class EntryPoint(NamedTuple):
    """A line of entry_points.txt, and the package that it is of; its name and version are "" where it says none."""

    name: str
    value: str
    distribution: str
    version: str


def entry_points(group: str) -> list[EntryPoint]:
    """All entry points of a group, of each package the installation that comes first on sys.path."""
    if _elsewhere():
        return _as_importlib_has_them(group)
    found: list[EntryPoint] = []
    for info in _installed():
        points = _items(_text(info, "entry_points.txt"), group)
        if points:
            name, version = _name_and_version(_text(info, "METADATA") or _text(info, "PKG-INFO"))
            found += [EntryPoint(*point, name, version) for point in points]
    return found


def _elsewhere() -> bool:
    """True where packages may be installed that aren't found by looking into folders."""
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_distributions")]
    if len(finders) != 1 or getattr(finders[0], "__name__", "") != "PathFinder":
        return True
    return any(os.path.isfile(path) or path.endswith(".egg") for path in sys.path)  # noqa: PTH113  # whatever stands there


def _as_importlib_has_them(group: str) -> list[EntryPoint]:
    from importlib import metadata

    return [
        EntryPoint(point.name, point.value, point.dist.name, point.dist.version)
        if point.dist is not None
        else EntryPoint(point.name, point.value, "", "")
        for point in metadata.entry_points(group=group)
    ]


def _installed() -> Iterator[Path]:
    """The folder of each package's metadata."""
    seen: set[str] = set()
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208  # a Path for each of thousands would take longer
        except OSError:
            continue
        for name in names:
            stem, _, ending = name.rpartition(".")
            if ending.lower() not in _INFO:
                continue
            package = re.sub(r"[-_.]+", "_", stem.partition("-")[0]).lower()
            if package not in seen:
                seen.add(package)
                yield Path(folder, name)


def _text(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8", errors="replace")
    except OSError:  # a package needs have none of these files
        return ""


def _items(text: str, group: str) -> list[tuple[str, str]]:
    """Names and values of a section of entry_points.txt."""
    if f"[{group}]" not in text:  # most have others alone: commands
        return []
    found, section = [], ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == group and not line.startswith("#") and (item := _ITEM.fullmatch(line)):
            found.append((item["name"], item["value"]))
    return found


def _name_and_version(text: str) -> tuple[str, str]:
    """Of the headers of METADATA; a description may follow after an empty line."""
    said: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            break
        key, _, value = line.partition(":")
        said.setdefault(key.strip().lower(), value.strip())
    return said.get("name", ""), said.get("version", "")
