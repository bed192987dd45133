"""`--prompts`: what the files answer beside the reference: as a table, and side by side in a document."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from quantrecipe.cli.errors import printable
from quantrecipe.cli.progress import EvalBar
from quantrecipe.cli.tables import Kind, Paragraph, Table, numbers
from quantrecipe.cli.tables.markup import escaped
from quantrecipe.core.cache import cache_folder, read_cached, write_cached
from quantrecipe.engine import Engine, Session, find_engine
from quantrecipe.evaluate.answers import AnswerFigures, answer_figures, differing, first_difference
from quantrecipe.evaluate.prompts import Answers, Prompt, answer, prompts_key
from quantrecipe.evaluate.requests import model_key
from quantrecipe.evaluate.resampling import Interval
from quantrecipe.plain_data import plain
from quantrecipe.typed import json_object, typed

__all__ = [
    "Answered",
    "Unanswered",
    "answer_first",
    "answer_too",
    "document",
    "find_answers",
    "render_answers",
]

_COUNTED = ("code parses", "calls valid", "loop", "end")
_NOISE_PROMPTS = 32
_NOISE_SIDE_BY_SIDE = 2  # instead of eight: engines multiply so few rows in another way


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """The answers of the reference and of each file, by its name, and their figures.

    source: the prompts' file
    noise:  share of answers of the reference that differ from its own, given with other batches
    """

    prompts: tuple[Prompt, ...]
    source: Path
    reference: Answers
    files: dict[str, Answers]
    noise: Interval

    @property
    def figures(self) -> dict[str, AnswerFigures]:
        """Of each file, by its name."""
        first = next(iter(self.files.values()), None)
        return {
            name: answer_figures(its, self.reference, None if its is first else first)
            for name, its in self.files.items()
        }

    @property
    def of_reference(self) -> AnswerFigures:
        """The reference's own: whether it loops, and how much of its code can be parsed."""
        return answer_figures(self.reference, self.reference)

    def to_json(self) -> dict[str, Any]:
        """What is printed of it; the answers themselves are in the document."""
        return {
            "most_tokens": self.reference.most,
            "noise": self.noise,
            "reference": self.of_reference,
            "files": self.figures,
            "differ_between": {
                name: {other: differing(its, theirs) for other, theirs in self.files.items() if other != name}
                for name, its in self.files.items()
            },
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    """What the cache has of the reference's answers."""

    answers: Answers
    noise: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Unanswered:
    """Prompts that the reference hasn't answered, and where its answers are to be kept."""

    prompts: tuple[Prompt, ...]
    source: Path
    most: int
    place: Path


def find_answers(
    files: Sequence[Path],
    prompts: tuple[Prompt, ...],
    source: Path,
    *,
    most: int,
    engine: Engine | str | Path | None,
) -> Answered | Unanswered:
    """The answers of the reference with these files that the cache has, beside none yet; else where to keep them."""
    key = f"{model_key(files)}-{prompts_key(prompts, most)}-{find_engine(engine).digest}"
    place = cache_folder() / "answers" / f"{key}.json"
    unanswered = Unanswered(prompts=prompts, source=source, most=most, place=place)
    if (data := read_cached(place)) is None:
        return unanswered
    try:
        kept = typed(json_object(data), _Kept)
    except ValueError:  # damaged: made again
        return unanswered
    return Answered(prompts=prompts, source=source, reference=kept.answers, files={}, noise=kept.noise)


def answer_first(wanted: Unanswered, model: Session, *, progress: EvalBar) -> Answered:
    """Have the reference answer, and keep that in the cache."""
    said = answer(
        model,
        wanted.prompts,
        source=wanted.source,
        most=wanted.most,
        progress=progress.task(f"{model.path.name} (reference)", "answers"),
    )
    again = answer(
        model,
        wanted.prompts[:_NOISE_PROMPTS],
        source=wanted.source,
        most=wanted.most,
        like=said,
        side_by_side=_NOISE_SIDE_BY_SIDE,
        progress=progress.task(f"{model.path.name} (again)", "answers"),
    )
    kept = _Kept(answers=said, noise=differing(again, said))
    with suppress(OSError):  # it is a cache: what can't be kept is answered again
        wanted.place.parent.mkdir(parents=True, exist_ok=True)
    write_cached(wanted.place, json.dumps(plain(kept)).encode())
    return Answered(prompts=wanted.prompts, source=wanted.source, reference=said, files={}, noise=kept.noise)


def answer_too(answered: Answered, name: str, model: Session, *, progress: EvalBar) -> Answered:
    """Have a file of this name answer as well."""
    said = answer(
        model,
        answered.prompts,
        source=answered.source,
        most=answered.reference.most,
        like=answered.reference,
        progress=progress.task(name, "answers"),
    )
    return replace(answered, files={**answered.files, name: said})


def render_answers(answered: Answered, names: Sequence[str]) -> list[RenderableType]:
    """A heading, and a table with a row for the reference and each file."""
    figures = answered.figures
    rows = [("the reference", *_row(answered.of_reference, own=True))]
    rows += [(name, *_row(its)) for name, its in zip(names, figures.values(), strict=True)]
    headings = ("from the reference's %", "from the first file's %", "from token", *_COUNTED)
    # What no answer has needs no column.
    shown = [n for n in range(len(headings)) if any(row[n + 1] for row in rows)]
    columns: dict[str, Kind] = {"answers that differ": "name", **numbers(*(headings[n] for n in shown))}
    table = Table(columns, [(row[0], *(row[n + 1] for n in shown)) for row in rows])
    noise = answered.noise
    heading = (
        f"{len(answered.prompts)} prompts, answers of at most {answered.reference.most} tokens; "
        f"with other batches, {100 * noise.value:.0f} % of the reference's own answers differ (noise)"
    )
    return [Paragraph(heading, "dim"), table]


def _row(figures: AnswerFigures, *, own: bool = False) -> tuple[str, ...]:
    place = figures.first_difference
    return (
        "" if own else _share(figures.differ),
        "" if figures.differ_from_first is None else _share(figures.differ_from_first),
        "" if place is None else f"{place:.0f}",
        f"{figures.code_parsed} of {figures.code_blocks}" if figures.code_blocks else "",
        f"{figures.calls_valid} of {figures.calls}" if figures.calls else "",
        str(figures.loops),
        str(figures.ended),
    )


def _share(interval: Interval) -> str:
    low, high = interval.known or (0.0, 1.0)
    return f"{100 * interval.value:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def document(answered: Answered, kind: str) -> str:
    """All answers side by side, as Markdown, HTML or JSON."""
    match kind:
        case ".json":
            return json.dumps(plain(_documented(answered)), indent=2, ensure_ascii=False) + "\n"
        case ".html":
            return _html(answered)
    return _markdown(answered)


def _documented(answered: Answered) -> dict[str, Any]:
    def told(answers: Answers, number: int) -> dict[str, Any]:
        tokens = answers.tokens[number]
        return {
            "text": answers.texts[number],
            "tokens": tokens,
            "ended": len(tokens) < answers.most,
            "first_difference": first_difference(tokens, answered.reference.tokens[number]),
        }

    return answered.to_json() | {
        "answers": [
            {
                "line": prompt.line,
                "prompt": prompt.text,
                "reference": told(answered.reference, number),
                "files": {name: told(its, number) for name, its in answered.files.items()},
            }
            for number, prompt in enumerate(answered.prompts)
        ]
    }


def _sides(answered: Answered, number: int) -> list[tuple[str, str, str, int | None]]:
    """Of each answer to a prompt who gives it, its text as far as it is the reference's, the rest, and the token."""
    reference, own = answered.reference.texts[number], answered.reference.tokens[number]
    sides: list[tuple[str, str, str, int | None]] = [("the reference", reference, "", None)]
    for name, its in answered.files.items():
        text, place = its.texts[number], first_difference(its.tokens[number], own)
        differs = first_difference(text, reference)
        alike = len(text) if differs is None else differs
        sides.append((name, text[:alike], text[alike:], place))
    return sides


def _markdown(answered: Answered) -> str:
    lines = ["# Answers side by side", ""]
    for number, prompt in enumerate(answered.prompts):
        lines += [f"## Prompt of line {prompt.line}", "", *_fenced(prompt.text), ""]
        for name, alike, rest, place in _sides(answered, number):
            said = "" if name == "the reference" else ": the same"
            if place is not None:
                said = f": differs from token {place} on"
            lines.append(f"**{escaped(name)}**{said}")
            lines += ["", *(_fenced(alike + rest) if place is not None or not said else []), ""]
    return "\n".join(lines)


def _fenced(text: str) -> list[str]:
    """A text as a block of code that no fence within it ends."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [fence, *(printable(line) for line in text.split("\n")), fence]


_STYLE = (
    "body{font:14px/1.4 system-ui,sans-serif;margin:2em}table{border-collapse:collapse;width:100%;table-layout:fixed}"
    "td,th{border:1px solid #ccc;padding:.4em;vertical-align:top;text-align:left}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0}mark{background:#ffd9b3}.same{color:#777}"
)


def _html(answered: Answered) -> str:
    names = ["the reference", *answered.files]
    head = "".join(f"<th>{html.escape(printable(name))}</th>" for name in names)
    lines = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Answers side by side</title>',
        f"<style>{_STYLE}</style></head><body><h1>Answers side by side</h1>",
    ]
    for number, prompt in enumerate(answered.prompts):
        lines.append(f"<h2>Prompt of line {prompt.line}</h2><pre>{html.escape(prompt.text)}</pre>")
        cells = []
        for name, alike, rest, place in _sides(answered, number):
            style = ' class="same"' if place is None and name != "the reference" else ""
            cells.append(f"<td{style}><pre>{html.escape(alike)}<mark>{html.escape(rest)}</mark></pre></td>")
        lines.append(f"<table><tr>{head}</tr><tr>{''.join(cells)}</tr></table>")
    return "\n".join([*lines, "</body></html>", ""])
