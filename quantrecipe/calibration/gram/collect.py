"""What a session's process does for Gram matrices: it finds the inputs of a graph, and adds up x xᵀ of some of them.

Only the upper triangle is kept and computed, in bands of rows that are as long as what is right of the diagonal:

    ┌──────────────┐
    │ band 0       │   a band of 512 rows: inputs[:, 512 b : 512 (b + 1)]ᵀ · inputs[:, 512 b :]
    └───┬──────────┤
        │ band 1   │   half the work and half the memory of the whole matrix
        └───┬──────┤

Products of a few hundred tokens are computed in float32, as BLAS does it fast, and added up in float64. With 400 of
them, of strongly correlated inputs, the sum is wrong by 5e-6 of the mean diagonal (spectral norm), as much as storing
it in float32 costs. Adding in float32 made it 2e-4, which is more than the smallest eigenvalues of a real model.
Compensated float32 takes the same memory as float64, and more time.

Bands are shared out among threads of ours, and BLAS has one (`engine.session`): its own threads go on spinning after a
product, and take the processors from llama.cpp, whose turn it is. On two busy cores a run took three to six times as
long with them.

Which inputs there are is learned from one graph (`survey`); while texts run, inputs are known by their weights' names.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from quantrecipe.calibration.collect import Group, Ran
from quantrecipe.calibration.collector import FEWEST_TOKENS, NotFiniteError, Stop, not_finite
from quantrecipe.calibration.gram.folder import GramEntry, write_array
from quantrecipe.engine.graph import Product
from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.engine.session import Tell

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Experts", "GramInput", "Pass", "Survey", "collect_grams", "survey"]

Experts = Literal["shared", "each"]
"""shared: one matrix for all experts of a tensor; each: one for each, of the tokens that went to it."""

_BAND = 512  # rows: larger ones compute more below the diagonal, and smaller ones are slower products
_WAITING = 256
"""Tokens at least that are multiplied at a time. An expert gets few of a batch, and adding its product to the sum
takes as long as adding that of many."""
_TRIED = (256, 512)  # tokens and columns of the product whose speed is measured


@dataclass(frozen=True, kw_only=True, slots=True)
class GramInput:
    """An input of one or more matrices, whose Gram matrix is wanted.

    name:      of the weight that llama.cpp multiplies it with at first
    weights:   all that it is multiplied with: q, k and v, or gate and up
    matrices:  Gram matrices: one; or one for each head of a stack of matrices, or for each expert
    by_expert: each expert has its own tokens, and its own matrix
    """

    name: str
    weights: tuple[str, ...]
    columns: int
    matrices: int
    by_expert: bool

    @property
    def nbytes(self) -> int:
        """Bytes of its file, but for the header: upper triangles in float32."""
        return 4 * self.matrices * self.columns * (self.columns + 1) // 2

    @property
    def memory(self) -> int:
        """Bytes while it is computed: bands of float64, and tokens that wait."""
        k = self.columns
        bands = sum(min(_BAND, k - start) * (k - start) for start in range(0, k, _BAND))
        return self.matrices * (8 * bands + 4 * _WAITING * k)

    @property
    def operations(self) -> int:
        """Multiplications and additions for a token that one of its matrices gets."""
        k = self.columns
        return 2 * sum(min(_BAND, k - start) * (k - start) for start in range(0, k, _BAND))


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What one graph showed.

    inputs:     in the order in which the graph comes to them
    visits:     the names of inputs, as often as a graph comes to them
    rows:       tokens that each input has of one token of the text: more than one where experts have their own
    seconds:    that a token of the text takes to be run
    operations: multiplications and additions that a second has room for in products
    """

    inputs: tuple[GramInput, ...]
    visits: tuple[str, ...]
    rows: dict[str, int]
    seconds: float
    operations: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """Texts that are run for some of the inputs.

    last:   the name of the last that is wanted in a graph, and how many times inputs are wanted before and with it
    folder: that finished matrices are written to
    """

    groups: tuple[Group, ...]
    inputs: tuple[GramInput, ...]
    last: tuple[int, str]
    output: bool
    experts: Experts
    folder: Path


def survey(model: LanguageModel, group: Group, output: bool, experts: Experts, *, tell: Tell) -> Survey:
    """Run a group to see which inputs there are, and how long it takes."""
    looking = _Surveyor(model.n_vocab, output, experts)
    model.run(group.chunks[:1], looking)  # llama.cpp prepares itself, too, so that the next is timed
    looking.done = True
    begun = time.perf_counter()
    model.run(group.chunks, looking)
    seconds = (time.perf_counter() - begun) / group.chunks.size
    return Survey(
        inputs=tuple(looking.inputs()),
        visits=tuple(looking.visits),
        rows=dict(looking.rows),
        seconds=seconds,
        operations=_speed(model.threads),
    )


