"""Generation: after a prompt a token, then the token after that, for several prompts at a time.

    prompts     one after the other, each in runs of at most n_batch tokens of its own
    then        one token of each sequence in every batch, until all have ended

Which token is taken is for `choose` to say: the likeliest (`likeliest`, the default), or one drawn by lot (`Sampler`).

A sequence that has ended goes on, unseen, until the others have, if `keep_shape`: so every batch has the same shape,
however long the answers of a model are, and what an engine's rounding depends on is the same for all models that get
these prompts. Otherwise it leaves the batch, which is quicker.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tokens = NDArray[np.int32]
    Run = Callable[[Tokens, Tokens, Tokens, NDArray[np.bool_]], NDArray[np.float32]]
    Choose = Callable[[NDArray[np.float32], Tokens], Tokens]

__all__ = ["Sampler", "generate", "likeliest", "side_by_side_for"]

_MOST = 8  # sequences: the weights are read once for all of them, and eight are about as quick as one
_CELLS = 16384
"""Tokens that all sequences together may have in the cache, unless a single one has more."""


def side_by_side_for(prompts: int, longest: int, *, most: int = _MOST) -> int:
    """How many sequences of at most `longest` tokens are run at a time: at least one."""
    return max(1, min(most, _CELLS // max(1, longest), prompts))


def likeliest(logits: NDArray[np.float32], sequences: Tokens) -> Tokens:
    """The likeliest token of each row; of several that are equally likely, the one with the lowest number."""
    tokens: Tokens = logits.argmax(axis=1).astype(np.int32)
    return tokens


class Sampler:
    """Draws tokens by lot, each as often as the model thinks it likely.

    temperature: what logits are divided by, above 0
    min_p:       tokens that are less likely than this share of the likeliest are left out; 0 for none. The likeliest
                 is found without sorting a vocabulary, and where the model is sure, little is left beside it
    generators:  numbers for each sequence, by its number: so what is drawn for one doesn't depend on the others
    """

    def __init__(
        self, temperature: float, min_p: float, generators: Callable[[int], np.random.Generator]
    ) -> None:
        self._temperature, self._generators = temperature, generators
        self._below = temperature * math.log(min_p) if min_p else -math.inf
        self._drawing: dict[int, np.random.Generator] = {}

    def __call__(self, logits: NDArray[np.float32], sequences: Tokens) -> Tokens:
        pairs = zip(logits, sequences.tolist(), strict=True)
        return np.array([self._drawn(row, sequence) for row, sequence in pairs], np.int32)

    def _drawn(self, row: NDArray[np.float32], sequence: int) -> int:
        generator = self._drawing.get(sequence)
        if generator is None:
            generator = self._drawing[sequence] = self._generators(sequence)
        highest = float(row.max())
        kept = np.flatnonzero(row >= highest + self._below)
        up_to = np.cumsum(np.exp((row[kept].astype(np.float64) - highest) / self._temperature))
        place = int(np.searchsorted(up_to, generator.random() * up_to[-1], side="right"))
        return int(kept[min(place, len(kept) - 1)])


def generate(
    run: Run,
    ends: Callable[[int], bool],
    prompts: Sequence[Tokens],
    n: int,
    *,
    n_batch: int,
    choose: Choose = likeliest,
    keep_shape: bool = True,
) -> Iterator[Tokens]:
    """The answers to prompts that are run side by side, from an empty cache: int32 (≤ n,) each, without their ends.

    run:        tokens, their positions, their sequences, and which have outputs → float32 (outputs, n_vocab)
    ends:       whether a token ends an answer
    choose:     float32 (n, n_vocab) and the numbers of their sequences, int32 (n,) → the token of each, int32 (n,)
    keep_shape: sequences that have ended stay in the batches
    """
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    sequences = np.arange(len(prompts), dtype=np.int32)
    last = np.array(
        [_begin(run, prompt, number, n_batch, choose) for number, prompt in enumerate(prompts)], np.int32
    )
    said = [last]
    ended = np.array([ends(token) for token in last.tolist()])
    while len(said) < n and not ended.all():
        going = sequences if keep_shape else sequences[~ended]
        positions = lengths[going] + np.int32(len(said) - 1)
        logits = run(last[going], positions, going, np.ones(len(going), np.bool_))
        last = last.copy()
        last[going] = choose(logits, going)
        said.append(last)
        ended |= [ends(token) for token in last.tolist()]
    for row in np.stack(said, axis=1):
        stop = next((place for place, token in enumerate(row.tolist()) if ends(token)), len(row))
        yield row[:stop].copy()


def _begin(run: Run, prompt: Tokens, sequence: int, n_batch: int, choose: Choose) -> int:
    """Run a prompt: the token after it."""
    for start in range(0, len(prompt), n_batch):
        part = prompt[start : start + n_batch]
        positions = np.arange(start, start + len(part), dtype=np.int32)
        wanted = positions == len(prompt) - 1
        logits = run(part, positions, np.full(len(part), sequence, np.int32), wanted)
    return int(choose(logits, np.array([sequence], np.int32))[0])
