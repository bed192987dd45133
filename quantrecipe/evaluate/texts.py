"""Text: what models are evaluated on; and what is refused, since read as text it would give a wrong figure.

    {"messages": [{"role": "user", …}]}     chats as JSON lines: the model would be asked to guess braces and keys
    PAR1, %PDF, 1F 8B, …                    data sets and documents in files of their own
    FF FE, or bytes that aren't UTF-8       texts in another encoding
    <!DOCTYPE html>, a,b,c                  pages and tables

A perplexity of such a file is a number like any other, and says nothing. Who means it says so (`raw`).
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from quantrecipe.errors import EvaluationError

__all__ = ["Text", "read_text"]

_COLUMN = (
    "write a column of it as text: "
    "python -c \"import pandas; print(*pandas.read_parquet('{name}')['text'], sep='\\n')\" > text.txt"
)
_MAGIC = (
    (b"\x1f\x8b", "is compressed with gzip", "gunzip -k {name}"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "zstd -d {name}"),
    (b"\xfd7zXZ\x00", "is compressed with xz", "xz -dk {name}"),
    (b"BZh", "is compressed with bzip2", "bunzip2 -k {name}"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive", "unpack it, and give the text in it"),
    (b"PK\x03\x04", "is a zip archive, or a document in one (.docx, .npz)", "give the text in it"),
    (b"%PDF", "is a PDF", "take the text out of it: pdftotext {name} text.txt"),
    (b"PAR1", "is a Parquet file", _COLUMN),
    (b"ARROW1", "is an Arrow file", "write a column of it as text"),
    (
        b"GGUF",
        "is a GGUF file, not a text",
        "give the text after --text, and the model as FILE or --reference",
    ),
    (b"SQLite format 3\x00", "is an SQLite database", "write the text in it to a file"),
    (b"\x89HDF", "is an HDF5 file", "write the text in it to a file"),
    (b"{\\rtf", "is a document in RTF", "save it as plain text"),
    (b"\x89PNG", "is a picture", "give a text"),
    (b"\xff\xd8\xff", "is a picture", "give a text"),
)
"""How files begin that aren't text, what they are, and how to get at the text. Source: the formats' descriptions."""

_BOMS = ((b"\xff\xfe\x00\x00", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))
_LOOKED_THROUGH = 1 << 16  # bytes, for what a text of any length shows soon
_LINES = 50  # that are looked at: what a file is shows in the first ones
_WHOLE_JSON = 1 << 26  # bytes; a larger document is told by its first lines
_PAGE = re.compile(r"\s*(?:<!doctype html|<html|<\?xml)", re.IGNORECASE)
_CHATS = {
    "messages": "[print(m['content']) for line in sys.stdin for m in json.loads(line)['messages']]",
    "conversations": "[print(m['value']) for line in sys.stdin for m in json.loads(line)['conversations']]",
    "prompt": "[print(d['prompt'] + d['completion']) for d in map(json.loads, sys.stdin)]",
    "text": "[print(d['text']) for d in map(json.loads, sys.stdin)]",
    "content": "[print(d['content']) for d in map(json.loads, sys.stdin)]",
}
"""By a key of JSON lines as data sets have them, how to get the text."""
_FEWEST_ROWS = 8  # of a table: a poem may have a comma in each of a few lines
_INSIST = "or say --raw, if it is meant to be read as it is"


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A text to evaluate on, and what to call it.

    special:   whether markup in it is parsed as special tokens, as that of chats that a template has written is
    answers:   runs of bytes, start and end, in order: tokens that begin in one count. None of them: all tokens count
    documents: where documents begin, in bytes, in order; nothing for a text that is one document
    """

    name: str
    data: bytes
    special: bool = False
    answers: tuple[tuple[int, int], ...] = ()
    documents: tuple[int, ...] = ()

    @property
    def digest(self) -> str:
        """Digest of the bytes, and of how they are read."""
        digest = hashlib.blake2b(self.data, digest_size=16, person=b"special" if self.special else b"")
        if self.answers or self.documents:
            digest.update(repr((self.answers, self.documents)).encode())
        return digest.hexdigest()


