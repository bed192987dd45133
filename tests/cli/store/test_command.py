"""quantrecipe store: list, verify, gc; and apply with a store."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from quantrecipe.cli import main
from quantrecipe.cli.store.command import COMMANDS
from quantrecipe.cli.store.folder import VARIABLE

Output = pytest.CaptureFixture[str]

EXAMPLE = str(Path(__file__).parents[3] / "examples/tiny-code/model.safetensors")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


@pytest.fixture
def store(folder: Path, capsys: Output) -> Path:
    """With the tensors of one run."""
    assert main(["apply", "llama.cpp/Q8_0", EXAMPLE, "-o", "a.gguf", "--store", "s"]) == 0
    capsys.readouterr()
    return folder / "s"


def entries(store: Path) -> list[Path]:
    return sorted(store.glob("??/*/*"))


def test_apply_takes_what_was_made_before(
    store: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["apply", "llama.cpp/Q8_0", EXAMPLE, "-o", "b.gguf", "--store", "s"]) == 0
    count = len(entries(store))
    assert f"{count} of 38 tensors copied from the store" in capsys.readouterr().out
    monkeypatch.setenv(VARIABLE, str(store))
    assert main(["apply", "llama.cpp/Q8_0", EXAMPLE, "-o", "c.gguf", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["from_store"]) == count > 20
    assert document["store_problems"] == []
    assert Path("a.gguf").read_bytes() == Path("b.gguf").read_bytes() == Path("c.gguf").read_bytes()
    monkeypatch.setenv(VARIABLE, "")
    assert main(["apply", "llama.cpp/Q8_0", EXAMPLE, "-o", "d.gguf", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["from_store"] == []


def test_what_is_wrong_with_it_is_shown(store: Path, capsys: Output) -> None:
    damaged = entries(store)[0]
    damaged.write_bytes(b"\0" + damaged.read_bytes()[1:])
    assert main(["apply", "llama.cpp/Q8_0", EXAMPLE, "-o", "b.gguf", "--store", "s"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"! {damaged.relative_to(store.parent)} has other bytes than were written" in said
    assert Path("a.gguf").read_bytes() == Path("b.gguf").read_bytes()


def test_another_folder_is_left_alone(folder: Path, capsys: Output) -> None:
    (folder / "mine").mkdir()
    (folder / "mine/notes").touch()
    assert main(["apply", "llama.cpp/Q8_0", EXAMPLE, "-o", "a.gguf", "--store", "mine"]) == 1
    assert "mine isn't a store, and isn't empty; name an empty or a new folder" in capsys.readouterr().err
    for command in ("list", "verify"):
        assert main(["store", command, "mine"]) == 1
        assert "mine isn't a store" in capsys.readouterr().err
    assert main(["store", "gc", "mine", "--max-size", "1GB"]) == 1
    assert [it.name for it in folder.rglob("*")] == ["mine", "notes"]


def test_list(store: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    count = len(entries(store))
    size = sum(path.stat().st_size for path in entries(store))
    assert main(["store", "list", "s"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[:2] for line in out.strip().splitlines()[-2:]] == [
        ["Q8_0", str(count)],
        ["all", str(count)],
    ]
    assert main(["store", "list", "s", "--all"]) == 0
    out = capsys.readouterr().out
    assert "blk.0.attn_q.weight" in out
    assert len(out.strip().splitlines()) == count + (1 if "─" not in out else 2)
    monkeypatch.setenv(VARIABLE, "s")
    assert main(["store", "list", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["folder"], document["size"], len(document["entries"])) == ("s", size, count)
    assert document["entries"][0].keys() == {"path", "tensor", "shape", "type", "size", "used"}


def test_list_shows_what_is_no_entry(store: Path, capsys: Output) -> None:
    entries(store)[0].write_bytes(b"")
    for more in ((), ("--all",)):
        assert main(["store", "list", "s", *more]) == 0
        assert "not a whole entry" in capsys.readouterr().out


def test_verify(store: Path, capsys: Output) -> None:
    assert main(["store", "verify", "s"]) == 0
    count = len(entries(store))
    assert f"{count} tensors, " in (out := capsys.readouterr().out)
    assert "none damaged" in out
    first, second = entries(store)[:2]
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(b"\0\0" + second.read_bytes()[2:])
    assert main(["store", "verify", "s"]) == 1
    out, err = capsys.readouterr()
    assert f"error: {first.relative_to(store.parent)}: isn't a whole entry; remove it" in err
    assert f"{second.relative_to(store.parent)}: has other bytes than were written" in err
    assert "2 damaged" in out
    assert main(["store", "verify", "s", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [it["damage"] for it in document["damaged"]] == [
        "isn't a whole entry",
        "has other bytes than were written",
    ]
    assert document["entries"] == count


def test_gc(store: Path, capsys: Output) -> None:
    paths = entries(store)
    kept = max(paths, key=lambda path: path.stat().st_size)
    for path in paths:
        os.utime(path, (1, 2 if path == kept else 1))
    size = kept.stat().st_size
    gc = ["store", "gc", "s", "--max-size", f"{size}B"]
    assert main([*gc, "--dry-run"]) == 0
    assert f"{len(paths) - 1} tensors with" in (said := capsys.readouterr().out)
    assert "would be removed; 1 tensor with" in said
    assert entries(store) == paths
    assert main([*gc, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["removed"]["entries"] == len(paths) - 1
    assert (document["removed"]["kept"], document["removed"]["kept_bytes"]) == (1, size)
    assert document["dry_run"] is False
    assert entries(store) == [kept]
    assert main(gc) == 0
    assert "0 tensors with 0 B removed; 1 tensor with" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_without_a_folder(name: str, capsys: Output) -> None:
    more = ["--max-size", "1GB"] if name == "gc" else []
    assert main(["store", name, *more]) == 2
    assert f"Name the store's FOLDER, or set {VARIABLE}" in capsys.readouterr().err


def test_gc_needs_a_size(store: Path, capsys: Output) -> None:
    assert main(["store", "gc", "s"]) == 2
    assert "--max-size" in capsys.readouterr().err
