"""Every error that quantrecipe raises on purpose.

    QuantrecipeError
      ├─ RecipeError          a recipe can't be read, or says what can't be done; holds every problem found
      ├─ ModelError           a model file is damaged, lies about itself, or isn't understood
      │    └─ UnknownArchitectureError  only llama.cpp's own converter may know it
      ├─ ImportanceError      an importance matrix can't be read, or doesn't fit the model
      ├─ PlanError            recipe and model don't go together
      ├─ FormatError          rows or bytes that a format can't encode or decode
      │    └─ NonFiniteError  NaN or Inf among the weights
      ├─ PluginError          a plugin is missing, broken, or collides with another
      ├─ EvaluationError      a model can't be evaluated: no llama.cpp, another vocabulary, too short a text
      │    └─ TextError      a text can't be read, or isn't one; a chat can't be rendered
      ├─ SensitivityError     losses or sensitivities can't be measured or read, or are of another model
      ├─ SignatureError       files can't be signed, or aren't what somebody signed
      └─ OutputError          the file can't be written: exists, disk full, read-only

An error speaks to the person who mends the file: where, what, what was expected, what to do.
A bug in quantrecipe itself is any other exception, and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = [
    "EvaluationError",
    "FormatError",
    "ImportanceError",
    "ModelError",
    "NonFiniteError",
    "OutputError",
    "PlanError",
    "PluginError",
    "Problem",
    "QuantrecipeError",
    "RecipeError",
    "SensitivityError",
    "SignatureError",
    "TextError",
    "UnknownArchitectureError",
    "abridged",
]

_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong: `file:line: what (expected …); remedy`.

    `line` and `column` count from 1; `file` is None where no file is at fault. `code` is the one under which
    `quantrecipe check` reports it (docs/check.md), "" for its general one. `choices`, where there are several remedies,
    stand below it, a line each, so that what is to be typed can be copied.
    """

    what: str
    remedy: str = ""
    file: str | Path | None = None
    line: int | None = None
    column: int | None = None
    code: str = ""
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = "" if self.file is None else f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        said = f"{where}{self.what}{'; ' + self.remedy if self.remedy else ''}"
        return "\n  ".join([said, *self.choices])


def abridged(problems: Sequence[Problem]) -> Sequence[Problem]:
    """The first few of many problems of one kind, and how many more there are.

    One cause often has a problem for each layer: a missing shard lacks the same tensors of all of them.
    """
    more = len(problems) - _SHOWN
    if more <= 0:
        return problems
    return [*problems[:_SHOWN], Problem(what=f"… and {more} more like these", file=problems[0].file)]


class QuantrecipeError(Exception):
    """Base of all; `problems` holds every problem found, in the order in which they stand in the file."""

    def __init__(
        self,
        what: str | Iterable[Problem],
        remedy: str = "",
        *,
        file: str | Path | None = None,
        line: int | None = None,
    ) -> None:
        if isinstance(what, str):
            what = [Problem(what=what, remedy=remedy, file=file, line=line)]
        self.problems: tuple[Problem, ...] = tuple(what)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def at(self, file: str | Path | None, line: int | None = None) -> list[Problem]:
        """Its problems; those that have no place get this one, of a part that doesn't know where it stands."""
        return [it if it.file is not None else replace(it, file=file, line=line) for it in self.problems]


class RecipeError(QuantrecipeError):
    """A recipe can't be read, or says what can't be done."""


class ModelError(QuantrecipeError):
    """A model file is damaged, lies about itself, or isn't understood."""


class UnknownArchitectureError(ModelError):
    """quantrecipe itself can't convert this architecture, or this part of it; llama.cpp's converter may."""


class ImportanceError(QuantrecipeError):
    """An importance matrix can't be read, or doesn't fit the model."""


class PlanError(QuantrecipeError):
    """Recipe and model don't go together."""


class FormatError(QuantrecipeError):
    """Rows or bytes that a format can't encode or decode."""


class NonFiniteError(FormatError):
    """NaN or Inf among the weights."""


class PluginError(QuantrecipeError):
    """A plugin is missing, broken, or collides with another."""


class EvaluationError(QuantrecipeError):
    """A model can't be evaluated: no llama.cpp, another vocabulary, too short a text."""


class TextError(EvaluationError):
    """A text can't be read, or isn't one; a chat can't be rendered."""


class SensitivityError(QuantrecipeError):
    """Losses or sensitivities can't be measured or read, or are of another model."""


class SignatureError(QuantrecipeError):
    """Files can't be signed, or aren't what somebody signed."""


class OutputError(QuantrecipeError):
    """The file can't be written."""