def collect_grams(model: LanguageModel, work: Pass, *, tell: Tell) -> None:
    """Run the groups, and write a file for each input. EvaluationError for inputs that are NaN or Inf.

    tell: hears `Ran` after each group, and a `GramEntry` after each file
    """
    tokens = 0
    with ThreadPoolExecutor(model.threads) as pool:
        collector = _Collector(work, model.n_vocab, pool)
        for number, group in enumerate(work.groups):
            collector.weigh(group.weight)
            try:
                model.run(group.chunks, collector)
            except NotFiniteError as error:
                before = sum(len(it.chunks) for it in work.groups[:number])
                raise not_finite(model, group.chunks, before, error.weight) from None
            tokens += group.chunks.size
            tell(Ran(groups=number + 1, tokens=tokens))
        for sums in collector.sums.values():
            sums.finish()
    for it in work.inputs:
        sums = collector.sums.pop(it.name)
        digest = write_array(work.folder, it.name, it.columns, it.matrices, sums.rows())
        tell(
            GramEntry(
                name=it.name,
                weights=it.weights,
                columns=it.columns,
                matrices=it.matrices,
                tokens=tuple(sums.tokens.tolist()),
                weighed=tuple(sums.weighed.tolist()),
                digest=digest,
            )
        )


class _Surveyor:
    """Wants nothing, and notes what it is asked about, until the graph is at its output."""

    def __init__(self, n_vocab: int, output: bool, experts: Experts) -> None:
        self.visits: list[str] = []
        self.rows: dict[str, int] = {}
        self.done = False
        self._n_vocab, self._output, self._experts = n_vocab, output, experts
        self._known: dict[tuple[object, ...], GramInput] = {}
        self._weights: set[str] = set()

    def inputs(self) -> Iterator[GramInput]:
        return iter(self._known.values())

    def wants(self, product: Product) -> bool:
        if not self.done and _counts(product, self._n_vocab, self._output):
            self._note(product)
        self.done = self.done or _is_output(product, self._n_vocab)
        return False

    def see(self, product: Product) -> bool:
        raise AssertionError(f"{product.weight} wasn't wanted")

    def _note(self, product: Product) -> None:
        weight, columns, routed = product.weight, product.input_shape[0], product.kind == "by expert"
        slots = product.input_shape[1] if routed else 1
        by_expert = routed and self._experts == "each"
        stacked = by_expert or (not routed and product.matrices > 1)
        # The input of a router is that of its experts, if each of these gets the same of a token.
        key = (product.root, columns) if not stacked and slots == 1 else (*product.key, by_expert)
        known = self._known.get(key)
        if weight not in self._weights:
            self._weights.add(weight)
            self._known[key] = GramInput(
                name=weight if known is None else known.name,
                weights=(weight,) if known is None else (*known.weights, weight),
                columns=columns,
                matrices=product.matrices if stacked else 1,
                by_expert=by_expert,
            )
            if known is None:
                self.rows[weight] = product.used if by_expert else product.matrices if stacked else slots
        if weight in self.rows:
            self.visits.append(weight)


