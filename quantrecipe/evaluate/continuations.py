"""Continuations: how long a file goes on with a text just as the unquantized model does.

At places all over the reference's texts (the first halves of chunks) a model goes on greedily. Until the first token
that differs, a user would see the same; after it, texts go their own ways, and tokens that are equal at their place are
so by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.engine.session import RunOptions, Session, Tell
from quantrecipe.evaluate.answers import first_difference, share
from quantrecipe.evaluate.in_process import require_vocabulary
from quantrecipe.evaluate.pairs import mean_interval, paired_mean
from quantrecipe.evaluate.reference import Reference, read_reference
from quantrecipe.evaluate.requests import opened
from quantrecipe.evaluate.resampling import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "LENGTHS",
    "Agreement",
    "ContinuationFigures",
    "Continuations",
    "continuation_figures",
    "continue_texts",
    "places_of",
]

LENGTHS = (32, 128)
"""Tokens over which continuations are compared; models go on for the last of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Continuations:
    """How a model goes on. places: the chunks after whose first half it does; tokens: of each continuation"""

    places: tuple[int, ...]
    tokens: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Continuations beside the reference's, over their first tokens.

    length: how many tokens
    same:   share of tokens that are equal at their place
    until:  tokens before the first that differs, the mean; of a continuation that never differs, its length
    whole:  share of continuations that are equal to the end
    """

    length: int
    same: Interval
    until: Interval
    whole: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class ContinuationFigures:
    """Of one file. beside: how much later than the first file's its continuations differ; None for the first"""

    agreement: tuple[Agreement, ...]
    beside: Interval | None


def places_of(reference: Reference, count: int) -> tuple[int, ...]:
    """At most so many chunks, from all over the texts."""
    chosen = np.linspace(0, reference.chunks - 1, min(count, reference.chunks)).astype(int)
    return tuple(np.unique(chosen).tolist())


def continue_texts(
    model: str | Path | Session,
    reference: Reference,
    places: Sequence[int],
    *,
    progress: Callable[[int, int], None] | None = None,
    **running: Unpack[RunOptions],
) -> Continuations:
    """Have a GGUF, or the one that is open in a session, go on at these places. progress: told after every few.

    EvaluationError where its vocabulary isn't the reference's.
    """
    hear = None if progress is None else lambda done: progress(*done)
    with opened(model, **running) as session:
        said = session.call(_continued, reference.path, tuple(places), hear=hear)
    return Continuations(places=tuple(places), tokens=said)


def _continued(
    engine: LanguageModel, path: Path, places: Sequence[int], *, tell: Tell
) -> tuple[tuple[int, ...], ...]:
    """What `continue_texts` has the worker do."""
    reference = read_reference(path)
    require_vocabulary(engine, reference.n_vocab, reference.vocabulary, reference.tokens)
    prompts = [_begun(engine, reference.tokens[place, : reference.n_ctx // 2]) for place in places]
    said: list[tuple[int, ...]] = []
    for one in engine.generate(prompts, LENGTHS[-1]):
        said.append(tuple(one.tolist()))
        tell((len(said), len(prompts)))
    return tuple(said)


def _begun(engine: LanguageModel, tokens: NDArray[np.int32]) -> NDArray[np.int32]:
    """As chunks are run: the vocabulary's beginning of a text in the place of the first token."""
    first = engine.first_token
    return tokens if first is None else np.concatenate([np.array([first], np.int32), tokens[1:]])


def continuation_figures(
    ours: Continuations, reference: Continuations, first: Continuations | None = None
) -> ContinuationFigures:
    """The figures of a file beside the reference; `first`: the file to compare with besides."""
    longest = LENGTHS[-1]
    beside = (
        None
        if first is None
        else paired_mean(_until(ours, reference, longest), _until(first, reference, longest))
    )
    return ContinuationFigures(
        agreement=tuple(_agreement(ours, reference, length) for length in LENGTHS), beside=beside
    )


def _agreement(ours: Continuations, reference: Continuations, length: int) -> Agreement:
    shares, whole = [], 0
    for a, b in _pairs(ours, reference, length):
        longest = max(len(a), len(b))
        shares.append(sum(x == y for x, y in zip(a, b, strict=False)) / longest if longest else 1.0)
        whole += a == b
    same = mean_interval(shares)
    return Agreement(
        length=length,
        same=Interval(
            value=same.value,
            low=None if same.low is None else max(0.0, same.low),
            high=None if same.high is None else min(1.0, same.high),
        ),
        until=mean_interval(_until(ours, reference, length)),
        whole=share(whole, len(shares)),
    )


def _until(ours: Continuations, reference: Continuations, length: int) -> list[float]:
    """Tokens of each before the first that differs."""
    found = []
    for a, b in _pairs(ours, reference, length):
        place = first_difference(a, b)
        found.append(float(len(b) if place is None else place))
    return found


def _pairs(
    ours: Continuations, reference: Continuations, length: int
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return [(a[:length], b[:length]) for a, b in zip(ours.tokens, reference.tokens, strict=True)]
