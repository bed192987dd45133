"""Corrected: the estimate, as far as measured mixes have corrected it; and the mixes that follow from it.

Alphas of a group get a factor, by what its slope did beside what was expected. Types that do more than they were
measured to are dropped.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from quantrecipe.api import FormatSpec
from quantrecipe.fit.frozen_recipe import Frozen
from quantrecipe.fit.mixer import Mixer
from quantrecipe.plan.plan import Plan
from quantrecipe.sensitivity.sensitivity import Sensitivity, frozen

__all__ = ["Corrected", "Group", "Move", "Types"]

STAKE = 0.02
"""Share of the loss below which the slope of a group isn't asked for."""
SPREAD = 0.25
"""How far alphas of a group are expected to be off, in logarithms: what noise of a slope is held against."""
TYPES = 0.15
"""How far a slope may be off for the types alone that it was asked with, in logarithms."""
FURTHEST = math.log(4)
"""How far one slope may move the alphas of a group."""
MOST_MOVES = 64
"""Tensors that exchanges are made of, on either side; those with the most to gain, or the least to lose."""

Types = dict[str, str]
Group = tuple[str, Sequence[str]]
"""What it is called, and its tensors."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Move:
    """One tensor in a neighbour of its type. uses: what it takes more of each limit."""

    loss: float
    name: str
    type: str
    uses: tuple[int, ...]


class Corrected:
    """What types cost tensors that are open, as it is known by now."""

    def __init__(self, mixer: Mixer, sensitivity: Sensitivity) -> None:
        self._mixer, self._sensitivity = mixer, sensitivity
        self._open: Mapping[str, Sequence[FormatSpec]] = {
            name: [it.choice.format.spec for it in its] for name, its in mixer.open_types().items()
        }
        self._specs = {name: fmt.spec for name, fmt in mixer.registry.formats.items()}
        self._tensors = {tensor.name: tensor for tensor in mixer.model.tensors}
        self._factors: dict[str, float] = {}
        self._dropped: set[str] = set()

    def types_of(self, plan: Plan) -> Types:
        """The types of the tensors that are open, by name."""
        return {a.tensor.name: a.format.spec.name for a in plan.assignments if a.tensor.name in self._open}

    def loss(self, name: str, type_: str) -> float:
        """What a type costs a tensor."""
        return self._mixer.losses.of(name, self._specs[type_]) * self._factors.get(name, 1.0)

    def expected(self, types: Types) -> float:
        """What a mix loses."""
        return math.fsum(self.loss(name, type_) for name, type_ in types.items())

    def refitted(self, *without: str) -> Frozen:
        """The best mix, without what was dropped and these types. PlanError where that leaves nothing to choose."""
        left = tuple(name for name in self._mixer.types if name not in self._dropped and name not in without)
        tensors = {
            name: replace(it, alpha=it.alpha * self._factors.get(name, 1.0))
            for name, it in self._sensitivity.tensors.items()
        }
        known = replace(self._sensitivity, tensors=frozen(tensors))
        return replace(self._mixer, types=left).fitted(known)[1]

    def drop(self, type_: str) -> None:
        """Offer this type no more."""
        self._dropped.add(type_)

    def correct(self, names: Sequence[str], change: float, error: float, expected: float) -> None:
        """Learn what a group did: the change that was measured, its standard error, and what was expected.

        Of a noisy one little is believed; one of the wrong sign says "next to nothing".
        """
        noise = math.hypot(error / max(abs(change), 1e-12), TYPES)
        trust = SPREAD**2 / (SPREAD**2 + noise**2)
        by = trust * math.log(max(change / expected, 1e-3))
        factor = math.exp(max(-FURTHEST, min(FURTHEST, by)))
        for name in names:
            self._factors[name] = self._factors.get(name, 1.0) * factor

    def moved(self, names: Sequence[str], types: Types) -> tuple[str, Types]:
        """These tensors in the next cheaper types, or the next better ones where none is cheaper; "down" or "up"."""
        down, up = (
            {name: step for name in names if (step := self._next(name, types[name], cheaper=cheaper))}
            for cheaper in (True, False)
        )
        return ("down", down) if down else ("up", up)

    def exchanges(self, types: Types, room: Sequence[int]) -> Iterator[tuple[Move, ...]]:
        """One tensor up, and another one down where that is needed, those first that should gain most.

        room: what is left of each limit
        """
        moves = [self._move(name, types[name], cheaper) for name in self._open for cheaper in (False, True)]
        ups = sorted(move for move in moves if move is not None and move.loss < 0)[:MOST_MOVES]
        downs = sorted(move for move in moves if move is not None and move.loss > 0)[:MOST_MOVES]
        pairs: list[tuple[Move, ...]] = [(one,) for one in ups]
        pairs += [(one, other) for one in ups for other in downs if one.name != other.name]
        for pair in sorted(pairs, key=lambda it: (sum(move.loss for move in it), it)):
            if all(sum(move.uses[b] for move in pair) <= left for b, left in enumerate(room)):
                yield pair

    def roles(self, types: Types) -> list[Group]:
        """The roles with something at stake, the most first."""
        roles: dict[str, list[str]] = {}
        for tensor in self._mixer.model.tensors:
            if tensor.name in self._open:
                roles.setdefault(tensor.role, []).append(tensor.name)
        return self._worth_asking(list(roles.items()), types)

    def halves(self, types: Types) -> list[Group]:
        """The same of the first and the last layers of each role."""
        found = []
        for role, names in self.roles(types):
            middle = (len(names) + 1) // 2
            if len(names) > 3:
                found += [(f"{role}, first layers", names[:middle]), (f"{role}, last layers", names[middle:])]
        return self._worth_asking(found, types)

    def _worth_asking(self, groups: Collection[Group], types: Types) -> list[Group]:
        stakes = {name: self.loss(name, type_) for name, type_ in types.items()}
        least = STAKE * sum(stakes.values())
        staked = [(sum(stakes[name] for name in names), what, names) for what, names in groups]
        staked.sort(key=lambda it: (-it[0], it[1]))
        return [(what, names) for stake, what, names in staked if stake >= least]

    def _move(self, name: str, type_: str, cheaper: bool) -> Move | None:
        other = self._next(name, type_, cheaper=cheaper)
        if not other:
            return None
        tensor = self._tensors[name]
        before, after = (self._specs[it].tensor_bytes(tensor.shape) for it in (type_, other))
        return Move(
            loss=self.loss(name, other) - self.loss(name, type_),
            name=name,
            type=other,
            uses=tuple(
                meter.takes(tensor, after, other) - meter.takes(tensor, before, type_)
                for meter in self._mixer.rules.limits
            ),
        )

    def _next(self, name: str, type_: str, *, cheaper: bool) -> str:
        """The neighbour of a tensor's type: of those that take less and lose more, or the other way round; or ""."""
        sign = 1 if cheaper else -1
        shape = self._tensors[name].shape
        size, loss = self._specs[type_].tensor_bytes(shape), self.loss(name, type_)
        found = [
            (sign * (size - it.tensor_bytes(shape)), self.loss(name, it.name), it.name)
            for it in self._open[name]
            if it.name not in self._dropped
        ]
        # Of those of one size the best; then the nearest size.
        return min((it for it in found if it[0] > 0 and sign * (it[1] - loss) > 0), default=(0, 0.0, ""))[2]