def read_text(path: str | Path, *, raw: bool = False) -> Text:
    """A file as a text. EvaluationError where it can't be read, is empty, or (unless `raw`) is no plain text."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise EvaluationError(f"the text can't be read ({error.strerror or error})", file=path) from error
    if not data.strip():
        raise EvaluationError("the text is empty", "give a text to evaluate on", file=path)
    name = Path(path).name
    if not raw and (found := _no_text(name, data)) is not None:
        what, remedy = found
        raise EvaluationError(
            f"{what}; as text it would give a figure that means nothing", f"{remedy}, {_INSIST}", file=path
        )
    return Text(name=name, data=data)


def _no_text(name: str, data: bytes) -> tuple[str, str] | None:
    """What a file is that isn't plain text, and what to do; None for text."""
    for magic, what, remedy in _MAGIC:
        if data.startswith(magic):
            return what, remedy.format(name=name)
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return f"is text in {encoding}", _converted(encoding, name)
    head = data[:_LOOKED_THROUGH]
    if b"\0" in head:
        if 4 * head.count(b"\0") > len(head):  # every other byte of most scripts
            order = "UTF-16LE" if head[1::2].count(b"\0") > head[::2].count(b"\0") else "UTF-16BE"
            return f"looks like text in {order}", _converted(order, name)
        return "is a binary file", "give a text"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":  # cut within its last character, as `head -c` does
            return None
        what = f"isn't text in UTF-8: byte {error.start:,} is {data[error.start]:#04x}"
        return what, f"{_converted('LATIN1', name)} (or what it is in, for LATIN1)"
    if _PAGE.match(text):
        return "is a page of HTML or XML", "take the text out of it"
    return _json(name, text) or _table(name, text)


def _converted(encoding: str, name: str) -> str:
    return f"convert it: iconv -f {encoding} -t UTF-8 {name} > text.txt"


def _json(name: str, text: str) -> tuple[str, str] | None:
    """Say what is wrong with JSON lines, or with one JSON document."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    lines = list(islice((line for line in text.splitlines() if line.strip()), _LINES))
    items = [_parsed(line) for line in lines]
    if all(isinstance(item, dict | list) for item in items):
        keys = [str(key) for key in items[0]] if isinstance(items[0], dict) else []
        known = next((key for key in _CHATS if key in keys), None)
        shown = f" ({', '.join(keys[:4])}{', …' if len(keys) > 4 else ''})" if keys else ""
        chats = "chats as JSON lines" if known in ("messages", "conversations", "prompt") else "JSON lines"
        if known is None:
            return f"is {chats}{shown}", "write the text in them to a file"
        return (
            f"is {chats}{shown}",
            f'take the text out: python -c "import json, sys; {_CHATS[known]}" < {name} > text.txt',
        )
    if len(text) <= _WHOLE_JSON and isinstance(_parsed(text), dict | list):
        return "is a JSON document", "write the text in it to a file"
    return None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _table(name: str, text: str) -> tuple[str, str] | None:
    """Rows of as many cells each; prose and programs never have many such lines, and no others."""
    lines = [line for line in text[:_LOOKED_THROUGH].splitlines() if line.strip()]
    if len(text) > _LOOKED_THROUGH:
        lines.pop()  # it may be cut
    named = name.lower().endswith((".csv", ".tsv"))
    for separator, kind in ((",", "CSV"), ("\t", "TSV"), (";", "CSV")):
        try:
            counts = {len(row) for row in csv.reader(lines, delimiter=separator) if row}
        except csv.Error:
            continue
        several = len(counts) == 1 and counts.pop() >= (2 if named else 3)
        if several and len(lines) >= (2 if named else _FEWEST_ROWS):
            return f"is a table ({kind})", "write the column with the text to a file"
    return None
