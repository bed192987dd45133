"""Collector: the inputs of a graph's matrices, seen as it is computed, as sums of squares.

Which matrices are looked at, and how often each token counts, is llama-imatrix's way, so that counts equal its own:

    every matrix of a layer whose input has at least 16 tokens; for experts, each token for the experts that it goes to
    a stack of matrices that isn't by expert, such as MLA's attn_k_b: a vector for each, and one count for all

Here squares are added in float64 from one batch to the next, matrices with the same input share the work, and what
comes behind the last matrix that is looked at (the output, the largest of all in small models) isn't computed.

Batches are added up to groups, and groups, one after the other, to the whole (`Total`). Sums of float64 depend on where
the brackets are, and so these are always the same, whichever process has computed which group.

Source: llama.cpp, tools/imatrix/imatrix.cpp: collect_imatrix.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from quantrecipe.calibration.sums import InputSums
from quantrecipe.engine.graph import Product
from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Tokens = NDArray[np.int32]

__all__ = [
    "FEWEST_TOKENS",
    "Collector",
    "GroupSums",
    "Learned",
    "NotFiniteError",
    "Stop",
    "Total",
    "not_finite",
]

FEWEST_TOKENS = 16  # of an input: imatrix.cpp leaves smaller ones out
_LOOKED_UP = " (looked up)"  # no model's tensor is called so

Learned: TypeAlias = "tuple[int, str]"
"""How many inputs of a graph are wanted, and the last of them: nothing behind it need be computed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupSums:
    """What a group of chunks gave.

    sums:    by the name of the weight that was seen first with an input
    shared:  by the name of each weight, the name of the sum that it has
    learned: None where no graph was computed as a whole yet
    """

    sums: Mapping[str, InputSums]
    shared: Mapping[str, str]
    learned: Learned | None


@dataclass(slots=True)
class Total:
    """Sums of groups; the fields are those of GroupSums."""

    sums: dict[str, InputSums] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)

    def add(self, group: GroupSums) -> None:
        """Add what a group gave, the groups in their order. EvaluationError where it contradicts those before."""
        for weight, leader in group.shared.items():
            if self.shared.get(weight) != weight or leader != weight + _LOOKED_UP:
                self.share(weight, leader)
        for name in dict.fromkeys(self.shared.values()):
            if (new := group.sums.get(name)) is None:
                continue
            if (old := self.sums.get(name)) is None:  # a copy: what comes from elsewhere may be read-only
                self.sums[name] = InputSums(new.squares.copy(), new.weighed.copy(), new.tokens.copy())
            else:
                old.squares += new.squares
                old.weighed += new.weighed
                old.tokens += new.tokens

    def share(self, weight: str, leader: str) -> None:
        """Note that a weight has the sum of this name. EvaluationError where it had another one."""
        if self.shared.get(weight) == weight + _LOOKED_UP and leader != self.shared[weight]:
            # Embeddings that are the output matrix, too: what they are multiplied with counts, as quantizers use it.
            del self.shared[weight]
            self.sums.pop(weight + _LOOKED_UP, None)
        if self.shared.setdefault(weight, leader) != leader:
            raise EvaluationError(
                f"llama.cpp gives {weight} the input of {leader} now, and that of {self.shared[weight]} before",
                "please report the model's architecture",
            )


def not_finite(model: LanguageModel, chunks: Tokens, first: int, weight: str) -> EvaluationError:
    """Run chunks one by one, to say where the input of a matrix isn't finite. first: how many there are before them."""
    for place, chunk in enumerate(chunks):
        found = _Place(weight)
        model.run(chunk[None], found)
        if found.token is not None:
            where = f"chunk {first + place + 1}, token {found.token + 1}"
            break
    else:  # side by side with others only
        where = f"chunks {first + 1} to {first + len(chunks)}"
    return EvaluationError(
        f"the input of {weight} is NaN or Inf ({where}): the model is broken, or llama.cpp computes it wrongly",
        "`quantrecipe verify` looks into the weights; what was saved before is kept",
        file=model.path,
    )


class NotFiniteError(Exception):
    """An input of this weight is NaN or Inf."""

    def __init__(self, weight: str) -> None:
        super().__init__(weight)
        self.weight = weight


