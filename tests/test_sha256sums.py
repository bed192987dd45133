"""Hashes of files, and the list that sha256sum reads."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from quantrecipe.errors import OutputError
from quantrecipe.sha256sums import hash_file, sums_text


def test_a_file_of_several_pieces_is_hashed_and_heard(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"abc" * 3_000_000)
    heard: list[int] = []
    assert hash_file(file, heard.append) == hashlib.sha256(b"abc" * 3_000_000).hexdigest() == hash_file(file)
    assert sum(heard) == 9_000_000
    assert len(heard) > 1


def test_what_can_t_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"none: can't be read: No such file"):
        hash_file(tmp_path / "none")


def test_sha256sum_reads_it(tmp_path: Path) -> None:
    for name in ("b", "a\\b", "new\nline", "re\rturn"):
        (tmp_path / name).write_text(name)
    text = sums_text({path.name: hash_file(path) for path in tmp_path.iterdir()})
    one = hashlib.sha256(b"b").hexdigest()
    assert f"\n{one}  b\n" in f"\n{text}"
    assert [line[:1] == "\\" for line in text.splitlines()] == [True, False, True, True]
    if tool := shutil.which("sha256sum"):
        command = [tool, "--check", "--strict", "--quiet"]
        subprocess.run(command, input=text.encode(), cwd=tmp_path, check=True)
