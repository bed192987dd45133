"""A text is text; what would be read as one and say nothing is refused, by what it is."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from quantrecipe.errors import EvaluationError, TextError
from quantrecipe.texts import Text, read_text

ROOT = Path(__file__).parents[2]


NO_TEXT = {
    "chats": (b'{"messages": []}\n' * 12, "is JSON", "read_domain"),
    "document": (b'[\n {"a": 1}\n]', "is JSON", "read_domain"),
    "gzip": (gzip.compress(b"hello"), "compressed with gzip", "gunzip -k"),
    "parquet": (b"PAR1" + bytes(20), "a Parquet file", "read_domain"),
    "pdf": (b"%PDF-1.7\n", "a PDF", "pdftotext"),
    "zip": (b"PK\x03\x04" + bytes(20), "a zip archive", "the text in it"),
    "model": (b"GGUF" + bytes(20), "a GGUF file", "the model as FILE"),
    "utf-16": ("hello\n".encode("utf-16"), "text in UTF-16", "iconv -f UTF-16 "),
    "utf-16 without a mark": (("hello\n" * 9).encode("utf-16-be"), "text in UTF-16BE", "iconv -f UTF-16BE "),
    "latin-1": ("naïve, said he ".encode("latin-1") * 9, "isn't text in UTF-8: byte 2 is 0xef", "iconv -f LATIN1 "),
    "binary": (bytes(range(1, 99)) * 9 + b"\0", "a binary file", "give a text"),
    "page": (b"\n<!doctype HTML>\n<p>a", "a page of HTML", "take the text out"),
    "table": (b"".join(b"%d,a,b\n" % n for n in range(20)), "a table (CSV)", "write the column"),
    "tabs": (b"".join(b"%d\ta\tb\n" % n for n in range(20)), "a table (TSV)", "write the column"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_TEXT)
def test_what_is_no_text_is_named(tmp_path: Path, kind: str) -> None:
    data, what, remedy = NO_TEXT[kind]
    path = tmp_path / "data.txt"
    path.write_bytes(data)
    with pytest.raises(TextError) as caught:
        read_text(path)
    assert what in str(caught.value)
    assert remedy in str(caught.value)
    assert "--raw" in str(caught.value)
    assert read_text(path, raw=True).data == data


def test_a_short_table_is_told_by_its_name(tmp_path: Path) -> None:
    for name, refused in (("a.csv", True), ("a.txt", False)):
        (tmp_path / name).write_text("a,b\n1,2\n", encoding="utf-8")
        if refused:
            with pytest.raises(EvaluationError, match="table"):
                read_text(tmp_path / name)
        else:
            assert read_text(tmp_path / name).name == name


TEXTS = {
    "prose": "Once upon a time, there was a king.\n\nHe had a daughter, and a crown.\n" * 9,
    "code": '{\n    "name": x,\n}\nfor i in range(3):\n    print(i, end=", ")\n',
    "a list of links": "[one](a.html)\n[two](b.html)\n" * 9,
    "json in prose": 'An object is written so:\n{"a": 1}\n',
    "a mark of UTF-8": "\ufeffhello\n",
    "other scripts": "Привет, мир. 你好，世界。" * 9,
    "a line with commas": "one, two, three\n",
    "a few lines with commas": "one, two, three\n" * 3,
}


@pytest.mark.parametrize("kind", TEXTS)
def test_text_is_read_as_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "text"
    path.write_text(TEXTS[kind], encoding="utf-8")
    assert read_text(path).data == path.read_bytes()


def test_a_text_may_be_cut_within_a_character(tmp_path: Path) -> None:
    path = tmp_path / "cut.txt"
    path.write_bytes("Grüß Gott, Frau Weiß".encode()[:-1])
    assert read_text(path).name == "cut.txt"


def test_this_project_s_own_files_are_text() -> None:
    for path in [*ROOT.glob("docs/*.md"), *ROOT.glob("quantrecipe/*/*.py"), *ROOT.glob("recipes/*.yaml")]:
        if path.stat().st_size:
            read_text(path)


@pytest.mark.parametrize("raw", [False, True])
def test_nothing_is_no_text_either_way(tmp_path: Path, raw: bool) -> None:
    (tmp_path / "empty").write_text(" \n", encoding="utf-8")
    with pytest.raises(EvaluationError, match="the text is empty"):
        read_text(tmp_path / "empty", raw=raw)


def test_the_digest_says_how_a_text_is_read() -> None:
    texts = [
        Text(name="t", data=b"ab"),
        Text(name="t", data=b"ab", special=True),
        Text(name="t", data=b"ab", answers=((0, 1),)),
        Text(name="t", data=b"ab", documents=(0, 1)),
        Text(name="t", data=b"ac"),
    ]
    assert len({text.digest for text in texts}) == len(texts)
    assert Text(name="other", data=b"ab").digest == texts[0].digest
