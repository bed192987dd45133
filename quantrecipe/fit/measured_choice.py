"""measured_choice: a search in a model that is opened for it, whose evaluations stay in a file beside the model.

What was evaluated is never evaluated again, whatever budget it was for: the file has it by all that it depends on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate import Text
from quantrecipe.fit.fit import Fitted
from quantrecipe.fit.reach import Goal, reach
from quantrecipe.fit.search import search
from quantrecipe.fit.tried import Effort
from quantrecipe.measure.journal import Journal
from quantrecipe.measure.measurement import Subject
from quantrecipe.measure.mixed import Mixed
from quantrecipe.measure.passes import Passes
from quantrecipe.measure.prober import Prober
from quantrecipe.measure.progress import Progress
from quantrecipe.plan.plan import Plan
from quantrecipe.sensitivity.sensitivity import Sensitivity

__all__ = ["Evaluations", "evaluations", "measured_choice", "require_length", "require_other_text"]

_FEWEST_BYTES = 10 * 512
"""A token has at least a byte: what has fewer can't have ten chunks."""


class Evaluations:
    """What mixes do, by a prober; progress hears how many there were. Errors say where those are kept: in `out`."""

    def __init__(self, prober: Prober, progress: Progress, most: int, out: Path) -> None:
        self._prober, self._progress, self._most, self._out = prober, progress, most, out
        self.count = 0

    def __call__(self, plan: Plan, what: str) -> Mixed:
        return self._found(lambda: self._prober.mix(plan, what))

    @property
    def expect(self) -> Callable[[Iterable[tuple[Plan, str]]], None] | None:
        """`Prober.expect_mixes`, where several can be evaluated at the same time."""
        return self._prober.expect_mixes if self._prober.expects else None

    def at_once(self) -> int:
        """How many these are: 1 without an executor."""
        return self._prober.at_once

    def unchanged(self) -> Mixed:
        """What is said when nothing is quantized."""
        return self._found(lambda: self._prober.mix(None, "the model itself"))

    def _found(self, ask: Callable[[], Mixed]) -> Mixed:
        self._progress.total(min(1.0, self.count / max(1, self._most)))
        try:
            found = ask()
        except EvaluationError as error:
            if not self.count:
                raise
            first, *others = error.problems
            remedy = f"what was evaluated is kept in {self._out}; the same command goes on from there"
            remedy = f"{first.remedy}; {remedy}" if first.remedy else remedy
            raise EvaluationError([replace(first, remedy=remedy), *others]) from error
        self.count += 1
        return found


def require_other_text(search_texts: Sequence[Text], held_out: Sequence[Text]) -> None:
    """EvaluationError where the held-out text is one that mixes are chosen by, or is a part of one."""
    for held in held_out:
        for text in search_texts:
            if held.digest == text.digest or held.data.strip() in text.data or text.data.strip() in held.data:
                raise EvaluationError(
                    f"{held.name} of --verify is in {text.name} of --text, by which mixes are chosen",
                    "give --verify a text that nothing else saw",
                )


def require_length(texts: Sequence[Text], option: str) -> None:
    """EvaluationError for texts that can't tell two mixes apart, whatever their tokens are."""
    if sum(len(text.data) for text in texts) < _FEWEST_BYTES:
        names = ", ".join(text.name for text in texts)
        what = (
            f"{names} of {option} is too short for ten chunks of 512 tokens, and fewer can't tell mixes apart"
        )
        raise EvaluationError(what, "give more text; a hundred chunks are better")


@contextmanager
def evaluations(
    subject: Subject,
    passes: Passes,
    digests: Mapping[str, str],
    *,
    out: Path,
    work: Path,
    progress: Progress,
    most: int,
) -> Iterator[Evaluations]:
    """What evaluates mixes on the text of the passes.

    digests: of the content of the tensors, by name
    out:     file in which evaluations are kept
    EvaluationError where the engine dies; it says how to go on.
    """
    progress.stage("mixes")
    with (
        Journal(out, {}, stays=True) as journal,
        Prober(
            subject.model,
            subject.registry,
            subject.importance,
            passes,
            digests=digests,
            folder=work,
            known={},
            save=lambda probe: None,
            progress=progress,
            known_mixes={found.key: found for found in journal.mixes},
            save_mix=journal.add_mix,
        ) as prober,
    ):
        yield Evaluations(prober, progress, most, out)


def measured_choice(
    fitted: Fitted,
    subject: Subject,
    passes: Passes,
    effort: Effort,
    *,
    sensitivity: Sensitivity,
    out: Path,
    work: Path,
    progress: Progress,
    goal: Goal | None = None,
) -> Fitted:
    """The best mix that was found on the text of the passes: see `search`, and `evaluations` for the rest.

    With a goal, the smallest that stays within it: see `reach`.
    """
    digests = {tensor.name: tensor.digest for tensor in sensitivity.tensors.values()}
    effort = replace(effort, clock=time.monotonic)
    with evaluations(
        subject, passes, digests, out=out, work=work, progress=progress, most=effort.evaluations
    ) as evaluate:
        names = ", ".join(text.name for text in passes.texts)
        if goal is not None:
            return reach(
                fitted,
                goal,
                evaluate,
                evaluate.unchanged,
                effort,
                text=names,
                sensitivity=sensitivity,
                expect=evaluate.expect,
                at_once=evaluate.at_once,
            )
        return search(fitted, evaluate, effort, text=names, sensitivity=sensitivity, expect=evaluate.expect)
