"""SHA256SUMS and the record of a release."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from quantrecipe.errors import OutputError
from quantrecipe.release.checksums import check_sums, files_below, read_sums
from quantrecipe.release.record import Record, key_of, state_of
from quantrecipe.sha256sums import hash_file, sums_text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.gguf", "a/c.yaml", ".hidden/x", "a/.y"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode() * 1000)
    return tmp_path


def test_what_is_written_is_read_and_holds(folder: Path) -> None:
    names = list(files_below(folder))
    assert names == ["a/c.yaml", "b.gguf"]
    sums = {name: hash_file(folder / name) for name in reversed(names)}
    assert sums["b.gguf"] == hashlib.sha256(b"b.gguf" * 1000).hexdigest()
    (folder / "SHA256SUMS").write_text(sums_text(sums), encoding="utf-8")
    assert list(read_sums(folder)) == names
    heard: list[int] = []
    check_sums(folder, sums, heard.append)
    assert sum(heard) == sum((folder / name).stat().st_size for name in names)
    if tool := shutil.which("sha256sum"):
        subprocess.run([tool, "-c", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True, check=True)


def test_all_that_does_not_hold_is_told(folder: Path) -> None:
    sums = {"b.gguf": "0" * 64, "gone": "1" * 64, "a/c.yaml": hash_file(folder / "a/c.yaml")}
    with pytest.raises(OutputError) as caught:
        check_sums(folder, sums)
    assert [it.what for it in caught.value.problems] == [
        "has other bytes than SHA256SUMS says",
        "is in SHA256SUMS and isn't there",
    ]


def test_an_empty_list_is_none(folder: Path) -> None:
    (folder / "SHA256SUMS").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="has no file in it"):
        read_sums(folder)


def test_a_step_is_known_by_what_it_depended_on(tmp_path: Path) -> None:
    record = Record(tmp_path)
    key = key_of(model="m", chunks=3)
    record.put("matrix", key, {"path": Path("a")})
    again = Record(tmp_path)
    assert again.result("matrix", key) == {"path": "a"}
    assert again.result("matrix", key_of(model="m", chunks=4)) is None
    assert again.knows("matrix")
    assert not again.knows("other")
    assert (again.latest("matrix"), again.latest("other")) == ({"path": "a"}, None)


def test_keys_do_not_depend_on_the_order() -> None:
    assert key_of(a=1, b={"x": 1, "y": 2}) == key_of(b={"y": 2, "x": 1}, a=1)
    assert key_of(a=1) != key_of(a=2)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 2, "steps": {}}', '{"version": 1, "steps": {"a": {}}}']
)
def test_a_record_that_cannot_be_read_counts_as_none(tmp_path: Path, text: str) -> None:
    record = Record(tmp_path)
    record.put("matrix", "k", 1)
    (tmp_path / ".quantrecipe-release/record.json").write_text(text, encoding="utf-8")
    assert not Record(tmp_path).knows("matrix")


def test_the_state_of_a_file(tmp_path: Path) -> None:
    assert state_of(tmp_path / "x") is None
    (tmp_path / "x").write_bytes(b"12")
    found = state_of(tmp_path / "x")
    assert found is not None
    assert found.nbytes == 2
