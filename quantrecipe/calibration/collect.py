"""What a session's process does for an importance matrix: texts become tokens, tokens run, squares of inputs add up.

Which matrices are looked at, and how often each token counts, is llama-imatrix's way, so that counts equal its own:

    every matrix of a layer whose input has at least 16 tokens; for experts, each token for the experts that it goes to
    a stack of matrices that isn't by expert, such as MLA's attn_k_b: a vector for each, and one count for all

Here squares are added in float64 from one batch to the next, matrices with the same input share the work, and what
comes behind the last matrix that is looked at (the output, the largest of all in small models) isn't computed.

Source: llama.cpp, tools/imatrix/imatrix.cpp: collect_imatrix.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantrecipe.calibration.sums import DAMAGED, InputSums, SumsFile, write_sums
from quantrecipe.engine.first_tokens import first_tokens
from quantrecipe.engine.graph import Product
from quantrecipe.engine.language_model import LanguageModel
from quantrecipe.engine.session import Tell
from quantrecipe.errors import EvaluationError
from quantrecipe.texts.documents import Rendered

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tokens = NDArray[np.int32]

__all__ = [
    "FEWEST_TOKENS",
    "Another",
    "Change",
    "Collected",
    "Filling",
    "Group",
    "NotFiniteError",
    "Ran",
    "Refill",
    "Saved",
    "Stop",
    "Unusable",
    "Work",
    "collect",
    "fill_experts",
    "not_finite",
    "tokenize",
]

FEWEST_TOKENS = 16  # of an input: imatrix.cpp leaves smaller ones out
_GROWTH = 1.25  # of the tokens between two looks at how much the sums still change
_FIRST_LOOK = 2000  # tokens
_SMALLEST_SHARE = 20  # a save may take a twentieth of the time
_LOOKED_UP = " (looked up)"  # no model's tensor is called so


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
    run = _Run(model, work, tell)
    run.resume()
    return run.to_the_end()


def fill_experts(model: LanguageModel, filling: Filling, *, tell: Tell) -> int:
    """Run the groups for the experts that lack tokens, and put what they see into the file: how many got something.

    tell: hears `Ran`
    EvaluationError where the model doesn't give every token to every expert.
    """
    found = SumsFile.read(filling.path)
    if found is None:
        raise EvaluationError("the sums have vanished", file=filling.path)
    try:
        sums, means = found.sums(), found.means()
    except DAMAGED as error:
        raise EvaluationError("the sums are damaged: look at the disk", file=filling.path) from error
    few = {name: it.tokens < filling.least for name, it in sums.items() if len(it.tokens) > 1}
    collector = _Collector(model.n_vocab, only=frozenset(name for name, lacks in few.items() if lacks.any()))
    tokens = 0
    for number, group in enumerate(filling.groups):
        collector.weight = group.weight
        model.run(group.chunks, collector)
        tokens += group.chunks.size
        tell(Ran(groups=number + 1, tokens=tokens))
    filled = 0
    for name, new in collector.sums.items():
        lacks, own = few[name], sums[name]
        if (new.tokens != tokens).any():
            what = f"llama.cpp doesn't give every token to every expert of {name}, as its router chooses among groups"
            raise EvaluationError(what, "leave out --all-experts", file=model.path)
        for field in ("squares", "weighed", "tokens"):
            getattr(own, field)[lacks] = getattr(new, field)[lacks]
        filled += int(lacks.sum())
    # How many is written down, too: a run that is stopped before the matrix is written doesn't know it otherwise.
    write_sums(filling.path, sums, means, found.shared, found.about | {"filled": filled})
    return filled


class _Run:
    def __init__(self, model: LanguageModel, work: Work, tell: Tell) -> None:
        self._model, self._work, self._tell = model, work, tell
        self._collector = _Collector(model.n_vocab, output=work.output, embeddings=work.embeddings)
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
        self._collector.sums, self._collector.shared = sums, dict(found.shared)
        self._groups, self._tokens = found.about["groups"], found.about["tokens"]
        self._looks = _Looks.resumed(found.about["looks"], means)
        self._enough = found.about["enough"]
        self._complete = self._enough or self._groups == len(self._work.groups)
        self._tell(Saved(groups=self._groups, tokens=self._tokens, resumed=True))

    def to_the_end(self) -> Collected:
        if not self._complete:  # else the file stays as it is: experts may have been filled in it
            self._run_groups()
            self._save()
        return Collected(
            groups=self._groups, tokens=self._tokens, change=self._looks.last, enough=self._enough
        )

    def _run_groups(self) -> None:
        work, saved = self._work, time.monotonic()
        pause = work.every
        for group in work.groups[self._groups :]:
            self._collector.weight = group.weight
            self._model_run(group.chunks)
            self._groups += 1
            self._tokens += group.chunks.size
            self._tell(Ran(groups=self._groups, tokens=self._tokens))
            if self._looks.due(self._tokens):
                change = self._looks.look(self._collector.sums, self._tokens)
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
        by_expert = [it for it in self._collector.sums.values() if len(it.tokens) > 1]
        return all((it.tokens >= self._work.experts).all() for it in by_expert)

    def _model_run(self, chunks: Tokens) -> None:
        try:
            self._model.run(chunks, self._collector)
        except NotFiniteError as error:
            raise not_finite(self._model, self._work.groups, self._groups, error.weight) from None

    def _save(self) -> None:
        about = {
            "told": self._work.about,
            "groups": self._groups,
            "tokens": self._tokens,
            "looks": self._looks.to_json(),
            "enough": self._enough,
        }
        found = self._collector
        write_sums(self._work.path, found.sums, self._looks.means, found.shared, about)
        self._tell(Saved(groups=self._groups, tokens=self._tokens, resumed=False))


def not_finite(model: LanguageModel, groups: Sequence[Group], number: int, weight: str) -> EvaluationError:
    """Run the chunks of a group one by one, to say where the input of a matrix isn't finite."""
    first, chunks = sum(len(group.chunks) for group in groups[:number]), groups[number].chunks
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


