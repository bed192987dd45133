"""apply --part, --assemble and --executor: what people type and see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.models import llama_tensors, write_gguf

from quantrecipe.cli import main
from quantrecipe.output.shares import units

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(units, "LEAST", 200_000)
    write_gguf(tmp_path / "model.gguf", llama_tensors(layers=2))
    return tmp_path


def apply(*more: str) -> int:
    return main(["--no-plugins", "apply", "llama.cpp/Q4_K_M", "model.gguf", "-o", "shared.gguf", *more])


def in_peace() -> bytes:
    line = ["--no-plugins", "apply", "llama.cpp/Q4_K_M", "model.gguf", "-o", "peace.gguf", "--force"]
    assert main(line) == 0
    return Path("peace.gguf").read_bytes()


def test_parts_and_the_file_of_them(capsys: Output) -> None:
    assert apply("--part", "2/3") == 0
    out = capsys.readouterr().out
    assert "part 2/3: " in out
    assert "of them from the shares of others" in out
    assert "the same command with --assemble in place of --part writes shared.gguf" in " ".join(out.split())
    assert Path("shared.gguf.quantrecipe-pieces/pieces.json").exists()
    assert apply("--part", "1/3", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["units"] > 5
    assert (told["part"], told["made"], told["taken"], told["left"]) == ("1/3", 0, 0, [])
    assert told["pieces"] == "shared.gguf.quantrecipe-pieces"
    assert apply("--assemble", "--no-make", "--json") == 0
    assert json.loads(capsys.readouterr().out)["output"] == "shared.gguf"
    assert Path("shared.gguf").read_bytes() == in_peace()
    assert not Path("shared.gguf.quantrecipe-pieces").exists()


def test_what_is_missing_is_refused_or_made(capsys: Output) -> None:
    assert apply("--part", "1/1", "--pieces", "pieces") == 0
    Path("pieces/000002.piece").unlink()
    assert apply("--assemble", "--no-make", "--pieces", "pieces") == 1
    err = " ".join(capsys.readouterr().err.split())
    assert "units are missing in pieces: " in err
    assert "leave out --no-make to have them made now" in err
    assert apply("--assemble", "--pieces", "pieces") == 0
    assert Path("shared.gguf").read_bytes() == in_peace()


def test_what_others_are_at_is_told(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    from quantrecipe.output.shares import folder
    from quantrecipe.output.shares.leases import Leases

    monkeypatch.setattr(
        folder.open_pieces, "__kwdefaults__", folder.open_pieces.__kwdefaults__ | {"lease_seconds": 0.5}
    )
    assert apply("--part", "1/2") == 0
    path = Path("shared.gguf.quantrecipe-pieces")
    (path / "000002.piece").unlink()
    with Leases(path, "part 2/2 on node7", 0.5).take(2):
        capsys.readouterr()
        assert apply("--part", "1/2") == 0
        assert "1 left: part 2/2 on node7" in capsys.readouterr().out
        assert apply("--part", "1/2", "--json") == 0
        (left,) = json.loads(capsys.readouterr().out)["left"]
        assert (left["unit"], left["who"]) == (2, "part 2/2 on node7")


def test_an_executor(capsys: Output) -> None:
    assert apply("--executor", "threads", "--executor-option", "workers=3", "--json") == 0
    assert json.loads(capsys.readouterr().out)["threads"] == 3
    assert Path("shared.gguf").read_bytes() == in_peace()


def test_an_executor_with_pieces_on_a_folder() -> None:
    assert apply("--executor", "threads", "--pieces", "pieces") == 0
    assert Path("shared.gguf").read_bytes() == in_peace()
    assert not Path("pieces").exists()


@pytest.mark.slow  # starts processes
def test_processes() -> None:
    assert apply("--executor", "processes") == 0
    assert Path("shared.gguf").read_bytes() == in_peace()


def test_a_dry_run_shows_the_plan(capsys: Output) -> None:
    assert apply("--part", "1/2", "--dry-run") == 0
    assert "would write shared.gguf" in capsys.readouterr().out
    assert [it.name for it in Path().iterdir()] == ["model.gguf"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--part 41/40", "there is no part 41/40: they are 1/40 to 40/40"),
        ("--part 0/40", "there is no part 0/40"),
        ("--part 3", "'3' is no part, such as 3/40"),
        ("--part 1/0", "is no part, such as 3/40"),
        ("--part x/4", "'x/4' is no part"),
        ("--part 1/2 --assemble", "--part and --assemble exclude each other"),
        ("--assemble --executor threads", "--assemble and --executor exclude each other"),
        ("--part 1/2 --reuse old.gguf", "--part and --reuse exclude each other"),
        ("--assemble --verify text", "--assemble and --verify exclude each other"),
        ("--executor threads --pieces x --keep-part", "--executor and --keep-part exclude each other"),
        ("--executor threads --threads 2", "--threads is for this process"),
        ("--no-make", "--no-make is for --assemble"),
        ("--pieces x", "--pieces is for --part, --assemble and --executor"),
        ("--executor-option workers=2", "--executor-option is for --executor"),
        ("--executor threads --executor-option workers", "'workers' is no option, such as workers=4"),
        (
            "--executor threads --executor-option workers=x",
            "threads takes a value of type integer of at least 1",
        ),
        (
            "--executor threads --executor-option workers=0",
            "threads takes a value of type integer of at least 1",
        ),
        ("--executor threads --executor-option workers=true", "threads takes a value of type integer"),
    ],
)
def test_what_can_t_be_meant(line: str, said: str, capsys: Output) -> None:
    assert apply(*line.split()) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_several_recipes_are_refused(capsys: Output) -> None:
    line = ["--no-plugins", "apply", "llama.cpp/Q4_K_M", "llama.cpp/Q8_0", "model.gguf", "--part", "1/2"]
    assert main(line) == 2
    assert "are for one recipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--executor ray", "there is no such executor 'ray'; known are threads, processes"),
        (
            "--executor threads --executor-option nodes=2",
            "threads has no option 'nodes'; its options: threads, workers",
        ),
        ("--assemble", "shared.gguf.quantrecipe-pieces has no pieces; make them first"),
        ("--part 1/2 --pieces gone/pieces", "can't write gone/pieces"),
    ],
)
def test_what_isn_t_there(line: str, said: str, capsys: Output) -> None:
    assert apply(*line.split()) == 1
    assert said in " ".join(capsys.readouterr().err.split())


def test_pieces_of_another_recipe_are_refused(capsys: Output) -> None:
    assert apply("--part", "1/2") == 0
    other = ["apply", "llama.cpp/Q8_0", "model.gguf", "-o", "shared.gguf", "--part", "2/2"]
    assert main(["--no-plugins", *other]) == 1
    assert "has pieces of another recipe; remove it to start over" in " ".join(
        capsys.readouterr().err.split()
    )


def test_what_was_downloaded_is_removed_after_a_part_too(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten = []
    monkeypatch.setattr("quantrecipe.cli.apply.forget", forgotten.append)
    assert apply("--part", "1/2", "--keep-download") == 0
    assert forgotten == []
    assert apply("--part", "2/2") == 0
    assert len(forgotten) == 1
