"""What a script says: words with the lines that they stand in, and calls of programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from quantrecipe.errors import Problem, RecipeError

__all__ = ["NOT_A_MIX", "Call", "Dialect", "Script", "Word", "program_at", "unclosed"]

Dialect = Literal["sh", "cmd", "powershell"]

_PROGRAMS = frozenset({"llama-quantize", "quantize"})
_WRAPPERS = frozenset(
    {
        "!", "&", "call", "caffeinate", "command", "conda", "docker", "env", "exec", "gdb", "ionice", "mpirun", "nice",
        "nohup", "numactl", "perf", "podman", "run", "setsid", "srun", "start", "start-process", "stdbuf", "strace",
        "sudo", "systemd-run", "taskset", "time", "timeout", "unbuffer", "uv", "valgrind", "winpty", "wsl",
    }
)  # fmt: skip
"""Programs that run the program that stands behind their options."""

_ABOUT_FILES = frozenset(
    {
        "cat",
        "chmod",
        "cmake",
        "cp",
        "du",
        "file",
        "install",
        "ldd",
        "ln",
        "ls",
        "make",
        "mv",
        "ninja",
        "rm",
        "which",
    }
)
"""Programs that may name llama-quantize, and don't run it, though `sudo` stands before them."""

NOT_A_MIX = frozenset(
    {
        ":", ".", "[", "[[", "alias", "break", "cd", "chcp", "clear", "cls", "continue", "declare", "echo", "exit",
        "export", "false", "free", "get-childitem", "hash", "local", "ls", "dir", "mkdir", "pause", "popd", "printf",
        "pushd", "pwd", "read", "readonly", "return", "set", "set-location", "setlocal", "endlocal", "shift", "shopt",
        "sleep", "test", "time", "timeout", "title", "trap", "true", "type", "ulimit", "umask", "unset", "wait",
        "which", "where", "write-host", "write-output", "nvidia-smi", "date", "df", "du", "nproc", "source", "typeset",
        "new-item",
    }
)  # fmt: skip
"""Commands that change nothing in a model's file, so that nothing is lost without them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A word of a command, quotes removed and variables filled in.

    missing: the variables and substitutions in it whose values the script doesn't say; they stay in `text` as written
    """

    text: str
    line: int
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A call of llama-quantize: its arguments, without its name.

    cut: why the arguments end where they end, where that is hardly what was meant; "" elsewhere
    """

    words: tuple[Word, ...]
    line: int
    cut: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """The calls of a script, in the order in which they would run.

    evidence: what showed the dialect, for whoever wonders
    others:   names of other programs that it runs, with their lines
    texts:    by name, the values of its variables when it ends
    notes:    texts of several lines, as they were assigned, with the line that each begins in: their comments say why
    files:    by path, what it writes into files, as far as that is known
    """

    dialect: Dialect = "sh"
    evidence: str = ""
    calls: tuple[Call, ...] = ()
    others: tuple[tuple[str, int], ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[tuple[int, str], ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


def program_at(words: tuple[Word, ...]) -> int | None:
    """The place of llama-quantize's name among the words of a command; None where it runs something else."""
    for place, word in enumerate(words):
        name = program_name(word.text)
        if name in _PROGRAMS:
            return place
        if (place == 0 and name not in _WRAPPERS and "=" not in word.text) or name in _ABOUT_FILES:
            return None
        if word.text in ("--quantize", "-q") and "llama.cpp" in words[place - 1].text:
            return place  # llama.cpp's image `full` runs llama-quantize so
    return None


def program_name(text: str) -> str:
    """`C:\\bin\\llama-quantize.exe`, `./build/bin/llama-quantize` → llama-quantize."""
    name = text.replace("\\", "/").rpartition("/")[2].lower()
    return name.removesuffix(".exe")


def unclosed(what: str, line: int, file: str) -> RecipeError:
    """The error of a text that ends within quotes or brackets."""
    return RecipeError(
        [Problem(what=f"{what} is opened here and never closed", remedy="close it", file=file, line=line)]
    )
