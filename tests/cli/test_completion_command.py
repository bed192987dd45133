"""quantrecipe completion, and what the shell is given then: the names that are there, and no others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.shells import needs_gnu

from quantrecipe.cli import main

Output = pytest.CaptureFixture[str]


def complete(monkeypatch: pytest.MonkeyPatch, capsys: Output, words: str) -> list[str]:
    monkeypatch.setenv("_QUANTRECIPE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    assert main([]) == 0
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("quantrecipe plan llama.cpp/Q5_K_", ["plain,llama.cpp/Q5_K_M", "plain,llama.cpp/Q5_K_S"]),
        ("quantrecipe plan ud-q2", ["plain,ud-q2-k-xl"]),
        ("quantrecipe flatten Q5_K_", ["plain,Q5_K_M", "plain,Q5_K_S"]),
        ("quantrecipe render Q5_K_", ["plain,Q5_K_M", "plain,Q5_K_S"]),  # what flatten was called
        ("quantrecipe plan Q8_0", ["file,Q8_0"]),  # two are called so
        ("quantrecipe apply chat med", ["plain,medical-legal"]),
        ("quantrecipe explain chat shapes/qwen3-1", ["plain,shapes/qwen3-14b"]),
        ("quantrecipe plan in.gguf Q4_K_M", ["file,Q4_K_M"]),
        ("quantrecipe rec", ["plain,recipes"]),
        ("quantrecipe ren", []),  # render works, and isn't proposed
    ],
)
def test_the_shell_completes_names(
    words: str, found: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Output, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert complete(monkeypatch, capsys, words) == found


def test_files_stand_beside_names(monkeypatch: pytest.MonkeyPatch, capsys: Output, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("chatty.yaml").touch()
    assert complete(monkeypatch, capsys, "quantrecipe plan chat") == ["plain,chat", "plain,chatty.yaml"]


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", "complete -o nosort -F _quantrecipe_completion quantrecipe"),
        ("zsh", "#compdef quantrecipe"),
        ("fish", "complete --no-files --command quantrecipe"),
    ],
)
def test_each_shell_gets_its_script(
    shell: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    assert main(["completion"]) == 0
    script = capsys.readouterr().out
    assert line in script
    assert f"_QUANTRECIPE_COMPLETE={shell}_complete" in script
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == script


def test_another_shell_is_told(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/xonsh")
    assert main(["completion"]) == 2
    assert "Name the shell: bash, zsh, fish." in capsys.readouterr().err


@needs_gnu
def test_bash_completes_with_it(capsys: Output, tmp_path: Path) -> None:
    """The script, sourced by a real bash, asks the program; what it is called here is a file on the path."""
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    program = tmp_path / "quantrecipe"
    program.write_text(
        f"#!{sys.executable}\nfrom quantrecipe.cli import main\nraise SystemExit(main())\n", encoding="utf-8"
    )
    program.chmod(0o755)
    words = "COMP_WORDS=(quantrecipe plan llama.cpp/Q5_K_); COMP_CWORD=2; _quantrecipe_completion quantrecipe"
    done = subprocess.run(
        ["bash", "-c", f'PATH="{tmp_path}:$PATH"\n{script}\n{words}\necho "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["llama.cpp/Q5_K_M", "llama.cpp/Q5_K_S"]
