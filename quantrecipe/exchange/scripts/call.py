"""What a script says: words with the lines that they stand in, and calls of programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from quantrecipe.errors import Problem, RecipeError

__all__ = [
    "DEEPEST",
    "NOT_A_MIX",
    "Call",
    "Cursor",
    "Dialect",
    "Follower",
    "Script",
    "Word",
    "program_name",
    "unclosed",
]

Dialect = Literal["sh", "cmd", "powershell"]

DEEPEST = 30
"""Blocks within blocks, functions that call functions, and values that need values."""
_MOST_STEPS = 20_000
_MOST_WORDS = 100_000  # of all commands, each as often as it is followed: the longest have some thousand
"""Commands that are followed, each round of a loop anew; scripts of releases have some hundred."""

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
        "cat", "chmod", "cmake", "cp", "du", "file", "install", "ldd", "ln", "ls", "make", "mv", "ninja", "rm", "which",
    }
)  # fmt: skip
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


class Cursor:
    """A place in the text of a script, and the line that it is in."""

    def __init__(self, text: str, line: int, at: int = 0) -> None:
        self._text = text
        self._line = line
        self._at = at

    def _move(self, to: int) -> None:
        self._line += self._text.count("\n", self._at, to)
        self._at = to

    def _to(self, end: str, behind: int = 0) -> None:
        """Go to the next `end`, or so far behind its beginning; to the end of the text if there is none."""
        found = self._text.find(end, self._at)
        self._move(len(self._text) if found < 0 else found + behind)


class Follower:
    """Follows a script of some shell without running it: what it has met so far, and how far it may go."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.calls: list[Call] = []
        self.others: list[tuple[str, int]] = []
        self.notes: list[tuple[int, str]] = []
        self.branches = 0  # how many conditions we are in: what is set there may not be set
        self.steps = self.words = 0
        self.depth = 0

    def step(self, words: int = 0) -> None:
        """Count a command, or words of one. RecipeError if there are too many."""
        self.steps += not words
        self.words += words
        if self.steps > _MOST_STEPS or self.words > _MOST_WORDS:
            raise RecipeError(
                "is too long to follow: its loops repeat too much", "write the command out", file=self.file
            )

    @contextmanager
    def deeper(self, what: str = "blocks") -> Iterator[None]:
        """Within this context, blocks are one deeper. RecipeError if they go too deep."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise RecipeError(f"{what} that go too deep", "write the command out", file=self.file)
        yield
        self.depth -= 1

    def takes_call(self, words: Sequence[Word], cut: str) -> bool:
        """Note a command if it runs llama-quantize, and say whether it does."""
        at = program_at(words)
        if at is not None:
            self.calls.append(Call(words=tuple(words[at + 1 :]), line=words[at].line, cut=cut))
        return at is not None

    def script(
        self, dialect: Dialect, texts: Mapping[str, str], files: Mapping[str, str] | None = None
    ) -> Script:
        """Return all that was met, when the script has ended."""
        return Script(
            dialect=dialect,
            calls=tuple(self.calls),
            others=tuple(self.others),
            texts=texts,
            notes=tuple(self.notes),
            files=files or {},
        )


def program_at(words: Sequence[Word]) -> int | None:
    """Return the place of llama-quantize's name in a command; None if the command runs something else."""
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
    """Return the error of a text that ends within quotes or brackets."""
    return RecipeError(
        [Problem(what=f"{what} is opened here and never closed", remedy="close it", file=file, line=line)]
    )