class _Collector:
    """Adds up what it sees. `weight` is what each token counts from now on."""

    def __init__(
        self,
        n_vocab: int,
        *,
        output: bool = False,
        embeddings: bool = False,
        only: frozenset[str] | None = None,
    ) -> None:
        """only: weights by expert that are looked at, and nothing else is."""
        self.sums: dict[str, InputSums] = {}
        self.shared: dict[str, str] = {}
        self.weight = 1.0
        self._n_vocab, self._output, self._embeddings, self._only = n_vocab, output, embeddings, only
        self._leader: tuple[str, tuple[int | None, ...]] | None = (
            None  # the last that was wanted, and its inputs
        )
        self._stopping = Stop()

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
        return self.shared.setdefault(weight, weight + _LOOKED_UP) != weight

    def _share(self, weight: str, leader: str) -> None:
        if self.shared.get(weight) == weight + _LOOKED_UP:
            # Embeddings that are the output matrix, too: what they are multiplied with counts, as quantizers use it.
            del self.shared[weight]
            self.sums.pop(weight + _LOOKED_UP, None)
        if self.shared.setdefault(weight, leader) != leader:
            raise EvaluationError(
                f"llama.cpp gives {weight} the input of {leader} now, and that of {self.shared[weight]} before",
                "please report the model's architecture",
            )

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
        sums = self.sums.get(name)
        if sums is None:
            sums = InputSums.zeros(product.matrices, product.input_shape[0], counts)
            self.sums[name] = sums
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

    def __init__(self, learned: tuple[int, str] | None = None) -> None:
        """learned: how many are wanted, and the last of them, if that is known already."""
        self._wanted = 0
        self._last = ""
        self._learned = learned

    def wanted(self, weight: str) -> None:
        """One is wanted, and will be seen."""
        self._wanted += 1
        self._last = weight

    def behind_all(self) -> None:
        """The graph has come to the output matrix."""
        if self._wanted and self._learned is None:
            self._learned = (self._wanted, self._last)
        self._wanted = 0

    def is_last(self, weight: str) -> bool:
        """True if this one, which was seen, is the last that is wanted of its graph."""
        if self._learned != (self._wanted, weight):
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
