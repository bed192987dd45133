"""write_plugin: the example plugin under another name, as the beginning of somebody's own.

What is copied is the package in plugins/quantrecipe-example, which runs its own tests in CI; nothing else is a
template. Its names are replaced wherever they stand:

    quantrecipe-example, quantrecipe_example, example   →  quantrecipe-acme, quantrecipe_acme, acme
    Q4_96, q4_96                                        →  ACME4_96, acme4_96
    LargeErrors, large_errors                           →  AcmeErrors, acme_errors

so that it can be installed beside the example: format names, analyses and recipe prefixes are unique.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from quantrecipe.errors import OutputError, PluginError

__all__ = ["example_plugin", "write_plugin"]

_PACKAGE = Path(__file__).parent
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_MADE = frozenset({"__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", "dist", "build"})
_LONGEST = 40


def example_plugin() -> Path:
    """The folder of the example: inside the package where it was installed, beside it in a source tree."""
    installed = _PACKAGE / "example_plugin"
    return installed if installed.is_dir() else _PACKAGE.parent / "plugins" / "quantrecipe-example"


def write_plugin(name: str, folder: Path, *, author: str = "") -> Path:
    """Write the package `quantrecipe-NAME` to a new folder of that name in `folder`, and return it.

    PluginError for a name that can't be a package's, OutputError where the folder exists or can't be written.
    """
    short = name.removeprefix("quantrecipe-")
    if not _NAME.fullmatch(short) or len(short) > _LONGEST:
        raise PluginError(
            f"{name!r} can't be the name of a plugin",
            "write small letters and digits, with single hyphens between them: acme, acme-ternary",
        )
    made = folder / f"quantrecipe-{short}"
    names = _Names(short)
    try:
        _make_folder(made)
        for source in _files(example_plugin()):
            target = made / names.replace(source.relative_to(example_plugin()).as_posix())
            target.parent.mkdir(parents=True, exist_ok=True)
            text = source.read_text(encoding="utf-8")
            text = _signed(text, author) if source.name == "LICENSE" else names.replace(text)
            target.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        shutil.rmtree(made, ignore_errors=True)
        raise OutputError(
            f"{made} can't be written: {error.strerror}", "check the path and the disk"
        ) from error
    return made


def _make_folder(made: Path) -> None:
    """A new folder, and those above it. OutputError, with what is in the way, where something is."""
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        made.mkdir()
    except (FileExistsError, NotADirectoryError):
        blocking = next(
            (path for path in reversed(made.parents) if path.exists() and not path.is_dir()), made
        )
        if blocking == made:
            raise OutputError(f"{made} exists already", "choose another name, or remove it") from None
        raise OutputError(
            f"{blocking} is a file, and no folder can be made in it", "name another with -o"
        ) from None


class _Names:
    """The names of the example, and what stands in their places."""

    def __init__(self, short: str) -> None:
        module = short.replace("-", "_")
        camel = "".join(part.capitalize() for part in short.split("-"))
        self._new = {
            "quantrecipe-example": f"quantrecipe-{short}",
            "quantrecipe_example": f"quantrecipe_{module}",
            "LargeErrors": f"{camel}Errors",
            "large_errors": f"{module}_errors",
            "Q4_96": f"{module.upper()}4_96",
            "q4_96": f"{module}4_96",
            "example": short,
        }
        self._any = re.compile("|".join(map(re.escape, self._new)))

    def replace(self, text: str) -> str:
        return self._any.sub(lambda match: self._new[match[0]], text)


def _files(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not _MADE & {*path.relative_to(folder).parts} and path.suffix != ".pyc"
    ]


def _signed(text: str, author: str) -> str:
    """The licence with the author's name; the year stays to be filled in by whoever publishes."""
    return re.sub(
        r"(?m)^Copyright \(c\).*$", f"Copyright (c) {author or 'the authors of this package'}", text
    )
