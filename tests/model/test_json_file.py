"""JSON files of a folder: objects only, and everything else is told with the file's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantrecipe.errors import ModelError
from quantrecipe.model import json_file
from quantrecipe.model.json_file import read_json_object, read_text


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"[1]", "is not a JSON object; download it again"),
        (b"7", "is not a JSON object"),
        (b"{", "is not valid JSON: "),
        (b"[" * 100_000, "is nested too deeply; download it again"),
        (b"\xff", "is not UTF-8: .*; download it again"),
        (None, "can't be read: No such file or directory"),
    ],
)
def test_what_is_refused(tmp_path: Path, raw: bytes | None, said: str) -> None:
    path = tmp_path / "config.json"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(ModelError, match=f"config.json: {said}") as error:
        read_json_object(path)
    assert error.value.problems[0].file == path


def test_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'{"a": "\xc3\xa9"}\r\n')
    assert read_json_object(path) == {"a": "é"}
    assert read_text(path) == '{"a": "é"}\r\n'


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"{}" + b" " * 98)
    monkeypatch.setattr(json_file, "_MAX_BYTES", 100)
    assert read_json_object(path) == {}
    monkeypatch.setattr(json_file, "_MAX_BYTES", 99)
    with pytest.raises(ModelError, match="is larger than 99 bytes"):
        read_json_object(path)


def test_the_largest_tokenizers_are_far_below_the_limit() -> None:
    assert json_file._MAX_BYTES >= 400_000_000
