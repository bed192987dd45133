"""Statistics of inputs without a model that was run: a folder as `imatrix compute --gram` writes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from quantrecipe.calibration.gram import GramEntry, Grams, read_gram
from quantrecipe.calibration.gram.folder import GramIndex, write_array, write_index
from quantrecipe.encoders.feedback.products import STRIP
from quantrecipe.importance.provenance import Provenance


def write_statistics(
    folder: Path,
    inputs: Mapping[str, tuple[int, Sequence[int]]],
    *,
    shared: Mapping[str, Sequence[str]] | None = None,
    fingerprint: str = "",
    indefinite: Collection[str] = (),
    seed: int = 0,
) -> Grams:
    """Gram matrices of random inputs that go together.

    inputs: by the name of a weight, columns and tokens of each matrix
    shared: by the same, further weights with the same input
    indefinite: those whose least eigenvalue is -0.05 of the mean diagonal, as no Gram matrix has it
    """
    rng = np.random.default_rng(seed)
    where = folder / f"made-{seed}"
    where.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, (columns, tokens) in inputs.items():
        rows = []
        for count in tokens:
            mixed = np.eye(columns) + 0.2 * rng.standard_normal((columns, columns))
            x = rng.standard_normal((max(count, 1), columns)) @ mixed
            gram = (x.T @ x / max(count, 1)).astype(np.float32)
            if name in indefinite:
                below = np.linalg.eigvalsh(gram.astype(np.float64))[0] + 0.05 * np.diagonal(gram).mean()
                gram -= np.float32(below) * np.eye(columns, dtype=np.float32)
            rows.append(gram[np.triu_indices(columns)])
        digest = write_array(where, name, columns, len(tokens), rows)
        entries.append(
            GramEntry(
                name=name,
                weights=(name, *(shared or {}).get(name, ())),
                columns=columns,
                matrices=len(tokens),
                tokens=tuple(tokens),
                weighed=tuple(map(float, tokens)),
                digest=digest,
            )
        )
    index = GramIndex(
        digest=where.name,
        experts="shared",
        provenance=Provenance(fingerprint=fingerprint),
        inputs=tuple(entries),
        of=len(entries),
    )
    write_index(where, index)
    return read_gram(where)


def whole(unit: np.ndarray, k: int) -> np.ndarray:
    """N from its strips: each has STRIP columns, and ends with the diagonal. What is beyond the last column is zero."""
    found, start = np.zeros((k, k)), 0
    for first in range(0, k, STRIP):
        strip = unit[start : start + STRIP * (first + STRIP)].reshape(-1, STRIP)
        found[: len(strip), first : first + STRIP] = strip[:k, : k - first]
        assert not strip[k:].any() and not strip[:, k - first :].any()
        start += strip.size
    assert start == unit.size
    return found
