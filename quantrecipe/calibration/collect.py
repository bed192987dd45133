"""collect: the sums of all groups, added up in their order; looked at now and then, and saved, so that a run goes on.

Where the sums of a group come from is nothing to it: a session's process has the model open and runs one group after
the other (`collect`), or the workers of an executor do (`by_executor`). The sums are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from quantrecipe.calibration.collector import Collector, GroupSums, Learned, NotFiniteError, Total, not_finite
from quantrecipe.calibration.sums import DAMAGED, InputSums, SumsFile, write_sums
from quantrecipe.engine.first_tokens import first_tokens
from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.engine.session import Tell
from quantrecipe.errors import EvaluationError
from quantrecipe.texts.documents import Rendered

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tokens = NDArray[np.int32]

__all__ = [
    "Another",
    "Change",
    "Collected",
    "Filling",
    "Group",
    "Ran",
    "Refill",
    "Saved",
    "Unusable",
    "Work",
    "WorkerNote",
    "collect",
    "collect_parts",
    "fill_experts",
    "fill_parts",
    "sums_of",
    "tokenize",
]

Parts: TypeAlias = "Callable[[int], Generator[GroupSums]]"
"""What gives the sums of each group, in their order, from the group with this number on."""

_GROWTH = 1.25  # of the tokens between two looks at how much the sums still change
_FIRST_LOOK = 2000  # tokens
_SMALLEST_SHARE = 20  # a save may take a twentieth of the time


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Chunks that run together, and what each of their tokens counts.

    chunks: int32 (n, n_ctx)
    domain: which they are of, from 0
    """

    chunks: Tokens
    domain: int
    weight: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What is to be run, and where its sums go.

    output:     look at the output matrix, too
    embeddings: and at what is looked up in the token embeddings
    until:      the change at which it is enough, as a share; None to run all
    experts:    tokens that every expert is to have before it is enough
    path:       of the file of sums; saved every `every` seconds, and at the end
    about:      what the run was told: a file that says something else isn't gone on from
    """

    groups: tuple[Group, ...]
    output: bool
    embeddings: bool
    until: float | None
    experts: int
    path: Path
    every: float
    about: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Refill:
    """Told before experts that lack tokens get a pass of their own: the tokens of that pass."""

    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """Told after each group: how many are done, and the tokens of these."""

    groups: int
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Told at each look: how much importance moved among the columns of a weight since there were a fifth fewer tokens.

    share: of the 95th percentile of all weights; worst: the weight where most moved, and how much
    tokens: how many there were by then
    """

    share: float
    worst: str
    most: float
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """Told when sums were saved, or when a run goes on from saved ones."""

    groups: int
    tokens: int
    resumed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Another:
    """Told when the file of sums is of another run, which had read so many tokens: the first save replaces it."""

    path: Path
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Unusable:
    """Told when the file of sums can't be read: no crash leaves one like that. The first save replaces it."""

    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerNote:
    """Told of an executor's workers what a user should know, and what doesn't end the run."""

    what: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """How a run ended: groups that were run, their tokens, the last look, and whether that was enough."""

    groups: int
    tokens: int
    change: Change | None
    enough: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Filling:
    """Experts that too few tokens reached are to get what all tokens give, by a model that uses all its experts.

    path:  of the file of sums
    least: tokens; an expert that has fewer gets new sums in the place of its own
    """

    groups: tuple[Group, ...]
    path: Path
    least: int


def tokenize(
    model: LanguageModel, documents: Sequence[Rendered], most: int | None = None, *, tell: Tell
) -> list[Tokens]:
    """The tokens of each document, until there are `most` of them together.

    tell: how many documents are done, now and then
    """
    found: list[Tokens] = []
    left = most
    for number, document in enumerate(documents):
        if left is not None and left <= 0:
            break
        found.append(first_tokens(model, document.data, left, special=document.special))
        left = None if left is None else left - len(found[-1])
        if number % 256 == 255:
            tell(number + 1)
    return found


def collect(model: LanguageModel, work: Work, *, tell: Tell) -> Collected:
    """Run what isn't done yet, and leave the sums in the file. EvaluationError for inputs that are NaN or Inf.

    tell: hears `Another`, `Unusable`, `Saved`, `Ran`, `Change`
    """
    collector = Collector(model.n_vocab, output=work.output, embeddings=work.embeddings)
    return collect_parts(work, lambda first: _parts(model, collector, work.groups, first), tell)


