"""Chunks: tokens of domains, cut for the contexts that they are to be run in, in the order in which they run.

The tokens of a domain's documents follow each other, and what is left that fills no chunk isn't run: so it is with
llama-imatrix, and a file that is one text gives the same chunks. Of several domains and contexts the groups are mixed
evenly, so that a run that stops early has seen each of them in its proportion.

Weights say what share of the matrix a domain has, whatever its length: each token of it counts weight ÷ tokens. Without
weights each token counts once. With weights a token of the lightest counts 1, and less only where a file of a matrix
couldn't hold the numbers otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.calibration.collect import Group
from quantrecipe.errors import EvaluationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tokens = NDArray[np.int32]

__all__ = ["DomainTokens", "Schedule", "schedule"]

_MOST_TOKENS = 2.0**31
"""What all tokens together may count: so the numbers of chunks fit 32 bits, and sums of squares float32."""

_FARTHEST = 1e9
"""How many times a token may count another's. Beyond, what the other says is lost in the rounding of float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainTokens:
    """A domain, as tokens: int32 (tokens,), those of its documents one after the other."""

    name: str
    weight: float | None
    tokens: Tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """What runs, and how much of each domain that is.

    tokens:  of each domain, over all contexts
    chunks:  of each domain, over all contexts
    factors: what a token of each counts
    """

    groups: tuple[Group, ...]
    tokens: tuple[int, ...]
    chunks: tuple[int, ...]
    factors: tuple[float, ...]


def schedule(
    domains: Sequence[DomainTokens],
    contexts: Sequence[int],
    side_by_side: Sequence[int],
    *,
    chunks: int | None = None,
    skip: int = 0,
) -> Schedule:
    """The groups, in their order.

    contexts:     tokens of a chunk; each domain runs in each of them
    side_by_side: for each context, how many chunks are in a group
    chunks, skip: of each domain in each context, the most that run, and how many are left out before them
    EvaluationError for a domain that doesn't fill a chunk, and for weights of which one leaves another no say.
    """
    cut = [[_cut(domain, n_ctx, chunks, skip) for n_ctx in contexts] for domain in domains]
    tokens = tuple(sum(part.size for part in parts) for parts in cut)
    factors = _factors(domains, tokens)
    placed: list[tuple[float, int, Group]] = []
    for number, parts in enumerate(cut):
        for part, size in zip(parts, side_by_side, strict=True):
            starts = range(0, len(part), size)
            for place, start in enumerate(starts):
                group = Group(chunks=part[start : start + size], domain=number, weight=factors[number])
                placed.append(((place + 0.5) / len(starts), len(placed), group))
    return Schedule(
        groups=tuple(group for _, _, group in sorted(placed, key=lambda it: it[:2])),
        tokens=tokens,
        chunks=tuple(sum(len(part) for part in parts) for parts in cut),
        factors=factors,
    )


def _cut(domain: DomainTokens, n_ctx: int, most: int | None, skip: int) -> Tokens:
    whole = len(domain.tokens) // n_ctx
    count = max(0, whole - skip)
    if count < 1:
        left = f", of which {skip:,} are skipped" if skip else ""
        raise EvaluationError(
            f"{domain.name} has {len(domain.tokens):,} tokens: {whole:,} chunks of {n_ctx:,}{left}",
            "use a longer text, or a smaller --context",
        )
    count = count if most is None else min(most, count)
    return domain.tokens[skip * n_ctx : (skip + count) * n_ctx].reshape(count, n_ctx)


def _factors(domains: Sequence[DomainTokens], tokens: Sequence[int]) -> tuple[float, ...]:
    """What a token of each domain counts. A domain without a weight has 1 beside those that have one."""
    if all(domain.weight is None for domain in domains):
        return (1.0,) * len(domains)
    each = [
        (1.0 if domain.weight is None else domain.weight) / count
        for domain, count in zip(domains, tokens, strict=True)
    ]
    least, most = min(each), max(each)
    if not least or most / least > _FARTHEST:
        light, heavy = domains[each.index(least)].name, domains[each.index(most)].name
        raise EvaluationError(
            f"a token of {heavy} would count more than {_FARTHEST:,.0f} times as much as one of {light}",
            f"give them weights that are nearer to each other, or leave {light} out",
        )
    factors = [value / least for value in each]
    whole = sum(factor * count for factor, count in zip(factors, tokens, strict=True))
    scale = min(1.0, _MOST_TOKENS / whole)
    return tuple(factor * scale for factor in factors)
