"""`--continuations`: for how long each file goes on with the texts as the reference does, as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import RenderableType

from quantrecipe.cli.eval.extras import Extra, kept_value
from quantrecipe.cli.eval.reference import Unmade
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Continued(Extra[Continuations, ContinuationFigures]):
    """The continuations of the reference and of each file. count: how many"""

    key: ClassVar[str] = "continuations"

    count: int

    def done(
        self, session: Session, reference: Reference, progress: Callable[[int, int], None]
    ) -> Continuations:
        """Go on, at the places of the reference where it has done so."""
        places = places_of(reference, self.count) if self.reference is None else self.reference.places
        return continue_texts(session, reference, places, progress=progress)

    def compared(
        self, said: Continuations, reference: Continuations, first: Continuations | None
    ) -> ContinuationFigures:
        """See `Extra`."""
        return continuation_figures(said, reference, first)

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
    return Continued(count=count, place=place, reference=kept_value(Continued.key, place, Continuations))


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
