"""Plain text: what models are evaluated on; and what is refused, since read as text it would give a wrong figure.

    PAR1, %PDF, 1F 8B, …                    data sets and documents in files of their own
    FF FE, or bytes that aren't UTF-8       texts in another encoding
    <!DOCTYPE html>, a,b,c                  pages and tables

Chats as JSON lines are read elsewhere: as text, the model would be asked to guess braces and keys. A perplexity of
such a file is a number like any other, and says nothing. Who means it says so (`raw`).
"""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from quantrecipe.errors import TextError
from quantrecipe.texts.json_lines import is_json

__all__ = ["Text", "check_text", "no_text", "read_bytes", "read_text"]

_COLUMN = "quantrecipe.texts.read_domain reads the texts and chats in it"
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
_PAGE = re.compile(r"\s*(?:<!doctype html|<html|<\?xml)", re.IGNORECASE)
_FEWEST_ROWS = 8  # of a table: a poem may have a comma in each of a few lines
_MEANINGLESS = "; as text it would give a figure that means nothing"
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
    """A file of plain text. TextError where it can't be read, is empty, or (unless `raw`) is no plain text.

    Chats and texts in JSON lines are read by `read_domain`, since it takes a model's template to make a text of them.
    """
    path = Path(path)
    data = read_bytes(path)
    if not data.strip():
        raise TextError("the text is empty", "give a text", file=path)
    if not raw:
        check_text(path, data)
        if is_json(data.decode("utf-8", "replace")):
            remedy = "quantrecipe.texts.read_domain reads the texts and chats in it"
            raise TextError(f"is JSON{_MEANINGLESS}", f"{remedy}, {_INSIST}", file=path)
    return Text(name=path.name, data=data)


def read_bytes(path: Path) -> bytes:
    """What is in a file. TextError where it can't be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise TextError(f"the text can't be read ({error.strerror or error})", file=path) from error


def check_text(path: Path, data: bytes) -> None:
    """TextError where a file is another kind of file than text in UTF-8, or a page or a table."""
    if (found := no_text(path.name, data) or _page(data) or _table(path.name, data)) is not None:
        what, remedy = found
        raise TextError(f"{what}{_MEANINGLESS}", f"{remedy}, {_INSIST}", file=path)


def no_text(name: str, data: bytes) -> tuple[str, str] | None:
    """What a file is that isn't text in UTF-8, and what to do; None for text. One may be cut within a character."""
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
        data.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":  # cut within its last character, as `head -c` does
            return None
        what = f"isn't text in UTF-8: byte {error.start:,} is {data[error.start]:#04x}"
        return what, f"{_converted('LATIN1', name)} (or what it is in, for LATIN1)"
    return None


def _page(data: bytes) -> tuple[str, str] | None:
    text = data[:_LOOKED_THROUGH].decode("utf-8-sig", "replace")
    return ("is a page of HTML or XML", "take the text out of it") if _PAGE.match(text) else None


def _converted(encoding: str, name: str) -> str:
    return f"convert it: iconv -f {encoding} -t UTF-8 {name} > text.txt"


def _table(name: str, data: bytes) -> tuple[str, str] | None:
    """Rows of as many cells each; prose and programs never have many such lines, and no others."""
    text = data[:_LOOKED_THROUGH].decode("utf-8-sig", "replace")
    lines = [line for line in text.splitlines() if line.strip()]
    if len(data) > _LOOKED_THROUGH:
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
