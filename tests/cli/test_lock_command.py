"""quantrecipe lock, and `--locked`."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.models import llama_metadata, llama_tensors, write_gguf

from quantrecipe.cli import main

Output = pytest.CaptureFixture[str]

RECIPE = """\
quantrecipe: 1
name: mix
default: Q4_K
rules:
  - {tensors: attn_v, type: Q6_K, why: values}
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.chdir(tmp_path)
    Path("mix.yaml").write_text(RECIPE, encoding="utf-8")
    write_gguf(Path("model.gguf"), llama_tensors(layers=4), llama_metadata(block_count=4))
    return "mix.yaml", "model.gguf"


def test_a_lock_is_text(files: tuple[str, str], capsys: Output) -> None:
    assert main(["lock", *files]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# A plan, frozen by `quantrecipe lock`")
    assert main(["lock", *files, "-o", "mix.lock"]) == 0
    assert Path("mix.lock").read_text(encoding="utf-8") == text
    assert not list(Path().glob("*-part"))


def test_what_is_locked_is_applied(files: tuple[str, str], capsys: Output) -> None:
    main(["lock", *files, "-o", "mix.lock"])
    Path("mix.yaml").write_text(
        "# reviewed\n" + RECIPE.replace("values", "values are small"), encoding="utf-8"
    )
    assert main(["plan", *files, "--locked", "mix.lock"]) == 0
    assert main(["apply", *files, "--locked", "mix.lock", "-o", "out.gguf"]) == 0
    assert Path("out.gguf").exists()
    assert main(["verify", "out.gguf", "--lock", "mix.lock"]) == 0


def test_what_isn_t_locked_is_refused(files: tuple[str, str], capsys: Output) -> None:
    main(["lock", *files, "-o", "mix.lock"])
    Path("mix.yaml").write_text(RECIPE.replace("Q6_K", "Q8_0"), encoding="utf-8")
    capsys.readouterr()
    for command in (["plan"], ["apply", "-o", "out.gguf"]):
        assert main([*command, *files, "--locked", "mix.lock"]) == 1
        err = capsys.readouterr().err
        assert "mix.lock: blk.{0-3}.attn_v.weight: type locked Q6_K, now Q8_0" in err
        assert "what the recipe means (digest)" in err
    assert not Path("out.gguf").exists()


def test_a_lock_is_written_anew_and_says_what_changed(files: tuple[str, str], capsys: Output) -> None:
    main(["lock", *files, "-o", "mix.lock"])
    main(["lock", *files, "-o", "mix.lock"])
    assert "mix.lock is as it was" in capsys.readouterr().out
    Path("mix.yaml").write_text(RECIPE.replace("Q6_K", "Q8_0"), encoding="utf-8")
    main(["lock", *files, "-o", "mix.lock"])
    assert "blk.{0-3}.attn_v.weight: type locked Q6_K, now Q8_0" in capsys.readouterr().out
    assert main(["plan", *files, "--locked", "mix.lock"]) == 0


def test_other_files_are_kept(files: tuple[str, str], capsys: Output) -> None:
    assert main(["lock", *files, "-o", "mix.yaml"]) == 1
    assert "is no lock" in capsys.readouterr().err
    assert Path("mix.yaml").read_text(encoding="utf-8") == RECIPE


def test_one_recipe_at_a_time(files: tuple[str, str], capsys: Output) -> None:
    main(["lock", *files, "-o", "mix.lock"])
    assert (
        main(["apply", "mix.yaml", "llama.cpp/Q8_0", "model.gguf", "--out-dir", "o", "--locked", "mix.lock"])
        == 2
    )
