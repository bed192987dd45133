"""What a session's process does for an evaluation: a reference from a model and texts; positions beside a reference.

What users call is in `requests`, which has this run where the model is open: see `quantrecipe.engine.session`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantrecipe.engine.first_tokens import first_tokens
from quantrecipe.engine.language_model import LanguageModel, scored_positions
from quantrecipe.engine.session import Tell
from quantrecipe.errors import EvaluationError
from quantrecipe.evaluate.compact import CompactRows, compact, pack, unpack
from quantrecipe.evaluate.positions import Positions, compare
from quantrecipe.evaluate.reference import Noise, Reference, ScoredText, read_reference, write_reference
from quantrecipe.texts.plain_text import Text

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FEWEST_DOCUMENTS",
    "SMALLEST_CONTEXT",
    "Cut",
    "Settings",
    "cut",
    "require_vocabulary",
    "run_model",
    "run_reference",
    "token_starts",
]

SMALLEST_CONTEXT = 16
"""Tokens; half of a chunk is context."""

FEWEST_DOCUMENTS = 20
"""Of a text, for them to be drawn as wholes; with fewer, its chunks are drawn."""

_BLOCK = 1 << 20
"""Logits."""

_MOST_UBATCH = 512  # tokens that llama.cpp computes at a time by default
_SPACE = re.compile(rb"\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How a reference is made: see `requests.make_reference`."""

    n_ctx: int
    chunks: int | None
    tail: float
    noise_chunks: int
    key: str
    spread: bool = False


