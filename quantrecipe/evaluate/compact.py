"""Compact log-probabilities: what a reference file keeps of the logits of a chunk.

Of each position are kept the log-probabilities of the likeliest tokens, the mass of all others together (at most
`tail`), and, exactly, what the text's own token costs. The likeliest are a bit mask over the vocabulary, compressed
since it is nearly empty, and 16 bits each:

    zlib( mask: rows × vocabulary bits   values: u16, √(-ln p) × 65535/√32   tail: f32   cost: f32   best: u32 )

What this does to a KL divergence: log-probabilities are rounded, by 1/10,000 at p = 0.3 and less above, and errors
of either sign cancel; all tokens of the tail count as one, so that divergence among them isn't seen, and `compare`
estimates it. Measured, that is right to 0.1 % of the mean at the default, a tenth of the standard error on ten
thousand positions: docs/eval.md. A tail of 0 keeps every token.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

import numpy as np

from quantrecipe.errors import EvaluationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["DEFAULT_TAIL", "CompactRows", "compact", "log_normalisers", "pack", "unpack"]

DEFAULT_TAIL = 0.003
"""Mass per position whose tokens aren't told apart. docs/eval.md: what it saves, and what error it makes."""

_NATS = 32  # what is less likely than e^-32 isn't told apart from that
_STEPS = 65535 / _NATS**0.5  # 16 bits; the root makes them finest for the likeliest tokens
_BUCKETS_PER_NAT = 8  # of the search for the likeliest tokens: it keeps at most an eighth of a nat too many


@dataclass(frozen=True, kw_only=True, slots=True)
class CompactRows:
    """What the reference says at some positions, one row for each.

    mask:   bool (rows, vocabulary): the tokens that are kept; at least one in each row
    values: float32 (kept,): their log-probabilities, row after row
    tail:   float32 (rows,): the mass of the others
    cost:   float32 (rows,): -ln p of the text's own next token
    best:   uint32 (rows,): the likeliest token
    """

    mask: NDArray[np.bool_]
    values: Floats
    tail: Floats
    cost: Floats
    best: NDArray[np.uint32]

    @property
    def starts(self) -> NDArray[np.int64]:
        """Say where in `values` each row begins."""
        counts = self.mask.sum(axis=1)
        return np.concatenate([[0], np.cumsum(counts)[:-1]])

    def parts(self, blocks: Sequence[slice]) -> Iterator[Self]:
        """Cut the rows into these blocks, which follow each other."""
        start = 0
        for block in blocks:
            mask = self.mask[block]
            stop = start + int(mask.sum())
            yield type(self)(
                mask=mask,
                values=self.values[start:stop],
                tail=self.tail[block],
                cost=self.cost[block],
                best=self.best[block],
            )
            start = stop

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Put parts, of which there is at least one, one after the other."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def log_normalisers(logits: Floats) -> NDArray[np.float64]:
    """logits: float32 (rows, vocabulary) → ln Σ exp of each row."""
    top = logits.max(axis=1)
    result: NDArray[np.float64] = np.log(np.exp(logits - top[:, None]).sum(axis=1, dtype=np.float64)) + top
    return result


def compact(logits: Floats, targets: NDArray[np.int32], tail: float = DEFAULT_TAIL) -> CompactRows:
    """logits: float32 (rows, vocabulary), targets: the text's next token of each row."""
    rows = np.arange(len(logits))
    normaliser = log_normalisers(logits)
    log_p = (logits - normaliser[:, None].astype(np.float32)).astype(np.float32)
    best = logits.argmax(axis=1)
    mask = log_p >= _thresholds(log_p, tail)[:, None]
    mask[rows, best] = True
    others = np.where(mask, np.float32(0), np.exp(log_p)).sum(axis=1, dtype=np.float64)
    return CompactRows(
        mask=mask,
        values=log_p[mask],
        tail=others.astype(np.float32),
        cost=(normaliser - logits[rows, targets]).astype(np.float32),
        best=best.astype(np.uint32),
    )


def _thresholds(log_p: Floats, tail: float) -> Floats:
    """For each row the log-probability below which the mass is at most `tail`."""
    if tail <= 0:
        return np.full(len(log_p), -np.inf, np.float32)
    buckets = np.minimum(-log_p * _BUCKETS_PER_NAT, _NATS * _BUCKETS_PER_NAT - 1).astype(np.int64)
    np.maximum(buckets, 0, out=buckets)
    p = np.exp(log_p)
    masses = np.stack(
        [
            np.bincount(row, weights=weights, minlength=_NATS * _BUCKETS_PER_NAT)
            for row, weights in zip(buckets, p, strict=True)
        ]
    )
    below = np.cumsum(masses[:, ::-1], axis=1)[:, ::-1]  # mass of a bucket and all less likely ones
    first_dropped = (below > tail).sum(axis=1)  # `below` falls from 1 to 0
    thresholds: Floats = (-first_dropped / _BUCKETS_PER_NAT).astype(np.float32)
    return thresholds


def pack(rows: CompactRows) -> bytes:
    """Compress rows into one record of the file."""
    steps = np.minimum(np.rint(np.sqrt(np.maximum(-rows.values, 0)) * np.float32(_STEPS)), 65535).astype(
        "<u2"
    )
    parts = (
        np.packbits(rows.mask, axis=1),
        steps,
        rows.tail.astype("<f4"),
        rows.cost.astype("<f4"),
        rows.best.astype("<u4"),
    )
    return zlib.compress(b"".join(part.tobytes() for part in parts), 1)


def unpack(data: bytes, rows: int, n_vocab: int) -> CompactRows:
    """The rows of a record. EvaluationError where it isn't one of this many rows."""
    mask_bytes = rows * -(-n_vocab // 8)
    most = mask_bytes + rows * (2 * n_vocab + 12)
    try:
        raw = zlib.decompressobj().decompress(data, most + 1)
    except zlib.error as error:
        raise EvaluationError(f"a record is damaged ({error})") from error
    bits = np.frombuffer(raw, np.uint8, min(mask_bytes, len(raw)))
    if bits.size == mask_bytes:
        mask = np.unpackbits(bits.reshape(rows, -(-n_vocab // 8)), axis=1, count=n_vocab).astype(bool)
        kept = int(mask.sum())
        if len(raw) == mask_bytes + 2 * kept + 12 * rows and mask.any(axis=1).all():
            steps = np.frombuffer(raw, "<u2", kept, mask_bytes)
            tail, cost = np.frombuffer(raw, "<f4", 2 * rows, mask_bytes + 2 * kept).reshape(2, rows)
            best = np.frombuffer(raw, "<u4", rows, mask_bytes + 2 * kept + 8 * rows)
            values = -np.square(steps.astype(np.float32) * np.float32(1 / _STEPS))
            return CompactRows(mask=mask, values=values, tail=tail, cost=cost, best=best.astype(np.uint32))
    raise EvaluationError("a record is damaged: it doesn't have the size that it says")
