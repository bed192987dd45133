"""Probing: which probe tells the most next, what it did, and what follows for every tensor; see `probe`.

A probe reads a part of the text. What it says of an alpha is off by some per cent for that, and by more for its type:
errors of a type go together in a tensor's rows, more or less than another's. So a group is asked for again with another
type and another part of the text, before all of the text is read with one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from quantrecipe.analyses.posterior import ADDITIVITY, Observation, Posterior, covariance, solve
from quantrecipe.api import Effect, Study
from quantrecipe.tensor import TensorInfo

__all__ = ["FAINTEST_LOSS", "STRONGEST", "Probing"]

Group = tuple[int, ...]
"""Numbers of tensors that are rounded together."""

Evaluate = Callable[[Mapping[str, str], int], Effect]
"""What these types do, on the part of the text that has this number."""

LOSS = 0.02
"""D that a probe gives its tensors, about Q3_K's: far above noise, and small enough for effects to add up."""
FAINTEST, STRONGEST = 2e-5, 0.1
"""Effects, in nats, between which a probe is meant to lie: above what engines round, below where output saturates."""
FAINTEST_LOSS = 1e-4
"""D of what a probe may give; below, what the engine itself rounds may be in the way, if the base is in Q8_0."""
STAKE = 0.005
"""D at which tensors are compared when the next probe is chosen, about Q4_K's: what budgets come to."""
NOISES = ("IQ2_XS", "IQ2_S", "IQ3_XXS", "Q3_K", "IQ4_XS", "Q4_K", "Q5_K")
"""Types whose error is noise, and next to nothing goes along with the weights, so that an effect per unit of loss in
one of them holds for others. By MXFP4, the tied embedding of the example model seems to matter a quarter less."""
LEAST_NOISE = 0.02
"""Relative; standard errors know nothing of another text."""
TYPE_NOISE = 0.1
"""Relative: the effect of a unit of loss in one type, beside its mean over types, for a single tensor. Of 28 matrices
of the example model in seven types: 0.12 where one of them is compared with the others' mean."""


@dataclass(slots=True)
class _State:
    """How far probing is.

    number: of the probe that comes next
    left:   groups that may be asked for, and `later` those that come when each of the first was
    asked:  the types that each group had
    found:  what follows from what was `seen`
    """

    left: list[Group]
    later: list[Group]
    first: int
    found: Posterior
    number: int = 0
    asked: dict[Group, list[dict[str, str]]] = field(default_factory=dict)
    seen: list[Observation] = field(default_factory=list)

    def copy(self) -> _State:
        asked = {group: list(types) for group, types in self.asked.items()}
        return replace(self, left=list(self.left), asked=asked, seen=list(self.seen))


