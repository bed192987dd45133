"""Finished files get their names, all of them or none; what is finished is never thrown away."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from quantrecipe.errors import OutputError
from quantrecipe.output import naming
from quantrecipe.output.naming import give_names
from quantrecipe.output.partfile import PartFile, part_path

NAMES = ("a", "b", "c")


@pytest.fixture(params=["links", "no links"])
def _links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hard links, and as on a file system that has none."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if request.param == "no links":
        monkeypatch.setattr(os, "link", refuse)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _links: None) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def parts(folder: Path) -> Iterator[list[PartFile]]:
    """Three files that hold their names, ready to be called so."""
    with ExitStack() as stack:
        yield [written(stack, name) for name in NAMES]


def written(stack: ExitStack, name: str, *, force: bool = False) -> PartFile:
    part = stack.enter_context(PartFile(Path(name), 1, force=force))
    part.write(memoryview(name.encode()), 0)
    return part


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_all_get_their_names(folder: Path, parts: list[PartFile]) -> None:
    give_names(parts)
    assert contents(folder) == {"a": b"a", "b": b"b", "c": b"c"}


def test_a_file_that_appeared_meanwhile_is_kept(folder: Path, parts: list[PartFile]) -> None:
    Path("b").write_bytes(b"theirs")
    with pytest.raises(OutputError) as caught:
        give_names(parts)
    assert str(caught.value) == (
        "everything is written, but b exists; the finished files are kept as "
        "a.quantrecipe-part, b.quantrecipe-part, c.quantrecipe-part: rename them, or remove them"
    )
    assert contents(folder) == {part_path(Path(n)).name: n.encode() for n in NAMES} | {"b": b"theirs"}


def test_so_it_is_in_the_very_last_moment(
    folder: Path, parts: list[PartFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After everything was checked, and the first has its name."""
    take = naming._take_free_name

    def take_and_disturb(part: Path, path: Path) -> None:
        take(part, path)
        Path("b").write_bytes(b"theirs")

    monkeypatch.setattr(naming, "_take_free_name", take_and_disturb)
    with pytest.raises(OutputError, match="but b exists; the finished files are kept as a"):
        give_names(parts)
    assert contents(folder) == {part_path(Path(n)).name: n.encode() for n in NAMES} | {"b": b"theirs"}


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_appeared_meanwhile(folder: Path, force: bool) -> None:
    with ExitStack() as stack:
        parts = [written(stack, name, force=force) for name in NAMES]
        Path("c").mkdir()
        with pytest.raises(OutputError, match="everything is written, but c is a folder; the finished files"):
            give_names(parts)
    assert contents(folder) == {part_path(Path(n)).name: n.encode() for n in NAMES}


def test_what_the_system_says_is_repeated(
    folder: Path, parts: list[PartFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(part: Path, path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(naming, "_take_free_name", refuse)
    with pytest.raises(OutputError, match="but can't write a: Read-only file system; the finished files"):
        give_names(parts)
    assert contents(folder) == {part_path(Path(n)).name: n.encode() for n in NAMES}


def test_a_kept_part_is_the_whole_file_and_can_be_renamed(folder: Path) -> None:
    with PartFile(Path("a"), 1) as part:
        part.write(memoryview(b"a"), 0)
        Path("a").write_bytes(b"theirs")
        with pytest.raises(
            OutputError, match=r"file is kept as a\.quantrecipe-part: rename it, or remove it"
        ):
            part.finish()
    Path("a.quantrecipe-part").rename("mine")
    assert contents(folder) == {"a": b"theirs", "mine": b"a"}


def test_what_replaced_a_file_stays_and_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file is gone: taking the new one away would leave nothing."""
    replace = Path.replace

    def fail_at_c(self: Path, target: Path) -> Path:
        if target.name == "c":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return replace(self, target)

    for name in ("b", "c"):
        Path(name).write_bytes(b"old")
    with ExitStack() as stack:
        parts = [written(stack, name, force=True) for name in NAMES]
        monkeypatch.setattr(Path, "replace", fail_at_c)
        with pytest.raises(OutputError) as caught:
            give_names(parts)
    assert "but can't write c: Permission denied" in str(caught.value)
    assert "kept as a.quantrecipe-part, c.quantrecipe-part" in str(caught.value)
    assert str(caught.value).endswith("done before that: b")
    assert contents(folder) == {
        "a.quantrecipe-part": b"a",
        "b": b"b",
        "c": b"old",
        "c.quantrecipe-part": b"c",
    }


def test_an_interrupt_takes_the_names_back(
    folder: Path, parts: list[PartFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    take = naming._take_free_name

    def interrupted(part: Path, path: Path) -> None:
        take(part, path)
        if path.name == "b":
            raise KeyboardInterrupt

    monkeypatch.setattr(naming, "_take_free_name", interrupted)
    with pytest.raises(KeyboardInterrupt):
        give_names(parts)
    for part in parts:
        part.__exit__(None, None, None)
    assert contents(folder) == {}


def test_force_replaces_what_appeared_meanwhile(folder: Path) -> None:
    with PartFile(Path("a"), 1, force=True) as part:
        part.write(memoryview(b"a"), 0)
        Path("a").write_bytes(b"older")
        part.finish()
    assert contents(folder) == {"a": b"a"}