class Collector:
    """Adds up what it sees, until somebody takes it. `weight` is what each token counts from now on."""

    def __init__(
        self,
        n_vocab: int,
        *,
        output: bool = False,
        embeddings: bool = False,
        only: frozenset[str] | None = None,
        learned: Learned | None = None,
    ) -> None:
        """only:    weights by expert that are looked at, and nothing else is
        learned: by another collector, with the same model and the same wishes
        """
        self._total = Total()
        self.weight = 1.0
        self._n_vocab, self._output, self._embeddings, self._only = n_vocab, output, embeddings, only
        self._leader: tuple[str, tuple[int | None, ...]] | None = (
            None  # the last that was wanted, and its inputs
        )
        self._stopping = Stop(learned)

    def take(self) -> GroupSums:
        """What was seen since the last time. The next starts at nothing."""
        total, self._total = self._total, Total()
        self._leader = None  # its sum goes away
        return GroupSums(sums=total.sums, shared=total.shared, learned=self._stopping.learned)

    def wants(self, product: Product) -> bool:
        if not self._counts(product):
            return False
        if product.kind == "lookup":
            return self._wants_lookup(product.weight)
        if self._leader is not None and self._leader[1] == product.key:
            self._share(product.weight, self._leader[0])
            return False
        self._leader = (product.weight, product.key)
        self._share(product.weight, product.weight)
        self._stopping.wanted(product.weight)
        return True

    def see(self, product: Product) -> bool:
        if product.kind == "by expert":
            self._see_experts(product)
        else:
            self._see_all(product)
        if self._stopping.is_last(product.weight):
            self._leader = None  # what comes next is another graph, with other inputs where these were
            return False
        return True

    def _counts(self, product: Product) -> bool:
        """True for what llama-imatrix looks at, and what was asked for beyond."""
        if product.kind == "lookup":
            return self._embeddings and product.weight == "token_embd.weight"
        if product.kind == "by expert":
            return self._only is None or product.weight in self._only
        is_output = product.shape[1] == self._n_vocab and not product.weight.startswith("blk.")
        if is_output and not self._output:
            self._leader = None
            self._stopping.behind_all()
        if self._only is not None or product.input_shape[1] < FEWEST_TOKENS or not product.is_float32:
            return False
        return product.weight.startswith("blk.") or (is_output and self._output)

    def _wants_lookup(self, weight: str) -> bool:
        """True unless it is known by now that the embeddings are the output matrix as well."""
        self._leader = None
        return self._total.shared.setdefault(weight, weight + _LOOKED_UP) != weight

    def _share(self, weight: str, leader: str) -> None:
        self._total.share(weight, leader)

    def _see_all(self, product: Product) -> None:
        values = product.inputs()
        matrices, rows = product.matrices, values.shape[0] * values.shape[1] * values.shape[2]
        sums = self._sums(product, counts=1)
        if matrices == 1:
            self._add(sums, 0, values.reshape(-1, values.shape[-1]), product.weight)
        else:
            _, _, ne2, ne3 = product.shape
            for i3 in range(values.shape[0]):
                for i2 in range(values.shape[1]):
                    self._add(sums, i3 % ne3 * ne2 + i2 % ne2, values[i3, i2], product.weight)
        self._count(sums, 0, rows // matrices)

    def _see_experts(self, product: Product) -> None:
        values, chosen = product.inputs()[0], product.chosen()
        sums = self._sums(product, counts=product.matrices)
        used = chosen.shape[1]
        experts = chosen.ravel()
        order = np.argsort(experts, kind="stable")
        found, starts = np.unique(experts[order], return_index=True)
        slots = values.shape[1]  # 1 where all experts of a token get the same
        for expert, places in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
            self._add(sums, expert, values[places // used, places % used % slots], product.weight)
            self._count(sums, expert, len(places))

    def _sums(self, product: Product, *, counts: int) -> InputSums:
        name = product.weight + _LOOKED_UP if product.kind == "lookup" else product.weight
        sums = self._total.sums.get(name)
        if sums is None:
            sums = InputSums.zeros(product.matrices, product.input_shape[0], counts)
            self._total.sums[name] = sums
        return sums

    def _add(self, sums: InputSums, matrix: int, rows: NDArray[np.float32], weight: str) -> None:
        squares = np.einsum("ij,ij->j", rows, rows)
        if not np.isfinite(squares).all():
            squares = np.einsum(
                "ij,ij->j", rows, rows, dtype=np.float64
            )  # large inputs, or none that are numbers
            if not np.isfinite(squares).all():
                raise NotFiniteError(weight)
        sums.squares[matrix] += squares if self.weight == 1 else self.weight * squares.astype(np.float64)

    def _count(self, sums: InputSums, place: int, tokens: int) -> None:
        sums.tokens[place] += tokens
        sums.weighed[place] += self.weight * tokens


class Stop:
    """Says when the last matrix that is wanted was seen, so that nothing behind it need be computed.

    Learned from a graph that was computed as a whole: how many are wanted before the output matrix, and the last of
    them. Where the output isn't a matrix as large as the vocabulary nothing is learned, and all is computed.
    """

    def __init__(self, learned: Learned | None = None) -> None:
        """learned: how many are wanted, and the last of them, if that is known already."""
        self._wanted = 0
        self._last = ""
        self.learned = learned

    def wanted(self, weight: str) -> None:
        """One is wanted, and will be seen."""
        self._wanted += 1
        self._last = weight

    def behind_all(self) -> None:
        """The graph has come to the output matrix."""
        if self._wanted and self.learned is None:
            self.learned = (self._wanted, self._last)
        self._wanted = 0

    def is_last(self, weight: str) -> bool:
        """True if this one, which was seen, is the last that is wanted of its graph."""
        if self.learned != (self._wanted, weight):
            return False
        self._wanted = 0
        return True


class _Place:
    """Finds the first token whose input to a matrix isn't finite."""

    def __init__(self, weight: str) -> None:
        self.token: int | None = None
        self._weight, self._seen = weight, 0

    def wants(self, product: Product) -> bool:
        return self.token is None and product.weight == self._weight and product.is_float32

    def see(self, product: Product) -> bool:
        values = product.inputs()
        by_token = np.moveaxis(values, 1 if product.kind == "by expert" else 2, 0)
        broken = np.flatnonzero(~np.isfinite(by_token.reshape(len(by_token), -1)).all(axis=1))
        if len(broken):
            self.token = self._seen + int(broken[0])
        self._seen += len(by_token)
        return True
