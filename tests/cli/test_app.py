"""The command as a whole: help, exit status, and what is said where something goes wrong."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
from support.terminal import show

import quantrecipe
from quantrecipe.cli import main
from quantrecipe.cli.app import COMMANDS, FORMER, app
from quantrecipe.cli.context import UNLIMITED, Color, stdout_console, watched
from quantrecipe.cli.lazy_group import load_command
from quantrecipe.errors import PlanError, Problem

Output = pytest.CaptureFixture[str]
Fail = Callable[[BaseException], None]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Makes `quantrecipe plugins` raise this."""

    def fail_with(error: BaseException) -> None:
        def callback() -> None:
            raise error

        monkeypatch.setattr("quantrecipe.cli.plugins.command", click.Command("plugins", callback=callback))

    return fail_with


class TestHelp:
    def test_lists_every_command_with_the_words_of_its_module(self, capsys: Output) -> None:
        assert main(["--help"]) == 0
        said = capsys.readouterr().out
        for name, short in COMMANDS.items():
            assert name in said
            assert short in said

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_has_examples_and_words_for_every_option(self, name: str, capsys: Output) -> None:
        command = load_command("quantrecipe.cli.", name)
        assert isinstance(command, click.Command)
        assert command.name == name
        assert all(option.help for option in command.params if isinstance(option, click.Option))
        assert main([name, "-h"]) == 0
        said = capsys.readouterr().out
        assert f"\n    quantrecipe {name}" in said.split("Examples:")[1]

    @pytest.mark.parametrize("name", COMMANDS)
    def test_fits_a_terminal(self, name: str, capsys: Output) -> None:
        assert main([name, "-h"]) == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 100

    def test_version(self, capsys: Output) -> None:
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"quantrecipe {quantrecipe.__version__}\n"


class TestUsage:
    def test_unknown_command_is_answered_with_the_nearest(self, capsys: Output) -> None:
        assert main(["aply"]) == 2
        assert "There is no command 'aply'. Did you mean apply?" in capsys.readouterr().err

    def test_unknown_option(self, capsys: Output) -> None:
        assert main(["plugins", "--nonsense"]) == 2
        assert "--nonsense" in capsys.readouterr().err

    def test_missing_argument(self, capsys: Output) -> None:
        assert main(["check"]) == 2
        assert "RECIPE" in capsys.readouterr().err


class TestFormerNames:
    """Scripts and old texts have them: they work, say so on stderr once, and nobody learns them."""

    @pytest.mark.parametrize(("old", "new"), FORMER.items())
    def test_the_help_is_that_of_the_new_name(self, old: str, new: str, capsys: Output) -> None:
        assert main([new, "--help"]) == 0
        wanted = capsys.readouterr()
        assert main(["--color", "never", old, "--help"]) == 0
        assert (found := capsys.readouterr()).out == wanted.out
        assert found.err == (
            f"note: `quantrecipe {old}` is called `quantrecipe {new}` now; the old name works for one more version\n"
        )

    @pytest.mark.parametrize("args", [["llama.cpp/Q8_0"], ["llama.cpp/Q8_0", "--json"], ["no.yaml"], []])
    def test_they_do_the_same(self, args: list[str], capsys: Output) -> None:
        status = main(["flatten", *args])
        wanted = capsys.readouterr()
        assert main(["render", *args]) == status
        found = capsys.readouterr()
        assert found.out == wanted.out
        note, rest = found.err.split("\n", 1)
        assert note.startswith("note: ")
        assert rest == wanted.err

    def test_nothing_lists_or_proposes_them(self, capsys: Output) -> None:
        assert not FORMER.keys() & set(app.list_commands(click.Context(app)))
        assert main(["--help"]) == 0
        listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
        assert not FORMER.keys() & listed
        for typo in ("rendr", "measur", "nothing"):
            assert main([typo]) == 2
            said = capsys.readouterr().err
            assert not any(f"{old}." in said or f"{old}," in said for old in FORMER)

    @pytest.mark.parametrize(("old", "new"), FORMER.items())
    def test_the_documentation_of_them_is_that_of_the_new_name(
        self, old: str, new: str, capsys: Output
    ) -> None:
        assert main(["help", new]) == 0
        wanted = capsys.readouterr().out
        assert main(["help", old]) == 0
        assert capsys.readouterr().out == wanted
        assert f"Usage: quantrecipe {new}" in wanted