def run_reference(
    engine: LanguageModel, texts: Sequence[Text], out: Path, settings: Settings, *, tell: Tell
) -> None:
    """Write what a model says about the texts. EvaluationError for a text without a whole chunk that counts.

    tell: after every chunk, chunks done and chunks in all
    """
    n_ctx, tail = settings.n_ctx, settings.tail
    parts = [cut(engine, text, n_ctx, settings.chunks, spread=settings.spread) for text in texts]
    tokens = np.concatenate([part.tokens for part in parts])
    firsts = np.cumsum([0, *(part.blocks[-1] + 1 for part in parts)])
    reference = Reference(
        path=out,
        model=engine.path.name,
        key=settings.key,
        n_ctx=n_ctx,
        n_vocab=engine.n_vocab,
        vocabulary=engine.vocabulary(tokens),
        tail=tail,
        texts=tuple(
            ScoredText(name=text.name, digest=text.digest, chunks=len(part.tokens))
            for text, part in zip(texts, parts, strict=True)
        ),
        tokens=tokens,
        blocks=np.concatenate([part.blocks + first for part, first in zip(parts, firsts, strict=False)]),
        counted=np.concatenate([part.counted for part in parts]),
    )
    again = np.unique(np.linspace(0, len(tokens) - 1, min(settings.noise_chunks, len(tokens))).astype(int))
    total = len(tokens) + len(again)

    def compacted(pool: Executor, number: int, part: slice, logits: NDArray[np.float32]) -> CompactRows:
        counted, targets = _counted(reference, number, part, _finite(logits, engine))
        blocks = _blocks(counted) or [slice(0, 0)]
        some = pool.map(
            compact,
            (counted[block] for block in blocks),
            (targets[block] for block in blocks),
            repeat(tail),
        )
        return CompactRows.join(list(some))

    with ThreadPoolExecutor(engine.threads) as pool:
        # One chunk at a time, and a quarter of it: the same sums in another order.
        other = engine.logits(tokens[again], side_by_side=1, n_ubatch=max(1, min(n_ctx, _MOST_UBATCH) // 4))
        # Kept in the form of the file, whose rounding is part of what every figure has, and which takes little room.
        beside: dict[tuple[int, int], bytes] = {}
        for place, part, logits in _parts(other, reference):
            number = int(again[place])
            beside[number, part.start] = pack(compacted(pool, number, part, logits))
            if part.stop == reference.scored:
                tell((place + 1, total))
        apart: list[Positions] = []

        def records() -> Iterator[CompactRows]:
            for number, part, logits in _parts(engine.logits(tokens), reference):
                yield compacted(pool, number, part, logits)
                if (data := beside.get((number, part.start))) is not None:
                    counted, targets = _counted(reference, number, part, logits)
                    kept = unpack(data, len(counted), engine.n_vocab)
                    apart.extend(_compared(pool, counted, targets, kept))
                if part.stop == reference.scored:
                    tell((number + 1 + len(again), total))

        write_reference(reference, records(), lambda: _noise(apart))


def run_model(engine: LanguageModel, path: Path, every: int = 1, first: int = 0, *, tell: Tell) -> Positions:
    """Every position of a model that counts. EvaluationError where its vocabulary isn't the reference's.

    path:  of the reference
    every: 1 for all of its chunks, n for each n-th from `first` on
    tell:  after every chunk, chunks done and chunks in all
    """
    reference = read_reference(path)
    require_vocabulary(engine, reference.n_vocab, reference.vocabulary, reference.tokens)
    found: list[Positions] = []
    numbers = range(first, reference.chunks, every)
    with ThreadPoolExecutor(engine.threads) as pool:
        some = _parts(engine.logits(reference.tokens[first::every]), reference)
        for (place, part, logits), kept in zip(some, reference.records(every, first), strict=True):
            found += _compared(
                pool, *_counted(reference, numbers[place], part, _finite(logits, engine)), kept
            )
            if part.stop == reference.scored:
                tell((place + 1, len(numbers)))
    return Positions.join(found)


def _parts(
    some: Iterable[NDArray[np.float32]], reference: Reference
) -> Iterator[tuple[int, slice, NDArray[np.float32]]]:
    """Logits as the reference has its records: which of the chunks, where in what is scored of it, and the logits.

    some: what `LanguageModel.logits` yields: whole chunks, or pieces of them that end where records do
    """
    place, parts = 0, list(reference.parts)
    for logits in some:
        start = parts[0].start
        while parts and parts[0].stop - start <= len(logits):
            part = parts.pop(0)
            yield place, part, logits[part.start - start : part.stop - start]
        if not parts:
            place, parts = place + 1, list(reference.parts)


def require_vocabulary(
    engine: LanguageModel, n_vocab: int, vocabulary: str, tokens: NDArray[np.int32]
) -> None:
    """EvaluationError where tokens mean something else to a model than to the reference."""
    remedy = "a reference serves files of the same model"
    if engine.n_vocab != n_vocab:
        what = f"its vocabulary has {engine.n_vocab:,} tokens, the reference's {n_vocab:,}"
        raise EvaluationError(what, remedy, file=engine.path)
    if engine.vocabulary(tokens) != vocabulary:
        what = "tokens of the text mean something else to it than to the reference"
        raise EvaluationError(what, remedy, file=engine.path)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A text in chunks, of which each has a position that counts.

    tokens:  int32 (chunks, n_ctx)
    blocks:  int32 (chunks,), from 0: chunks of one document have the same number
    counted: bool (chunks, scored)
    """

    tokens: NDArray[np.int32]
    blocks: NDArray[np.int32]
    counted: NDArray[np.bool_]


def cut(engine: LanguageModel, text: Text, n_ctx: int, most: int | None, *, spread: bool = False) -> Cut:
    """Cut a text into chunks, and leave out those in which nothing counts. EvaluationError where none is left.

    most: the first so many chunks, for which no more of the text becomes tokens than they need; with `spread` so many
          of all, at even distances
    """
    asked = None if most is None or spread else most
    while True:
        wanted = None if asked is None else asked * n_ctx
        tokens = first_tokens(engine, text.data, wanted, special=text.special)
        found = _all_chunks(engine, text, tokens, n_ctx)
        if (
            asked is None
            or most is None
            or len(tokens) < asked * n_ctx
            or found.counted.any(axis=1).sum() >= most
        ):
            break
        asked *= 2  # some have no answer, so that more of the text is needed
    kept = np.flatnonzero(found.counted.any(axis=1))
    if spread and most is not None and most < len(kept):
        kept = kept[np.arange(most) * len(kept) // most]
    kept = kept[:most]
    if not len(kept):
        what = f"{text.name} has no answer in the second half of any of its {len(found.tokens):,} chunks"
        raise EvaluationError(what, "use a longer text, or a smaller context")
    return Cut(
        tokens=found.tokens[kept],
        blocks=np.unique(found.blocks[kept], return_inverse=True)[1].astype(np.int32),
        counted=found.counted[kept],
    )


def _all_chunks(engine: LanguageModel, text: Text, tokens: NDArray[np.int32], n_ctx: int) -> Cut:
    """The tokens of a text, or the first of them, in chunks; also those in which nothing counts."""
    count = len(tokens) // n_ctx
    if count < 1:
        raise EvaluationError(
            f"{text.name} has {len(tokens):,} tokens, and a chunk takes {n_ctx:,}",
            "use a longer text, or a smaller context",
        )
    scored = scored_positions(n_ctx)
    counted = np.ones((count, scored), np.bool_)
    blocks = np.arange(count, dtype=np.int32)
    if text.answers or text.documents:
        starts = token_starts(engine, text, tokens)[: count * n_ctx].reshape(count, n_ctx)
        if text.answers:
            counted = _within(starts[:, n_ctx - scored :], text.answers)
        if len(text.documents) >= FEWEST_DOCUMENTS:  # fewer say nothing of how documents differ
            blocks = np.searchsorted(text.documents, starts[:, n_ctx - scored], side="right").astype(np.int32)
    return Cut(tokens=tokens[: count * n_ctx].reshape(count, n_ctx), blocks=blocks, counted=counted)


def token_starts(engine: LanguageModel, text: Text, tokens: NDArray[np.int32]) -> NDArray[np.int64]:
    """Where each token of a text begins in its bytes: int64 (tokens,).

    EvaluationError where tokens don't add up to the text, as those of vocabularies that rewrite it.
    """
    starts, at = np.empty(len(tokens), np.int64), 0
    pieces = engine.pieces(tokens)
    if len(tokens) and tokens[0] == engine.first_token:
        pieces[0] = b""  # the vocabulary has put it there, whatever the text begins with
    for number, piece in enumerate(pieces):
        space = len(_SPACE.match(text.data, at)[0])  # type: ignore[index]  # it matches nothing, too
        # SentencePiece puts a blank before a text, and some special tokens take those beside them in.
        for skipped, said in ((0, piece), (0, piece.removeprefix(b" ")), (space, piece)):
            if text.data.startswith(said, at + skipped):
                at += skipped
                starts[number] = at
                at += len(said)
                break
        else:
            what = (
                f"the tokens of {text.name} don't add up to it, so that its answers can't be found among them"
            )
            raise EvaluationError(what, "evaluate on all of the text instead", file=engine.path)
    return starts


def _within(starts: NDArray[np.int64], spans: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Whether tokens that begin there are in one of the spans, which are in order."""
    begins, ends = np.array(spans, np.int64).T
    last = np.searchsorted(begins, starts, side="right") - 1
    inside: NDArray[np.bool_] = (last >= 0) & (starts < ends[np.maximum(last, 0)])
    return inside


def _counted(
    reference: Reference, number: int, part: slice, logits: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Logits of a part of a chunk and the tokens that follow, at the positions that count."""
    counted, targets = reference.mask[number][part], reference.targets[number][part]
    return (logits, targets) if counted.all() else (logits[counted], targets[counted])


def _compared(
    pool: Executor, logits: NDArray[np.float32], targets: NDArray[np.int32], rows: CompactRows
) -> Iterator[Positions]:
    blocks = _blocks(logits)
    return pool.map(
        compare,
        (logits[block] for block in blocks),
        (targets[block] for block in blocks),
        rows.parts(blocks),
    )


def _noise(apart: Sequence[Positions]) -> Noise | None:
    if not apart:
        return None
    divergence = Positions.join(apart).divergence
    return Noise(
        positions=len(divergence),
        mean=max(0.0, float(divergence.mean())),
        largest=max(0.0, float(divergence.max())),
    )


def _blocks(logits: NDArray[np.float32]) -> list[slice]:
    """Rows that a thread takes at a time, so that what it makes of them stays small, whatever the vocabulary."""
    step = max(1, _BLOCK // logits.shape[1])
    return [slice(start, start + step) for start in range(0, len(logits), step)]


def _finite(logits: NDArray[np.float32], engine: LanguageModel) -> NDArray[np.float32]:
    if not np.isfinite(logits).all():
        what = "it gives NaN or Inf for logits: the file is broken, or llama.cpp computes it wrongly here"
        raise EvaluationError(what, "`quantrecipe verify` looks into the weights", file=engine.path)
    return logits