class _Collector:
    """Adds up what it sees of the inputs of one pass."""

    def __init__(self, work: Pass, n_vocab: int, pool: ThreadPoolExecutor) -> None:
        self._work, self._n_vocab = work, n_vocab
        self._inputs = {it.name: it for it in work.inputs}
        self._stopping = Stop(work.last)
        self.sums = {it.name: _Sums(it, pool) for it in work.inputs}

    def weigh(self, weight: float) -> None:
        """What each token counts from now on."""
        for sums in self.sums.values():
            sums.weigh(weight)

    def wants(self, product: Product) -> bool:
        if _is_output(product, self._n_vocab) and not self._work.output:
            self._stopping.behind_all()
        wanted = product.weight in self._inputs and _counts(product, self._n_vocab, self._work.output)
        if wanted:
            self._stopping.wanted(product.weight)
        return wanted

    def see(self, product: Product) -> bool:
        sums, it = self.sums[product.weight], self._inputs[product.weight]
        values = product.inputs()
        if it.by_expert:
            self._see_experts(sums, values[0], product.chosen())
        elif it.matrices == 1:
            sums.add(0, values.reshape(-1, it.columns))
            sums.count(0, values.size // it.columns)
        else:
            _, _, ne2, ne3 = product.shape
            for i3 in range(values.shape[0]):
                for i2 in range(values.shape[1]):
                    sums.add(i3 % ne3 * ne2 + i2 % ne2, values[i3, i2])
            sums.count(0, values.size // it.columns // it.matrices)
        return not self._stopping.is_last(product.weight)

    @staticmethod
    def _see_experts(sums: _Sums, values: NDArray[np.float32], chosen: NDArray[np.int32]) -> None:
        used, slots = chosen.shape[1], values.shape[1]  # 1 slot where all experts of a token get the same
        experts = chosen.ravel()
        order = np.argsort(experts, kind="stable")
        found, starts = np.unique(experts[order], return_index=True)
        for expert, places in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
            sums.add(expert, values[places // used, places % used % slots])
            sums.count(expert, len(places))


@dataclass(slots=True)
class _Waiting:
    """Tokens of one matrix that aren't added yet."""

    rows: list[NDArray[np.float32]] = field(default_factory=list)
    count: int = 0


class _Sums:
    """Of one input: upper triangles, in bands of float64, and how many tokens there were."""

    def __init__(self, it: GramInput, pool: ThreadPoolExecutor) -> None:
        counts = it.matrices if it.by_expert else 1
        self.tokens = np.zeros(counts, np.int64)
        self.weighed = np.zeros(counts)
        self._it, self._pool, self._weight = it, pool, 1.0
        starts = range(0, it.columns, _BAND)
        # calloc: the memory of an expert that no token comes to is never touched
        self._bands = [
            [np.zeros((min(_BAND, it.columns - start), it.columns - start)) for start in starts]
            for _ in range(it.matrices)
        ]
        self._waiting = [_Waiting() for _ in range(it.matrices)]

    def weigh(self, weight: float) -> None:
        """What each token counts from now on."""
        if weight != self._weight:
            self.finish()
            self._weight = weight

    def count(self, place: int, tokens: int) -> None:
        self.tokens[place] += tokens
        self.weighed[place] += self._weight * tokens

    def add(self, matrix: int, rows: NDArray[np.float32]) -> None:
        """Add rows, float32 (tokens, columns), to a matrix; or keep a copy of them until there are more."""
        waiting = self._waiting[matrix]
        if not waiting.count and len(rows) >= _WAITING:
            self._multiply(matrix, np.ascontiguousarray(rows))
            return
        if not np.isfinite(rows).all():  # said while it is known which chunk they are of
            raise NotFiniteError(self._it.name)
        waiting.rows.append(np.array(rows, np.float32))
        waiting.count += len(rows)
        if waiting.count >= _WAITING:
            self._flush(matrix)

    def finish(self) -> None:
        """Add what waits."""
        for matrix, waiting in enumerate(self._waiting):
            if waiting.count:
                self._flush(matrix)

    def rows(self) -> Iterator[NDArray[np.float32]]:
        """The means: each row of each upper triangle, from the diagonal on."""
        for matrix, bands in enumerate(self._bands):
            weighed = self.weighed[matrix if len(self.weighed) > 1 else 0]
            for band in bands:
                for number, row in enumerate(band):
                    yield (row[number:] / weighed if weighed else row[number:]).astype(np.float32)

    def _flush(self, matrix: int) -> None:
        rows = np.concatenate(self._waiting[matrix].rows)
        self._waiting[matrix] = _Waiting()
        self._multiply(matrix, rows)

    def _multiply(self, matrix: int, rows: NDArray[np.float32]) -> None:
        factors: NDArray[np.float32] | NDArray[np.float64] = rows
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.isfinite(np.einsum("ij,ij->j", rows, rows)).all():
                # Large inputs, whose squares float32 doesn't hold; or none that are numbers.
                factors = rows.astype(np.float64)
                if not np.isfinite(factors).all():
                    raise NotFiniteError(self._it.name)
        bands = self._bands[matrix]

        def add(number: int) -> None:
            start = number * _BAND
            product = factors[:, start : start + _BAND].T @ factors[:, start:]
            if self._weight != 1:
                product = np.multiply(product, self._weight, dtype=np.float64)
            np.add(bands[number], product, out=bands[number])

        if len(bands) == 1:
            add(0)
        else:
            list(self._pool.map(add, range(len(bands))))


def _is_output(product: Product, n_vocab: int) -> bool:
    return product.kind == "product" and product.shape[1] == n_vocab and not product.weight.startswith("blk.")


def _counts(product: Product, n_vocab: int, output: bool) -> bool:
    """True for what an importance matrix has, too: see `calibration.collect`."""
    if product.kind != "product":
        return product.kind == "by expert"
    if product.input_shape[1] < FEWEST_TOKENS or not product.is_float32:
        return False
    return product.weight.startswith("blk.") or (output and _is_output(product, n_vocab))


def _speed(threads: int) -> float:
    """Multiplications and additions in a second, of products as they are computed for inputs."""
    tokens, columns = _TRIED
    rows = np.ones((tokens, columns), np.float32)

    def multiply(number: int) -> NDArray[np.float32]:
        product: NDArray[np.float32] = rows[:, :_BAND].T @ rows
        return product

    with ThreadPoolExecutor(threads) as pool:
        multiply(0)  # BLAS prepares itself
        begun = time.perf_counter()
        list(pool.map(multiply, range(2 * threads)))
        return 2 * threads * 2 * tokens * columns * _BAND / (time.perf_counter() - begun)