class TestErrors:
    def test_each_problem_is_a_paragraph_without_traceback(self, capsys: Output, failing: Fail) -> None:
        failing(
            PlanError(
                [
                    Problem(what="no tensor matches", remedy="say optional: true", file="a.yaml", line=3),
                    Problem(what="the second problem " + "is long " * 40, file="a.yaml", line=9),
                ]
            )
        )
        assert main(["plugins"]) == 1
        output = capsys.readouterr()
        assert output.out == ""
        first, second = output.err.splitlines()
        assert first == "error: a.yaml:3: no tensor matches; say optional: true"
        assert second.startswith("error: a.yaml:9: the second problem is long")

    def test_verbose_adds_the_traceback(self, capsys: Output, failing: Fail) -> None:
        failing(PlanError("no tensor matches"))
        assert main(["-v", "plugins"]) == 1
        said = capsys.readouterr().err
        assert "Traceback" in said
        assert said.endswith("error: no tensor matches\n")

    def test_what_files_contain_can_not_control_the_terminal(self, capsys: Output, failing: Fail) -> None:
        failing(PlanError("tensor '\x1b[31mred\x07[bold]x[/bold] :smile:'\nnext"))
        assert main(["--color", "always", "plugins"]) == 1
        said = capsys.readouterr().err
        assert "'\\x1b[31mred\\x07[bold]x[/bold] :smile:' next" in said

    def test_a_bug_keeps_its_traceback_and_asks_to_be_reported(self, capsys: Output, failing: Fail) -> None:
        failing(ZeroDivisionError("oh"))
        assert main(["plugins"]) == 1
        said = capsys.readouterr().err
        assert "ZeroDivisionError: oh" in said
        assert "this is a bug in quantrecipe or in one of its plugins; please report it" in said

    def test_full_disk(self, capsys: Output, failing: Fail) -> None:
        failing(OSError(errno.ENOSPC, "No space left on device", "/out/model.gguf"))
        assert main(["plugins"]) == 1
        assert capsys.readouterr().err == "error: /out/model.gguf: No space left on device\n"

    def test_no_memory(self, capsys: Output, failing: Fail) -> None:
        failing(MemoryError())
        assert main(["plugins"]) == 1
        assert "not enough memory" in capsys.readouterr().err

    def test_ctrl_c(self, capsys: Output, failing: Fail) -> None:
        failing(KeyboardInterrupt())
        assert main(["plugins"]) == 130
        assert capsys.readouterr().err.strip() == "error: stopped"

    def test_sigterm(self, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
        """As often as it comes, it stops once; then the process is as it was."""
        cleaned = []

        def callback() -> None:
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGTERM)
                cleaned.append(True)

        monkeypatch.setattr("quantrecipe.cli.plugins.command", click.Command("plugins", callback=callback))
        assert main(["plugins"]) == 143
        assert capsys.readouterr().err.strip() == "error: stopped by SIGTERM"
        assert cleaned == [True]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    def test_sigterm_is_left_to_who_handles_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        came = []
        command = click.Command("plugins", callback=lambda: signal.raise_signal(signal.SIGTERM))
        monkeypatch.setattr("quantrecipe.cli.plugins.command", command)
        before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
        try:
            assert main(["plugins"]) == 0
        finally:
            signal.signal(signal.SIGTERM, before)
        assert came == [signal.SIGTERM]

    def test_other_threads_can_run_commands(self) -> None:
        with ThreadPoolExecutor() as pool:
            assert pool.submit(main, ["--version"]).result() == 0

    def test_a_pipe_that_closes_is_no_error(self) -> None:
        """`quantrecipe formats --json | head -1`, with a reader that goes before anything is written."""
        read, write = os.pipe()
        os.close(read)
        command = [sys.executable, "-m", "quantrecipe", "formats", "--json"]
        result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
        os.close(write)
        assert result.stderr == b""

    def test_letters_that_the_output_can_not_show(self, tmp_path: Path) -> None:
        name = "モデル.yaml".encode()  # bytes: the tests' own locale may not have these letters
        command = [sys.executable, "-m", "quantrecipe", "check", name]
        env = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
        result = subprocess.run(command, capture_output=True, env=env, cwd=tmp_path, check=False)
        assert result.returncode == 1
        assert b"Traceback" not in result.stderr
        assert b"\\u30e2" in result.stderr


class TestWidth:
    def test_command_lines_that_are_not_understood_are_answered_within_the_terminal(self) -> None:
        shown = show(["nothing-like-it-at-all"], width=60)
        assert shown.status == 2
        assert max(map(len, shown.err.splitlines())) <= 60
        assert "Commands are apply, plan," in " ".join(shown.err.split())
        assert f"Commands are {', '.join(COMMANDS)}." in show(["nothing"], width=None).err

    def test_an_error_is_a_line_in_a_pipe_and_a_path_is_whole_on_a_terminal(self) -> None:
        path = f"{'a folder with blanks/' * 4}model.gguf"
        assert show(["plan", "llama.cpp/Q4_K_M", path], width=None).err.count("\n") == 1
        told = show(["plan", "llama.cpp/Q4_K_M", path], width=60).err
        assert f"error: {path}:" in told
        assert all(len(line) <= 60 for line in told.splitlines() if path not in line)


class TestColor:
    def test_only_where_asked_for(self, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "xterm-256color")
        assert main(["plugins"]) == 0
        assert "\x1b" not in capsys.readouterr().out
        assert main(["--color", "always", "plugins"]) == 0
        assert "\x1b[" in capsys.readouterr().out

    def test_no_color_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_COLOR", "1")
        assert stdout_console("auto").no_color
        assert not stdout_console("always").no_color

    @pytest.mark.parametrize("columns", ["", "80", "nonsense"])
    @pytest.mark.parametrize("colour", ["auto", "always"])
    def test_a_pipe_has_no_width(self, monkeypatch: pytest.MonkeyPatch, columns: str, colour: Color) -> None:
        monkeypatch.setenv("COLUMNS", columns)
        assert stdout_console(colour).width == UNLIMITED
        assert not watched(stdout_console(colour))