def collect_parts(work: Work, parts: Parts, tell: Tell) -> Collected:
    """The same, with sums from anywhere."""
    run = _Run(work, tell)
    run.resume()
    return run.to_the_end(parts)


def fill_experts(model: LanguageModel, filling: Filling, *, tell: Tell) -> int:
    """Run the groups for the experts that lack tokens, and put what they see into the file: how many got something.

    tell: hears `Ran`
    EvaluationError where the model doesn't give every token to every expert.
    """

    def parts(only: frozenset[str]) -> Generator[GroupSums]:
        return _parts(model, Collector(model.n_vocab, only=only), filling.groups, 0)

    return fill_parts(filling, parts, model.path, tell)


def fill_parts(
    filling: Filling, parts: Callable[[frozenset[str]], Generator[GroupSums]], model: Path, tell: Tell
) -> int:
    """The same, with sums from anywhere. parts: gives those of each group, of these weights alone"""
    found = SumsFile.read(filling.path)
    if found is None:
        raise EvaluationError("the sums have vanished", file=filling.path)
    try:
        sums, means = found.sums(), found.means()
    except DAMAGED as error:
        raise EvaluationError("the sums are damaged: look at the disk", file=filling.path) from error
    few = {name: it.tokens < filling.least for name, it in sums.items() if len(it.tokens) > 1}
    total, tokens = Total(), 0
    only = frozenset(name for name, lacks in few.items() if lacks.any())
    for number, (group, part) in enumerate(zip(filling.groups, parts(only), strict=True)):
        total.add(part)
        tokens += group.chunks.size
        tell(Ran(groups=number + 1, tokens=tokens))
    filled = 0
    for name, new in total.sums.items():
        lacks, own = few[name], sums[name]
        if (new.tokens != tokens).any():
            what = f"llama.cpp doesn't give every token to every expert of {name}, as its router chooses among groups"
            raise EvaluationError(what, "leave out --all-experts", file=model)
        for field in ("squares", "weighed", "tokens"):
            getattr(own, field)[lacks] = getattr(new, field)[lacks]
        filled += int(lacks.sum())
    # How many is written down, too: a run that is stopped before the matrix is written doesn't know it otherwise.
    write_sums(filling.path, sums, means, found.shared, found.about | {"filled": filled})
    return filled


def sums_of(
    model: LanguageModel,
    group: Group,
    before: int,
    output: bool,
    embeddings: bool,
    only: frozenset[str] | None,
    learned: Learned | None,
    *,
    tell: Tell,
) -> GroupSums:
    """The sums of one group. before: how many chunks there are before it; others as for `Collector`"""
    collector = Collector(model.n_vocab, output=output, embeddings=embeddings, only=only, learned=learned)
    return _group_sums(model, collector, group, before)


def _parts(
    model: LanguageModel, collector: Collector, groups: Sequence[Group], first: int
) -> Generator[GroupSums]:
    before = list(accumulate((len(group.chunks) for group in groups), initial=0))
    for number in range(first, len(groups)):
        yield _group_sums(model, collector, groups[number], before[number])


def _group_sums(model: LanguageModel, collector: Collector, group: Group, before: int) -> GroupSums:
    collector.weight = group.weight
    try:
        model.run(group.chunks, collector)
    except NotFiniteError as error:
        raise not_finite(model, group.chunks, before, error.weight) from None
    return collector.take()


