"""Where llama.cpp's libraries are: named by the user, or those that llama-cpp-python brought.

    --engine PATH             a folder with libllama, or a program of llama.cpp that stands beside it
    QUANTRECIPE_ENGINE=PATH   the same, for every command
    LLAMA_CPP_LIB_PATH=PATH   what llama-cpp-python takes instead of its own libraries
    llama-cpp-python          its libraries; its Python code isn't used

The first that is given counts, whether or not it works. Nothing is loaded here.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from quantrecipe.errors import EvaluationError, Problem

__all__ = ["ENVIRONMENT", "PACKAGE", "WAYS", "Engine", "Way", "find_engine", "missing_engine", "named_engine"]

ENVIRONMENT = "QUANTRECIPE_ENGINE"
_OPTION = "--engine"
_VARIABLES = (ENVIRONMENT, "LLAMA_CPP_LIB_PATH")

PACKAGE = "llama-cpp-python"

WHEELS = "https://abetlen.github.io/llama-cpp-python/whl/cpu"
"""The index of ready wheels that llama-cpp-python's own README names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """A way to an engine: what it is, how long it takes, and the line that brings it."""

    what: str
    time: str
    line: str


WAYS = (
    Way(what="the llama.cpp that you have", time="seconds", line="--engine FOLDER"),
    Way(
        what="a ready wheel",
        time="a minute",
        line=f"pip install llama-cpp-python --only-binary llama-cpp-python --extra-index-url {WHEELS}",
    ),
    Way(what="built from source", time="5 to 30 minutes", line="pip install llama-cpp-python"),
)
"""Quickest first; docs/engine.md has them in full."""

_NAMES = ("libllama.so", "libllama.dylib", "llama.dll", "libllama.dll")
_OURS = re.compile(r"(?:lib)?(?:llama|ggml)[.-](?:.*\.)?(?:so|dylib|dll)\b")
_PROGRAMS = ("llama-cli", "llama-server", "llama-perplexity", "llama-quantize")

_WITHIN = (".", "lib", "lib64", "bin", "build/bin", "bin/Release", "build/bin/Release")
"""Where libllama is, seen from a folder that a user names: the folder itself, the lib of an installation or a Python
package, the bin of an installation on Windows, of a source tree's build, and of that by MSVC."""
_BESIDE_BIN = ("../lib", "../lib64")
_UNPACKED = (".", "bin", "lib", "build/bin")
"""The same, in the one folder that an archive made within the folder that is named: llama-b7000/."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """Where llama.cpp's libraries are, and who says so.

    library: libllama
    source:  what named them: --engine, the variable's name, or llama-cpp-python
    """

    library: Path
    source: str

    @property
    def folder(self) -> Path:
        """Of the libraries; libggml and backends that are loaded at run time stand there too."""
        return self.library.parent

    @property
    def digest(self) -> str:
        """The same for the same libraries, wherever they are: by names and sizes of all that stand there."""
        digest = hashlib.blake2b(digest_size=6)
        for path in sorted(self.folder.glob("*")):
            if _OURS.match(path.name) and path.is_file():
                digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        return digest.hexdigest()

    @property
    def rebuild(self) -> str:
        """What to do where the libraries don't run on this machine."""
        if self.source == PACKAGE:
            return (
                "build it for any processor: CMAKE_ARGS=-DGGML_NATIVE=OFF pip install --force-reinstall "
                "--no-cache-dir --no-binary llama-cpp-python llama-cpp-python"
            )
        return "take a llama.cpp that was built for this machine, or build it here with -DGGML_NATIVE=OFF"


def find_engine(path: Engine | str | Path | None = None) -> Engine:
    """The libraries in `path`, else in what the environment names, else llama-cpp-python's. An Engine is itself.

    What is named and isn't there is an EvaluationError, never a reason to look elsewhere. So is it where there is none.
    """
    if isinstance(path, Engine):
        return path
    for source, named in ((_OPTION, path), *((name, os.environ.get(name)) for name in _VARIABLES)):
        if named:
            return Engine(library=_library_in(Path(named).expanduser(), source), source=source)
    if (library := _installed()) is not None:
        return Engine(library=library, source=PACKAGE)
    raise EvaluationError([missing_engine()])


def named_engine(engine: Engine | str | Path | None) -> Engine | str | Path | None:
    """What processes on other machines are told of an engine: the one that was named; else None, each finds its own."""
    return None if isinstance(engine, Engine) and engine.source != _OPTION else engine


def missing_engine() -> Problem:
    """What to say where there is no engine, with the ways to one. A llama.cpp on the PATH is named."""
    have, *others = WAYS
    programs = (shutil.which(name) for name in _PROGRAMS)
    near = next((path for path in programs if path and next(_libraries(Path(path)), None)), None)
    if near is not None:
        have = replace(have, line=f"--engine {near}")
    return Problem(
        what="there is no llama.cpp to run models with",
        remedy="there are three ways to one (`quantrecipe help engine`):",
        choices=tuple(f"{way.what} ({way.time}): {way.line}" for way in (have, *others)),
    )


def _library_in(path: Path, source: str) -> Path:
    if len(path.parts) == 1 and not path.exists() and (program := shutil.which(path)) is not None:
        path = Path(program)  # `--engine llama-cli`, as one would call it
    if not path.exists():
        what = f"{source} names it as llama.cpp's folder, and there is nothing of that name"
        raise EvaluationError(what, "name the folder that has libllama and libggml", file=path)
    library = next(_libraries(path), None) or _unpacked(path)
    if library is None:
        raise EvaluationError(
            f"{source} names it as llama.cpp's, and there is no libllama {'in' if path.is_dir() else 'beside'} it",
            "name the folder that has libllama and libggml; a llama.cpp that was built with "
            "-DBUILD_SHARED_LIBS=OFF has none: build it with ON, or take a release",
            file=path,
        )
    return library


def _libraries(path: Path) -> Iterator[Path]:
    """libllama where `path` names it: the file itself, or the places beside a program or within a folder."""
    if path.is_file() and path.name.startswith(_NAMES):  # also libllama.so.0
        yield path.absolute()
        return
    # A program may be a link into the folder where it was built or unpacked.
    for folder in [path] if path.is_dir() else [path.parent, path.resolve().parent]:
        yield from _at(folder, _WITHIN + (_BESIDE_BIN if folder.name == "bin" else ()))


def _at(folder: Path, places: Iterable[str]) -> Iterator[Path]:
    for place in places:
        for name in _NAMES:
            if (library := folder / place / name).is_file():
                yield Path(os.path.normpath(library.absolute()))


def _unpacked(folder: Path) -> Path | None:
    """libllama of the release that was unpacked within a folder. EvaluationError where there are several."""
    if not folder.is_dir():
        return None
    releases = [inner for inner in sorted(folder.iterdir()) if inner.is_dir()]
    found = [library for inner in releases if (library := next(_at(inner, _UNPACKED), None)) is not None]
    if len(found) > 1:
        names = ", ".join(library.relative_to(folder.absolute()).parts[0] for library in found)
        raise EvaluationError(
            f"there is more than one llama.cpp in it: {names}", "name one of them", file=folder
        )
    return found[0] if found else None


def _installed() -> Path | None:
    """libllama of llama-cpp-python, without importing it, since that loads the library."""
    try:
        spec = find_spec("llama_cpp")
    except (ImportError, ValueError):
        return None
    for place in () if spec is None else spec.submodule_search_locations or ():
        if (library := next(_libraries(Path(place) / "lib"), None)) is not None:
            return library
    return None
