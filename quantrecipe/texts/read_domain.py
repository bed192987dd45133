"""read_domain: what one --text names, as documents.

code=src/:2         the folder src as the domain "code", which weighs 2
talk.jsonl          chats, one a line
"src/**/*.py"       a glob
C:\\texts\\a.txt      a path of Windows: what follows its colon is no number
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from quantrecipe.errors import Problem, TextError
from quantrecipe.texts.documents import Document, Domain
from quantrecipe.texts.files import SourceFile, files_of
from quantrecipe.texts.json_lines import LineError, is_json, json_values
from quantrecipe.texts.parquet import is_parquet, rows_of
from quantrecipe.texts.plain_text import check_text
from quantrecipe.texts.shapes import is_known, read_values

__all__ = ["Spec", "parse_spec", "read_domain", "read_domains"]

_NAME = re.compile(r"([A-Za-z0-9][\w.+-]*)=(.+)", re.DOTALL)
_WEIGHT = re.compile(r"(.+):([-+]?(?:[0-9][0-9_.]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+|nan|inf))", re.DOTALL)
_JSON_LINES = (".jsonl", ".ndjson", ".jsonlines")


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """What --text says: a path, and the name and the weight of the domain where they are said."""

    path: str
    name: str | None = None
    weight: float | None = None


def parse_spec(spec: str) -> Spec:
    """[NAME=]PATH[:WEIGHT]. What exists as it stands is a path as a whole, whatever signs its name has."""
    if not spec.strip():
        raise TextError("there is no path", "give a file, a folder or a glob: --text calibration.txt")
    if _exists(spec):
        return Spec(path=spec)
    name, path = match.groups() if (match := _NAME.fullmatch(spec)) else (None, spec)
    if _exists(path) or not (match := _WEIGHT.fullmatch(path)):
        return Spec(path=path, name=name)
    path, digits = match.groups()
    try:
        weight = float(digits)
    except ValueError:  # such as 1.2.3
        weight = math.nan
    if not (weight > 0 and math.isfinite(weight)):
        raise TextError(
            f"the weight {digits} isn't a number above 0", f"write {path}:2, or leave it out", file=spec
        )
    return Spec(path=path, name=name, weight=weight)


def read_domain(spec: str, *, raw: bool = False) -> Domain:
    """The documents that a spec names: [NAME=]PATH[:WEIGHT], where PATH is a file, a folder or a glob.

    raw: read files as text as they are, whatever they hold
    TextError where nothing can be read, or something isn't text.
    """
    said = parse_spec(spec)
    files, left_out = files_of(said.path)
    digests: list[xxhash.xxh3_128] = []
    documents: list[Document] = []
    problems: list[Problem] = []
    for file in files:
        digests.append(xxhash.xxh3_128(file.data))
        try:
            documents += _documents(file, raw=raw)
        except TextError as error:
            problems += error.problems
    if problems:
        raise TextError(problems)
    if not documents:
        raise TextError("there is no text in it", "give a file with texts or chats", file=said.path)
    return Domain(
        name=_text(said.name or Path(said.path).name or Path(said.path).resolve().name or said.path),
        weight=said.weight,
        documents=tuple(documents),
        digest=_joined(digests),
        files=tuple(file.path for file in files),
        left_out=left_out,
    )


def _text(name: str) -> str:
    """A file's name as text: what isn't UTF-8 in it, which no file that records the name could hold, becomes �."""
    return os.fsencode(name).decode("utf-8", "replace")


def _joined(digests: Sequence[xxhash.xxh3_128]) -> str:
    """Of one file, its own; of several, of theirs, so that it says where one ends."""
    one = digests[0] if len(digests) == 1 else xxhash.xxh3_128(b"".join(it.digest() for it in digests))
    return one.hexdigest()


def read_domains(specs: Sequence[str], *, raw: bool = False) -> tuple[Domain, ...]:
    """All domains, in order. TextError where two have one name, too."""
    domains: dict[str, Domain] = {}
    for spec in specs:
        domain = read_domain(spec, raw=raw)
        if (other := domains.get(domain.name)) is not None:
            paths = " and ".join(str(it.files[0]) for it in (other, domain))
            what = f"there are two texts of the name {domain.name} ({paths})"
            raise TextError(what, f"give them names: --text one={_bare(spec)}")
        domains[domain.name] = domain
    return tuple(domains.values())


def _bare(spec: str) -> str:
    return parse_spec(spec).path


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def _documents(file: SourceFile, *, raw: bool) -> Iterator[Document]:
    """The documents in one file, by what it holds."""
    path, data = file.path, file.data
    place = path.as_posix()
    if not data.strip():
        raise TextError("the text is empty", "give a text", file=path)
    if raw:
        yield Document(place=place, text=data.decode("utf-8", "surrogateescape"))
    elif is_parquet(data):
        yield from read_values(rows_of(path), place, path)
    elif _holds_values(file):
        yield from read_values(json_values(data), place, path)
    else:
        if not file.found:  # the pages and tables of a folder are its sources
            check_text(path, data)
        # A file may be cut within its last character, as `head -c` does; it keeps its bytes.
        yield Document(place=place, text=data.decode("utf-8", "surrogateescape"))


def _holds_values(file: SourceFile) -> bool:
    """Whether a file is JSON to be read as chats and texts, and no text itself.

    A .json among sources is one of them (package.json), unless it begins with what can only be a data set.
    """
    name = file.path.name.lower()
    if name.endswith(_JSON_LINES):
        return True
    named_json = name.endswith(".json")
    if file.found and not named_json:
        return False
    if named_json and not file.found:
        return True
    if not is_json(file.data.decode("utf-8", "replace")):
        return False
    if not file.found:
        return True
    first = next((value for _, value in json_values(file.data)), None)
    return not isinstance(first, LineError) and is_known(first)