class _Run:
    def __init__(self, work: Work, tell: Tell) -> None:
        self._work, self._tell = work, tell
        self._total = Total()
        self._looks = _Looks()
        self._groups = self._tokens = 0
        self._enough = self._complete = False

    def resume(self) -> None:
        """Go on from a file that a run of the same kind left."""
        found = SumsFile.read(self._work.path)
        if found is None:
            if self._work.path.exists():
                self._tell(Unusable(path=self._work.path))
            return
        if found.about.get("told") != self._work.about:
            self._tell(Another(path=self._work.path, tokens=found.about["tokens"]))
            return
        try:
            sums, means = found.sums(), found.means()
        except DAMAGED:
            self._tell(Unusable(path=self._work.path))
            return
        self._total = Total(sums=sums, shared=dict(found.shared))
        self._groups, self._tokens = found.about["groups"], found.about["tokens"]
        self._looks = _Looks.resumed(found.about["looks"], means)
        self._enough = found.about["enough"]
        self._complete = self._enough or self._groups == len(self._work.groups)
        self._tell(Saved(groups=self._groups, tokens=self._tokens, resumed=True))

    def to_the_end(self, parts: Parts) -> Collected:
        if not self._complete:  # else the file stays as it is: experts may have been filled in it
            with closing(parts(self._groups)) as each:
                self._add_groups(each)
            self._save()
        return Collected(
            groups=self._groups, tokens=self._tokens, change=self._looks.last, enough=self._enough
        )

    def _add_groups(self, parts: Generator[GroupSums]) -> None:
        work, saved = self._work, time.monotonic()
        pause = work.every
        for group, part in zip(work.groups[self._groups :], parts, strict=True):
            self._total.add(part)
            self._groups += 1
            self._tokens += group.chunks.size
            self._tell(Ran(groups=self._groups, tokens=self._tokens))
            if self._looks.due(self._tokens):
                change = self._looks.look(self._total.sums, self._tokens)
                if change is not None:
                    self._tell(change)
                    self._enough = work.until is not None and change.share <= work.until and self._covered
            if self._enough:
                break
            if time.monotonic() - saved > pause:
                begun = time.monotonic()
                self._save()
                saved = time.monotonic()
                pause = max(work.every, _SMALLEST_SHARE * (saved - begun))

    @property
    def _covered(self) -> bool:
        by_expert = [it for it in self._total.sums.values() if len(it.tokens) > 1]
        return all((it.tokens >= self._work.experts).all() for it in by_expert)

    def _save(self) -> None:
        about = {
            "told": self._work.about,
            "groups": self._groups,
            "tokens": self._tokens,
            "looks": self._looks.to_json(),
            "enough": self._enough,
        }
        write_sums(self._work.path, self._total.sums, self._looks.means, self._total.shared, about)
        self._tell(Saved(groups=self._groups, tokens=self._tokens, resumed=False))


class _Looks:
    """Looks at the sums now and then, and keeps the means to compare with."""

    def __init__(self) -> None:
        self.last: Change | None = None
        self.means: dict[str, NDArray[np.float32]] = {}
        self._next = float(_FIRST_LOOK)

    def due(self, tokens: int) -> bool:
        return tokens >= self._next

    def look(self, sums: dict[str, InputSums], tokens: int) -> Change | None:
        """The change since the last look; None at the first."""
        means = {name: found.means.astype(np.float32) for name, found in sums.items()}
        before, self.means, self._next = self.means, means, tokens * _GROWTH
        changes = {name: _change(before[name], means[name]) for name in before.keys() & means.keys()}
        if not changes:
            return None
        worst = max(sorted(changes), key=lambda name: changes[name])
        self.last = Change(
            share=float(np.percentile(list(changes.values()), 95)),
            worst=worst,
            most=changes[worst],
            tokens=tokens,
        )
        return self.last

    def to_json(self) -> dict[str, Any]:
        last = self.last
        fields = None if last is None else [last.share, last.worst, last.most, last.tokens]
        return {"next": self._next, "last": fields}

    @classmethod
    def resumed(cls, saved: dict[str, Any], means: dict[str, NDArray[np.float32]]) -> _Looks:
        """What `to_json` gave, and the means, as they were."""
        looks = cls()
        looks.means = means
        looks._next = saved["next"]
        if saved["last"] is not None:
            share, worst, most, tokens = saved["last"]
            looks.last = Change(share=share, worst=worst, most=most, tokens=tokens)
        return looks


def _change(before: NDArray[np.float32], now: NDArray[np.float32]) -> float:
    """What share of a weight's importance has moved to other columns: ½ Σ |p - q|, of means scaled to a sum of 1.

    How large they are together doesn't matter to a quantizer. Of a stack it is the mean over those of its matrices that
    had tokens before, and 1 where none had.
    """
    one, two = before.sum(axis=1, dtype=np.float64), now.sum(axis=1, dtype=np.float64)
    seen = (one > 0) & (two > 0)
    if not seen.any():
        return float(two.any())
    moved = np.abs(now[seen] / two[seen, None] - before[seen] / one[seen, None]).sum(axis=1)
    return float(moved.mean()) / 2