@dataclass(slots=True)
class Probing:
    """Probes one group of tensors after the other.

    evaluate: what these types do, on the part of the text that has this number
    """

    study: Study
    evaluate: Evaluate
    _prior: NDArray[np.float64] = field(init=False)
    _k: NDArray[np.float64] = field(init=False)

    def run(self) -> Posterior:
        tensors = self.study.tensors
        self._prior = np.array([self.study.prior[t.name] for t in tensors])
        self._k = covariance(tensors, self.study.doubt, self.study.n_layers)
        most = self.study.probes * self.study.parts
        left, later = list(_roles(tensors)), list(_finer(tensors))
        if most >= len(tensors):  # enough to ask for each by itself
            left, later = [(number,) for number in range(len(tensors))], []
        state = _State(left=left, later=later, first=len(left), found=solve(self._prior, self._k, []))
        while state.number < most:
            self.study.progress("probes", state.number / most)
            if self.study.expect is not None:
                self.study.expect(self._likely(state.copy(), most))
            if not self._step(state, self.evaluate):
                break
        self.study.progress("probes", 1.0)
        return state.found

    def _step(self, state: _State, evaluate: Evaluate) -> bool:
        """Probe the group that tells most; False where none is left."""
        if state.number == state.first:
            state.left = state.later + [group for group in state.asked if self._may_again(state, group)]
        if not state.left:
            return False
        group = state.left.pop(self._most_telling(state.left, state.found))
        state.seen.append(self._probe(state, group, evaluate))
        if state.number >= state.first and self._may_again(state, group):
            state.left.append(group)
        state.found = solve(self._prior, self._k, state.seen)
        state.number += 1
        return True

    def _likely(self, state: _State, most: int) -> Iterator[tuple[Mapping[str, str], int | None]]:
        """What comes next, if each probe does what is expected of it."""
        asks: list[tuple[Mapping[str, str], int | None]] = []

        def guess(types: Mapping[str, str], number: int) -> Effect:
            asks.append((types, number if self.study.parts > 1 else None))
            return Effect(kld=state.found.expected(self._losses(types)), standard_error=0.0)

        while state.number < most and self._step(state, guess):
            yield asks.pop()

    def _may_again(self, state: _State, group: Group) -> bool:
        """There is a part of the text that it wasn't asked on, and a type that none of its tensors had."""
        asked = state.asked[group]
        return len(asked) < self.study.parts and all(self._types_left(i, asked) for i in group)

    def _probe(self, state: _State, group: Group, evaluate: Evaluate) -> Observation:
        before = state.asked.setdefault(group, [])
        types = self._types(group, state.found, before)
        losses = self._losses(types)
        effect = evaluate(types, len(before))
        before.append(types)
        kld = max(effect.kld, effect.standard_error, 1e-9)  # what is lost in noise is at most that
        noise = math.hypot(effect.standard_error / kld, LEAST_NOISE, _type_noise(group))
        return Observation(losses=losses, effect=kld, noise=noise)

    def _types(self, group: Group, found: Posterior, before: Sequence[Mapping[str, str]]) -> dict[str, str]:
        """Types near LOSS, stronger or gentler where the effect would be too faint or too strong."""
        wanted = LOSS
        for _ in range(4):
            types = {self.study.tensors[i].name: self._nearest(i, wanted, before) for i in group}
            expected = found.expected(self._losses(types))
            if expected > STRONGEST:
                wanted *= STRONGEST / expected
            elif expected < FAINTEST:
                wanted = min(0.1, wanted * FAINTEST / max(expected, 1e-12))
            else:
                break
        return types

    def _nearest(self, i: int, wanted: float, asked: Sequence[Mapping[str, str]]) -> str:
        known = self._types_left(i, asked)
        return min(known, key=lambda type_: (abs(math.log(known[type_] / wanted)), type_))

    def _types_left(self, i: int, asked: Sequence[Mapping[str, str]]) -> dict[str, float]:
        """D by type, of those that probes give a tensor and that it hasn't had."""
        name = self.study.tensors[i].name
        losses = self.study.losses[name]
        known = {type_: d for type_, d in losses.items() if d > FAINTEST_LOSS}
        known = {type_: d for type_, d in known.items() if type_ in NOISES} or known
        return {type_: d for type_, d in known.items() if type_ not in {types[name] for types in asked}}

    def _losses(self, types: Mapping[str, str]) -> NDArray[np.float64]:
        return np.array(
            [self.study.losses[t.name][types[t.name]] if t.name in types else 0.0 for t in self.study.tensors]
        )

    def _most_telling(self, groups: Sequence[Group], found: Posterior) -> int:
        """The group whose probe would lower Σ stake × variance most."""
        stakes = found.alpha * STAKE
        slopes = np.zeros((len(groups), len(stakes)))
        for number, group in enumerate(groups):
            members = list(group)
            slopes[number, members] = stakes[members] / stakes[members].sum()
        spread = slopes @ found.covariance
        noise = LEAST_NOISE**2 + np.array(
            [_type_noise(group) ** 2 + (ADDITIVITY**2 if len(group) > 1 else 0.0) for group in groups]
        )
        gains = (np.square(spread) @ stakes) / ((spread * slopes).sum(axis=1) + noise)
        return int(np.argmax(gains))


def _type_noise(group: Group) -> float:
    return TYPE_NOISE / math.sqrt(len(group))


def _roles(tensors: Sequence[TensorInfo]) -> Iterator[Group]:
    """A group for each role, with the tensors of all layers."""
    by_role: dict[str, list[int]] = defaultdict(list)
    for number, tensor in enumerate(tensors):
        by_role[tensor.role].append(number)
    return (tuple(members) for members in by_role.values())


def _finer(tensors: Sequence[TensorInfo]) -> Iterator[Group]:
    """Each role's halves, quarters, … down to single layers; and the same runs of layers with all roles together."""
    runs: list[Group] = []
    for members in _roles(tensors):
        parts = [members]
        while parts:
            halves = [half for part in parts if len(part) > 1 for half in _halves(part)]
            runs += halves
            parts = halves
    yield from runs
    layers = sorted({tensor.layer for tensor in tensors if tensor.layer is not None})
    parts = [tuple(layers)]
    while parts:
        parts = [half for part in parts if len(part) > 1 for half in _halves(part)]
        for part in parts:
            yield tuple(number for number, tensor in enumerate(tensors) if tensor.layer in part)


def _halves(group: Group) -> tuple[Group, Group]:
    middle = (len(group) + 1) // 2
    return group[:middle], group[middle:]
