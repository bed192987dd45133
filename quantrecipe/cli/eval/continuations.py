"""`--continuations`: for how long each file goes on with the texts as the reference does, as a table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from quantrecipe.cli.eval.extras import keep_value, kept_value
from quantrecipe.cli.eval.reference import Unmade
from quantrecipe.cli.progress import EvalBar
from quantrecipe.cli.tables import Kind, Paragraph, Table, numbers
from quantrecipe.engine import Engine, Session, find_engine
from quantrecipe.evaluate import Reference
from quantrecipe.evaluate.continuations import (
    LENGTHS,
    ContinuationFigures,
    Continuations,
    continuation_figures,
    continue_texts,
    places_of,
)
from quantrecipe.evaluate.resampling import Interval

__all__ = ["Continued", "find_continuations"]

_FOLDER = "continuations"


@dataclass(frozen=True, kw_only=True, slots=True)
class Continued:
    """The continuations of the reference and of each file, by its name. place: their key in the cache"""

    count: int
    place: str
    reference: Continuations | None
    files: dict[str, Continuations] = field(default_factory=dict)
    key: str = "continuations"

    @property
    def missing(self) -> bool:
        """True where the reference hasn't gone on."""
        return self.reference is None

    def first(self, session: Session, reference: Reference, progress: EvalBar) -> Continued:
        """Have the reference go on, and keep that."""
        told = progress.task(f"{session.path.name} (reference)", "continuations")
        said = continue_texts(session, reference, places_of(reference, self.count), progress=told)
        keep_value(_FOLDER, self.place, said)
        return replace(self, reference=said)

    def too(self, name: str, session: Session, reference: Reference, progress: EvalBar) -> Continued:
        """Have a file go on at the same places."""
        places = () if self.reference is None else self.reference.places
        said = continue_texts(session, reference, places, progress=progress.task(name, "continuations"))
        return replace(self, files={**self.files, name: said})

    @property
    def figures(self) -> dict[str, ContinuationFigures]:
        """Of each file, by its name."""
        if self.reference is None:
            return {}
        first = next(iter(self.files.values()), None)
        return {
            name: continuation_figures(its, self.reference, None if its is first else first)
            for name, its in self.files.items()
        }

    def render(self, names: list[str]) -> list[RenderableType]:
        """A heading, and a table with a row for each file."""
        places = 0 if self.reference is None else len(self.reference.places)
        heading = (
            f"{places} continuations of the texts, {LENGTHS[-1]} tokens each, beside the reference's; until: tokens "
            "before the first that differs, the mean and its 95 %"
        )
        rows = []
        for name, figures in zip(names, self.figures.values(), strict=True):
            cells = []
            for its in figures.agreement:
                cells += [_percent(its.same), _percent(its.whole)]
            until = figures.agreement[-1].until
            beside = "" if figures.beside is None else _signed(figures.beside)
            rows.append((name, *cells, _spread(until), beside))
        headings = [f"{what} {length} %" for length in LENGTHS for what in ("same of", "whole")]
        columns: dict[str, Kind] = {
            "continuations": "name",
            **numbers(*headings, "until", "beside the first"),
        }
        return [Paragraph(heading, "dim"), Table(columns, rows)]

    def to_json(self) -> dict[str, Any]:
        """What is printed of it."""
        places = () if self.reference is None else self.reference.places
        return {"places": len(places), "files": self.figures}


def find_continuations(
    count: int, reference: Reference | Unmade, *, engine: Engine | str | Path | None
) -> Continued:
    """What the cache has of the reference's, which is as of its texts; else they have to be made."""
    place = f"{reference.key}-{count}-{find_engine(engine).digest}"
    return Continued(count=count, place=place, reference=kept_value(_FOLDER, place, Continuations))


def _percent(interval: Interval) -> str:
    return f"{100 * interval.value:.1f}"


def _spread(interval: Interval) -> str:
    if interval.known is None:
        return f"{interval.value:.1f}"
    low, high = interval.known
    return f"{interval.value:.1f} ({max(0.0, low):.1f} to {high:.1f})"


def _signed(interval: Interval) -> str:
    ends = "" if interval.known is None else f" ({interval.known[0]:+.1f} to {interval.known[1]:+.1f})"
    return f"{interval.value:+.1f}{ends}"
