"""Errors as a person reads them: one paragraph for each problem, on stderr, no traceback.

    error: recipes/code-model.yaml:14: there is no format 'Q4K'; did you mean Q4_K?

Text from files is shown as text: nothing in a tensor's name or a recipe colours the terminal or moves its cursor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING

from quantrecipe.errors import Problem, QuantrecipeError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "print_error",
    "print_note",
    "print_problems",
    "print_renamed",
    "print_warning",
    "printable",
    "worded",
]

_WORDS: ContextVar[Callable[[Problem], Problem] | None] = ContextVar("words", default=None)


@contextmanager
def worded(words: Callable[[Problem], Problem]) -> Iterator[None]:
    """Within it, what `words` makes of a problem, a warning or a note is printed: for commands whose users know other
    names for what messages speak of.
    """
    token = _WORDS.set(words)
    try:
        yield
    finally:
        _WORDS.reset(token)


def printable(text: str) -> str:
    """The text on one line, with control characters spelt out: an escape becomes `\\x1b`."""
    text = " ".join(text.split("\n"))
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def print_problems(console: Console, error: QuantrecipeError) -> None:
    """Prints every problem of an error, one after the other."""
    for problem in error.problems:
        _print(console, "error: ", "bold red", problem)


def print_warning(console: Console, what: str, remedy: str = "") -> None:
    """Prints a warning in the form of an error."""
    _print(console, "warning: ", "bold yellow", Problem(what=what, remedy=remedy))


def print_note(console: Console, note: Problem) -> None:
    """Prints what was understood, where that isn't plain."""
    _print(console, "note: ", "bold cyan", note)


def print_renamed(console: Console, old: str, new: str) -> None:
    """Prints a note where somebody used a name that will be gone one day."""
    print_note(
        console,
        Problem(what=f"`{old}` is called `{new}` now", remedy="the old name works for one more version"),
    )


def print_error(error: QuantrecipeError | str, remedy: str = "") -> None:
    """Prints an error where no command has made a console yet."""
    from quantrecipe.cli.context import stderr_console

    if isinstance(error, str):
        error = QuantrecipeError(error, remedy)
    print_problems(stderr_console("auto"), error)


def _print(console: Console, label: str, style: str, problem: Problem) -> None:
    from rich.text import Text

    from quantrecipe.cli.tables import Paragraph

    if (words := _WORDS.get()) is not None:
        problem = words(problem)
    where, what = _split(problem)
    text = Text.assemble((label, style), (printable(where), "bold"), printable(what))
    console.print(Paragraph(text, whole=printable(where).strip()))
    for choice in problem.choices:  # never broken by us: it is a line to copy
        console.print(Text(f"  {printable(choice)}"), soft_wrap=True)


def _split(problem: Problem) -> tuple[str, str]:
    """The place of a problem, which is shown bold, and the rest."""
    whole = str(replace(problem, choices=()))
    rest = str(Problem(what=problem.what, remedy=problem.remedy))
    return whole.removesuffix(rest), rest
