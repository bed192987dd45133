"""`--questions`: what the files get right beside the reference, as a table, and in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import RenderableType

from quantrecipe.cli.errors import printable
from quantrecipe.cli.eval.extras import Extra, kept_value
from quantrecipe.cli.tables import Kind, Paragraph, Table, numbers
from quantrecipe.engine import Engine, Session, find_engine
from quantrecipe.evaluate import Reference
from quantrecipe.evaluate.pairs import PairedShare
from quantrecipe.evaluate.questions import (
    Asked,
    Question,
    QuestionFigures,
    ask,
    question_figures,
    questions_key,
)
from quantrecipe.evaluate.requests import model_key
from quantrecipe.evaluate.resampling import Interval

__all__ = ["Questioned", "find_questioned"]

_KINDS = {"choices": "choices", "answer": "answers", "pattern": "patterns"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Questioned(Extra[Asked, QuestionFigures]):
    """What the reference and each file answer. source: the questions' file; most: tokens of an answer"""

    key: ClassVar[str] = "questions"

    questions: tuple[Question, ...]
    source: Path
    most: int

    def done(self, session: Session, reference: Reference, progress: Callable[[int, int], None]) -> Asked:
        """Answer them."""
        return ask(session, self.questions, source=self.source, most=self.most, progress=progress)

    def compared(self, said: Asked, reference: Asked, first: Asked | None) -> QuestionFigures:
        """See `Extra`."""
        return question_figures(said, self.questions, reference, first)

    @property
    def of_reference(self) -> QuestionFigures | None:
        """The reference's own."""
        return None if self.reference is None else question_figures(self.reference, self.questions)

    def render(self, names: list[str]) -> list[RenderableType]:
        """A heading, a table with a row for the reference and each file, and what differs for certain."""
        kinds = list(dict.fromkeys(question.kind for question in self.questions))
        parts = {kind: f"{_KINDS[kind]} %" for kind in kinds} if len(kinds) > 1 else {}
        rows = []
        own = self.of_reference
        told = [("the reference", own)] if own is not None else []
        told += zip(names, self.figures.values(), strict=True)
        for name, its in told:
            beside = its.beside_reference
            rows.append(
                (
                    name,
                    _share(its.right),
                    *(f"{100 * its.kinds[kind].value:.1f}" for kind in parts),
                    "" if beside is None else str(beside.lost),
                    "" if beside is None else str(beside.gained),
                    "" if beside is None else _points(beside),
                    "" if its.beside_first is None else _points(its.beside_first),
                )
            )
        headings = (*parts.values(), "lost", "gained", "points", "against the first")
        columns: dict[str, Kind] = {"questions": "name", "right %": "number", **numbers(*headings)}
        heading = (
            f"{len(self.questions)} questions of {printable(self.source.name)}; lost, gained: of what the reference "
            "has right; points: the change of the share, with its 95 %"
        )
        said = [Paragraph(text) for name, its in told for text in _words(name, its)]
        return [Paragraph(heading, "dim"), Table(columns, rows), *said]

    def to_json(self) -> dict[str, Any]:
        """What is printed of it."""
        return {"questions": len(self.questions), "reference": self.of_reference, "files": self.figures}


def find_questioned(
    files: Sequence[Path],
    questions: tuple[Question, ...],
    source: Path,
    *,
    most: int,
    engine: Engine | str | Path | None,
) -> Questioned:
    """The reference's answers that the cache has; else they have to be asked for. files: of the reference"""
    place = f"{model_key(files)}-{questions_key(questions, most)}-{find_engine(engine).digest}"
    kept = kept_value(Questioned.key, place, Asked)
    return Questioned(questions=questions, source=source, most=most, place=place, reference=kept)


def _words(name: str, its: QuestionFigures) -> list[str]:
    """What can be said of a file beside the reference and the first file."""
    found = []
    for other, pair in (("the reference", its.beside_reference), ("the first file", its.beside_first)):
        if pair is None:
            continue
        low, high = pair.change.known or (0.0, 0.0)
        said = "surely fewer" if high < 0 else "surely more" if low > 0 else ""
        if said:
            found.append(f"{printable(name)} has {said} right than {other} (p = {pair.p:.2g}, McNemar).")
    return found


def _share(interval: Interval) -> str:
    low, high = interval.known or (0.0, 1.0)
    return f"{100 * interval.value:.1f} ({100 * low:.0f} to {100 * high:.0f})"


def _points(pair: PairedShare) -> str:
    low, high = pair.change.known or (0.0, 0.0)
    return f"{100 * pair.change.value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
