"""Parquet: rows are read as lines of JSON are. Needs pyarrow, but for what is said without it."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import TextError
from quantrecipe.texts import Message, read_domain


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.split(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    for module in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, module)
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1" + bytes(20))
    with pytest.raises(TextError, match=r"pip install 'quantrecipe\[parquet\]'"):
        read_domain(str(path))


def write(path: Path, columns: dict[str, list[Any]]) -> str:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), path)
    return str(path)


def test_texts_are_read_and_empty_rows_are_not(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"text": ["one", "", None, "two"], "url": ["", "", None, "u"]})
    documents = read_domain(path).documents
    assert [it.text for it in documents] == ["one", "two"]
    assert [it.place.rpartition(":")[2] for it in documents] == ["1", "4"]


def test_chats_are_read_with_columns_that_are_null(tmp_path: Path) -> None:
    said = [
        {"role": "user", "content": "q", "name": None},
        {"role": "assistant", "content": "a", "name": None},
    ]
    path = write(
        tmp_path / "a.parquet", {"messages": [said, None], "prompt": [None, "p"], "completion": [None, "c"]}
    )
    chat, completed = read_domain(path).documents
    assert chat.messages == (Message(role="user", content="q"), Message(role="assistant", content="a"))
    assert (completed.text, completed.answers) == ("pc", ((1, 2),))


def test_what_is_wrong_is_named_by_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"label": [1, 2]})
    with pytest.raises(TextError, match=r"a\.parquet:1: has keys that make no text and no chat: 'label'"):
        read_domain(path)


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1" + bytes(20))
    with pytest.raises(TextError, match="can't be read as Parquet"):
        read_domain(str(path))
