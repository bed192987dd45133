"""What one --text names: its name, its weight, and the documents in its files."""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path

import pytest

from quantrecipe.errors import EvaluationError, TextError
from quantrecipe.texts import read_domain, read_domains
from quantrecipe.texts.read_domain import Spec, parse_spec

CHAT = json.dumps({"messages": [{"role": "user", "content": "hi"}]})


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_bytes(b"first\r\n")
    Path("b.txt").write_bytes(b"second")
    Path("talk.jsonl").write_text(f"{CHAT}\n{CHAT}\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("a.txt", Spec(path="a.txt")),
        ("code=src/", Spec(path="src/", name="code")),
        ("code=src/:2", Spec(path="src/", name="code", weight=2)),
        ("src:0.5", Spec(path="src", weight=0.5)),
        ("src:1e-3", Spec(path="src", weight=0.001)),
        (r"C:\x\talk.jsonl", Spec(path=r"C:\x\talk.jsonl")),
        (r"chat=C:\x\talk.jsonl:3", Spec(path=r"C:\x\talk.jsonl", name="chat", weight=3)),
        ("src/**/*.py:2", Spec(path="src/**/*.py", weight=2)),
        ("a/b=c.txt", Spec(path="a/b=c.txt")),
        ("a:b", Spec(path="a:b")),
    ],
)
def test_the_grammar(spec: str, expected: Spec) -> None:
    assert parse_spec(spec) == expected


def test_what_exists_is_a_path_as_a_whole() -> None:
    for name in ("x=y.txt", "z:2", "n=z:2"):
        Path(name).write_text("x", encoding="utf-8")
        assert parse_spec(name) == Spec(path=name)
    assert parse_spec("q=z:2") == Spec(path="z:2", name="q")


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "1.2.3", "1e999"])
def test_a_weight_is_above_nothing(weight: str) -> None:
    with pytest.raises(TextError, match=f"the weight {weight} isn't a number above 0"):
        read_domain(f"a.txt:{weight}")


def test_a_plain_text_keeps_its_bytes() -> None:
    data = "\ufeffGrüß\r\n\r\n  ".encode()
    Path("mark.txt").write_bytes(data)
    domain = read_domain("mark.txt")
    assert (domain.name, domain.weight, domain.files) == ("mark.txt", None, (Path("mark.txt"),))
    (document,) = domain.documents
    assert document.place == "mark.txt"
    assert document.text is not None
    assert document.text.encode() == data


def test_one_that_ends_within_a_character_does_too() -> None:
    data = "Grüß Gott, Frau Weiß".encode()[:-1]
    Path("cut.txt").write_bytes(data)
    (document,) = read_domain("cut.txt").documents
    assert document.text is not None
    assert document.text.encode("utf-8", "surrogateescape") == data


def test_bytes_in_another_encoding_are_an_error_unless_one_insists() -> None:
    data = "naïve, said he".encode("latin-1")
    Path("old.txt").write_bytes(data)
    with pytest.raises(TextError, match="byte 2 is 0xef"):
        read_domain("old.txt")
    (document,) = read_domain("old.txt", raw=True).documents
    assert document.text is not None
    assert document.text.encode("utf-8", "surrogateescape") == data


def test_chats_are_read_by_content_and_by_name() -> None:
    Path("talk.txt").write_text(f"{CHAT}\n", encoding="utf-8")
    Path("list.json").write_text(f"[{CHAT},\n{CHAT}]", encoding="utf-8")
    assert [it.place for it in read_domain("talk.jsonl").documents] == ["talk.jsonl:1", "talk.jsonl:2"]
    assert [it.place for it in read_domain("talk.txt").documents] == ["talk.txt:1"]
    assert [it.place for it in read_domain("list.json").documents] == ["list.json:1", "list.json:2"]
    (document,) = read_domain("talk.jsonl", raw=True).documents
    assert document.text == f"{CHAT}\n{CHAT}\n"


