"""Greedy generation: after a prompt the likeliest token, then the likeliest after that, for several prompts at a time.

    prompts     one after the other, each in runs of at most n_batch tokens of its own
    then        one token of each sequence in every batch, until all have ended

A sequence that has ended goes on, unseen, until the others have: so every batch has the same shape, however long the
answers of a model are, and what an engine's rounding depends on is the same for all models that get these prompts.
Of tokens that are equally likely the one with the lowest number is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tokens = NDArray[np.int32]
    Run = Callable[[Tokens, Tokens, Tokens, NDArray[np.bool_]], NDArray[np.float32]]

__all__ = ["greedy", "side_by_side_for"]

_MOST = 8  # sequences: the weights are read once for all of them, and eight are about as quick as one
_CELLS = 16384
"""Tokens that all sequences together may have in the cache, unless a single one has more."""


def side_by_side_for(prompts: int, longest: int) -> int:
    """How many sequences of at most `longest` tokens are run at a time: at least one."""
    return max(1, min(_MOST, _CELLS // max(1, longest), prompts))


def greedy(
    run: Run, ends: Callable[[int], bool], prompts: Sequence[Tokens], n: int, *, n_batch: int
) -> Iterator[Tokens]:
    """The answers to prompts that are run side by side, from an empty cache: int32 (≤ n,) each, without their ends.

    run:  tokens, their positions, their sequences, and which have outputs → float32 (outputs, n_vocab)
    ends: whether a token ends an answer
    """
    count = len(prompts)
    last = np.array([_begin(run, prompt, number, n_batch) for number, prompt in enumerate(prompts)], np.int32)
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    sequences, wanted = np.arange(count, dtype=np.int32), np.ones(count, np.bool_)
    said = [last]
    ended = np.array([ends(token) for token in last.tolist()])
    while len(said) < n and not ended.all():
        last = run(last, lengths + np.int32(len(said) - 1), sequences, wanted).argmax(axis=1).astype(np.int32)
        said.append(last)
        ended |= [ends(token) for token in last.tolist()]
    for row in np.stack(said, axis=1):
        stop = next((place for place, token in enumerate(row.tolist()) if ends(token)), len(row))
        yield row[:stop].copy()


def _begin(run: Run, prompt: Tokens, sequence: int, n_batch: int) -> int:
    """Run a prompt: the likeliest token after it."""
    for start in range(0, len(prompt), n_batch):
        part = prompt[start : start + n_batch]
        positions = np.arange(start, start + len(part), dtype=np.int32)
        wanted = positions == len(prompt) - 1
        logits = run(part, positions, np.full(len(part), sequence, np.int32), wanted)
    return int(logits[0].argmax())