@pytest.mark.parametrize("name", ["broken.jsonl", "package.json"])
def test_a_name_promises_json(name: str) -> None:
    Path(name).write_text('{"name": "x"}\nno JSON\n', encoding="utf-8")
    with pytest.raises(TextError, match=rf"{name}:1: has keys that make no text") as caught:
        read_domain(name)
    assert f"{name}:2: is not valid JSON" in str(caught.value)


def test_a_folder_of_sources_and_chats(here: Path) -> None:
    Path("src").mkdir()
    Path("src/a.py").write_text("a = 1\n", encoding="utf-8")
    Path("src/chats.jsonl").write_text(f"{CHAT}\n", encoding="utf-8")
    Path("src/set.json").write_text(f"[{CHAT}]", encoding="utf-8")
    Path("src/package.json").write_text('{"name": "x"}', encoding="utf-8")
    Path("src/lines.py").write_text('{"text": 1}\n', encoding="utf-8")
    Path("src/table.txt").write_text("a,b,c\n" * 20, encoding="utf-8")
    Path("src/logo.png").write_bytes(b"\x89PNG" + bytes(9))
    domain = read_domain("src/")
    assert domain.name == "src"
    assert [(it.place, it.is_chat) for it in domain.documents] == [
        ("src/a.py", False),
        ("src/chats.jsonl:1", True),
        ("src/lines.py", False),
        ("src/package.json", False),
        ("src/set.json:1", True),
        ("src/table.txt", False),
    ]
    assert domain.left_out == {"src/logo.png": "is a picture"}
    assert read_domain(".").name == here.name
    assert read_domain("src/*.py").name == "*.py"


def test_broken_lines_of_a_folder_are_all_named() -> None:
    Path("data").mkdir()
    for name in ("a", "b"):
        Path(f"data/{name}.jsonl").write_text("{\n", encoding="utf-8")
    with pytest.raises(TextError) as caught:
        read_domain("data")
    assert "a.jsonl:1: is not valid JSON" in str(caught.value)
    assert "b.jsonl:1: is not valid JSON" in str(caught.value)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("name", ["empty.txt", "empty.jsonl"])
def test_an_empty_file_is_an_error(name: str, raw: bool) -> None:
    Path(name).write_text(" \n", encoding="utf-8")
    with pytest.raises(TextError, match="the text is empty"):
        read_domain(name, raw=raw)


def test_what_is_no_text_is_refused() -> None:
    Path("a.gz").write_bytes(gzip.compress(b"hello"))
    with pytest.raises(EvaluationError, match="gunzip -k"):
        read_domain("a.gz")


def test_the_digest_is_of_the_bytes_and_their_order() -> None:
    for folder, contents in {"x": ["a", "bc"], "y": ["ab", "c"], "z": ["a", "bc"]}.items():
        Path(folder).mkdir()
        for number, content in enumerate(contents):
            Path(folder, f"{folder}{number}.txt").write_text(content, encoding="utf-8")
    digests = {name: read_domain(name).digest for name in "xyz"}
    assert digests["x"] == digests["z"] != digests["y"]


def test_names_are_unique() -> None:
    domains = read_domains(["a.txt:2", "b=a.txt", "b.txt"])
    assert [(it.name, it.weight) for it in domains] == [("a.txt", 2), ("b", None), ("b.txt", None)]
    Path("sub").mkdir()
    Path("sub/a.txt").write_text("x", encoding="utf-8")
    with pytest.raises(TextError, match=r"two texts of the name a\.txt \(a\.txt and sub.a\.txt\)") as caught:
        read_domains(["a.txt", "sub/a.txt:2"])
    assert caught.value.problems[0].remedy == "give them names: --text one=sub/a.txt"


def test_no_path_is_an_error() -> None:
    with pytest.raises(TextError, match="there is no path"):
        read_domain(" ")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_isn_t_utf_8_becomes_text() -> None:
    """A matrix records it, and a GGUF has text in UTF-8."""
    name = os.fsdecode(b"na\xffme.txt")
    Path(name).write_bytes(b"words")
    domain = read_domain(name)
    assert (domain.name, domain.files) == ("na\ufffdme.txt", (Path(name),))
