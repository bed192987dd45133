"""search: mixes are tried on a text, in the model that stays open, and what they do says where to go on.

An estimate is good to some per cent where everything was probed, and its optimum has the errors of the estimate in its
favour. A mix in the open model costs one pass over the text and no file, so the choice is made by measurement:

    1. what was fitted, and the presets that rival it
    2. others near the optimum: the best mixes without one of the types that the best one has
    3. exchanges: one tensor up, another one down, those first that should gain most
    4. slopes: from the best mix so far, one role after the other is moved to its next cheaper types, later halves of
       roles. What that does, beside what was expected, corrects the alphas of the role. Such a mix is a question: it
       needn't keep the limits. After each round comes the best mix by the corrected alphas

All are compared with the best mix so far on the same blocks of the text, and one takes its place if it is better by
more than `SURE` standard errors of the paired difference. The search ends when everything that should be worth it was
tried, or evaluations or time are used up. What was evaluated before costs nothing: see `measure.prober`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from quantrecipe.api import FormatSpec
from quantrecipe.errors import EvaluationError, PlanError
from quantrecipe.evaluate.resampling import FEWEST_BLOCKS
from quantrecipe.fit.fit import Fitted, with_mix
from quantrecipe.fit.frozen_recipe import Frozen
from quantrecipe.fit.mixer import Mixer, wrapped
from quantrecipe.fit.stock import estimated_loss, mix_of, rivals
from quantrecipe.fit.tried import Effort, Search, Tried, search_text
from quantrecipe.measure.mixed import Mixed, paired
from quantrecipe.plan.plan import Plan
from quantrecipe.sensitivity.prior import estimate
from quantrecipe.sensitivity.sensitivity import Sensitivity, frozen

__all__ = ["SURE", "search"]

SURE = 2.0
"""Standard errors of a paired difference that a mix has to be better by."""
PRESETS = 3
"""Presets that are tried, those that should lose least."""
HOPELESS = 4
"""Exchanges in a row that gain nothing, after which there are no more."""
STAKE = 0.02
"""Share of the loss below which the slope of a group isn't asked for."""
SPREAD = 0.25
"""How far alphas of a group are expected to be off, in logarithms: what noise of a slope is held against."""
TYPES = 0.15
"""How far a slope may be off for the types alone that it was asked with, in logarithms."""
NEAR = 1.15
"""How much more than the best mix another one may be expected to lose, to be worth a try."""
MOST_MOVES = 64
"""Tensors that exchanges are made of, on either side; those with the most to gain, or the least to lose."""
FURTHEST = math.log(4)
"""How far one slope may move the alphas of a group."""

Evaluate = Callable[[Plan, str], Mixed]
"""What a plan does to the output, and the name that it goes by."""
Types = dict[str, str]
Key = tuple[tuple[str, str], ...]
"""Types in an order, by which a mix is known again."""
Group = tuple[str, Sequence[str]]
"""What it is called, and its tensors."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Mixture:
    """A mix that was tried."""

    what: str
    types: Types
    plan: Plan
    found: Mixed


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class _Move:
    """One tensor in a neighbour of its type. uses: what it takes more of each limit."""

    loss: float
    name: str
    type: str
    uses: tuple[int, ...]


class _UsedUp(Exception):  # noqa: N818  # no error, but an end
    """No evaluation is left, or no time."""


def search(
    fitted: Fitted,
    evaluate: Evaluate,
    effort: Effort,
    *,
    text: str,
    sensitivity: Sensitivity | None = None,
) -> Fitted:
    """The best mix that was measured, with all that was tried. `sensitivity`: by which `fitted` was chosen.

    EvaluationError where the text is too short to tell mixes apart, PlanError for types that can't be tried.
    """
    mixer = fitted.mixer
    for name in mixer.types:
        if mixer.registry.formats[name].spec.companion is not None:
            what = f"{name} keeps factors in a tensor of its own, which the open model has no place for"
            raise PlanError(what, "leave it out of --types, or try no mixes: --evaluations 0")
    searching = _Searching(fitted, evaluate, effort, sensitivity or estimate(mixer.model, mixer.registry))
    ended = searching.run()
    return searching.settled(text, ended)


class _Searching:
    def __init__(self, fitted: Fitted, evaluate: Evaluate, effort: Effort, sensitivity: Sensitivity) -> None:
        self._fitted, self._evaluate, self._effort = fitted, evaluate, effort
        self._sensitivity = sensitivity
        self._mixer: Mixer = fitted.mixer
        self._open: Mapping[str, Sequence[FormatSpec]] = {
            name: [it.choice.format.spec for it in its] for name, its in self._mixer.open_types().items()
        }
        self._specs = {name: fmt.spec for name, fmt in self._mixer.registry.formats.items()}
        self._tensors = {tensor.name: tensor for tensor in self._mixer.model.tensors}
        self._began = effort.clock()
        self._tried: list[Tried] = []
        self._asked: dict[Key, _Mixture] = {}
        self._refused: set[Key] = set()
        self._presets: list[_Mixture] = []
        self._factors: dict[str, float] = {}
        self._dropped: set[str] = set()  # types that do more than they were measured to
        self._frozen = self._mixer.with_types(_types_of(fitted.fitted_plan, self._open), fitted.spending)
        self._best = self._made("fitted", self._frozen.plan)
        self._begin()

    def run(self) -> str:
        """Why it ended."""
        try:
            self._try_presets()
            self._without_types()
            self._exchanges()
            self._round(self._roles())
            self._round(self._halves())
            self._exchanges()
        except _UsedUp as end:
            return str(end)
        return "nothing is left that should be worth a try"

    def settled(self, text: str, ended: str) -> Fitted:
        """What comes of it: the mix, or the preset where that isn't surely worse."""
        best, made, fitted = self._best, self._frozen, self._fitted
        preset = min(self._presets, key=lambda it: it.found.kld, default=None)
        change, error = (0.0, 0.0) if preset is None else paired(best.found, preset.found)
        found = Search(
            text=text,
            positions=best.found.positions,
            tried=tuple(self._tried),
            best=best.what,
            kld=best.found.kld,
            preset=None if preset is None else preset.what,
            preset_kld=None if preset is None else preset.found.kld,
            change=change,
            error=error,
            ended=ended,
        )
        mix = next((it for it in fitted.rivals if it.name == found.preset), None)
        return with_mix(
            fitted,
            made,
            mix if change >= -SURE * error else None,
            why="on the search text nothing that was tried is surely better",
            found=found,
            comments=wrapped(search_text(found)),
        )

    def _begin(self) -> None:
        blocks = len(self._best.found.counts)
        if blocks < FEWEST_BLOCKS:
            what = (
                f"the search text has {blocks} chunks or documents, and fewer than {FEWEST_BLOCKS} can't tell mixes "
                "apart"
            )
            raise EvaluationError(what, "give --text more of it; a hundred chunks are better")
        self._note(self._best, None, within=True, kept=True)

    def _try_presets(self) -> None:
        order = sorted(self._fitted.rivals, key=lambda mix: (mix.loss, mix.nbytes))[:PRESETS]
        if self._fitted.best_rival is not None and self._fitted.best_rival not in order:
            order[-1:] = [self._fitted.best_rival]
        for mix in order:
            made = self._made(mix.name, mix.plan)
            self._presets.append(made)
            if self._better(made):
                # The search goes on from its types, if rules can say them within the limits.
                self._step(made, self._mixer.with_types(made.types, self._fitted.spending))
            else:
                self._note(made, self._best, within=True, kept=False)

    def _without_types(self) -> None:
        """Types may do more or less than estimates say of all tensors alike: what the best mix has, others may beat."""
        left, tried = {*self._best.types.values()} & {*self._mixer.types}, set[str]()
        while left := left - tried:
            type_ = max(
                left,
                key=lambda it: (sum(self._loss(n, t) for n, t in self._best.types.items() if t == it), it),
            )
            tried.add(type_)
            try:
                other = self._refitted({*self._dropped, type_})
            except PlanError:  # the smallest type, where the budget is near it
                continue
            expected, best = (
                self._expected(types) for types in (_types_of(other.plan, self._open), self._best.types)
            )
            if expected <= NEAR * best:
                types = _types_of(other.plan, self._open)
                frozen_mix = self._mixer.with_types(types, self._fitted.spending)
                if self._step(self._made(f"without {type_}", frozen_mix.plan), frozen_mix):
                    self._dropped.add(type_)
                    left |= {*self._best.types.values()} & {*self._mixer.types}

    def _refitted(self, without: Collection[str]) -> Frozen:
        """The best mix by the corrected alphas, without these types."""
        types = tuple(name for name in self._mixer.types if name not in without)
        return replace(self._mixer, types=types).fitted(self._corrected())[1]

    def _expected(self, types: Types) -> float:
        return math.fsum(self._loss(name, type_) for name, type_ in types.items())

    def _round(self, groups: Sequence[Group]) -> None:
        """Slopes of these groups, and the mix that follows."""
        for what, names in groups:
            self._slope(what, names)
        try:
            frozen_mix = self._refitted(self._dropped)
        except PlanError:  # corrected alphas may leave nothing to choose in a budget that did
            return
        number = 1 + sum(tried.what.startswith("refitted") for tried in self._tried)
        self._step(self._made(f"refitted {number}", frozen_mix.plan), frozen_mix)

    def _slope(self, what: str, names: Sequence[str]) -> None:
        """What the group does, moved to its next cheaper types: its alphas are corrected by it."""
        best = self._best
        down, up = (
            {name: step for name in names if (step := self._next(name, best.types[name], cheaper=cheaper))}
            for cheaper in (True, False)
        )
        moved = down or up
        expected = sum(
            self._loss(name, type_) - self._loss(name, best.types[name]) for name, type_ in moved.items()
        )
        if not moved or expected == 0:
            return
        types = best.types | moved
        said = f"{what} {'down' if moved is down else 'up'}"
        made = self._made(said, self._mixer.plan_of_types(types))
        change, error = paired(made.found, best.found)
        self._note(made, best, within=False, kept=False)
        # Of a noisy slope little is believed; one of the wrong sign says "next to nothing".
        ratio = max(change / expected, 1e-3)
        noise = math.hypot(error / max(abs(change), 1e-12), TYPES)
        trust = SPREAD**2 / (SPREAD**2 + noise**2)
        factor = math.exp(max(-FURTHEST, min(FURTHEST, trust * math.log(ratio))))
        for name in names:
            self._factors[name] = self._factors.get(name, 1.0) * factor

    def _exchanges(self) -> None:
        hopeless = 0
        while hopeless < HOPELESS and (found := self._next_exchange()) is not None:
            hopeless = 0 if self._step(*found) else hopeless + 1

    def _next_exchange(self) -> tuple[_Mixture, Frozen] | None:
        """The exchange of two tensors that should gain most, of those that keep the limits and weren't tried."""
        best = self._best
        moves = [
            self._move(name, best.types[name], cheaper) for name in self._open for cheaper in (False, True)
        ]
        ups = sorted(move for move in moves if move is not None and move.loss < 0)[:MOST_MOVES]
        downs = sorted(move for move in moves if move is not None and move.loss > 0)[:MOST_MOVES]
        room = [meter.most - meter.whole(best.plan) for meter in self._mixer.rules.limits]
        pairs = [(one,) for one in ups] + [
            (one, other) for one in ups for other in downs if one.name != other.name
        ]
        for pair in sorted(pairs, key=lambda it: (sum(move.loss for move in it), it)):
            if any(sum(move.uses[b] for move in pair) > left for b, left in enumerate(room)):
                continue
            types = best.types | {move.name: move.type for move in pair}
            key = _key(types)
            if key in self._asked or key in self._refused:
                continue
            frozen_mix = self._mixer.with_types(types, self._fitted.spending)
            if not self._keeps(frozen_mix.plan):
                self._refused.add(key)
                continue
            said = ", ".join(f"{move.name.removesuffix('.weight')} → {move.type}" for move in pair)
            return self._made(said, frozen_mix.plan), frozen_mix
        return None

    def _move(self, name: str, type_: str, cheaper: bool) -> _Move | None:
        other = self._next(name, type_, cheaper=cheaper)
        if not other:
            return None
        tensor = self._tensors[name]
        before, after = (self._specs[it].tensor_bytes(tensor.shape) for it in (type_, other))
        return _Move(
            loss=self._loss(name, other) - self._loss(name, type_),
            name=name,
            type=other,
            uses=tuple(
                meter.takes(tensor, after) - meter.takes(tensor, before) for meter in self._mixer.rules.limits
            ),
        )

    def _step(self, made: _Mixture, frozen_mix: Frozen) -> bool:
        """Compare with the best mix so far, whose place it takes if it is better."""
        if made.types == self._best.types:
            return False
        better = self._better(made) and self._keeps(frozen_mix.plan)
        self._note(made, self._best, within=True, kept=better)
        if better:
            self._best, self._frozen = made, frozen_mix
        return better

    def _better(self, made: _Mixture) -> bool:
        change, error = paired(made.found, self._best.found)
        return change < -SURE * error

    def _made(self, what: str, plan: Plan) -> _Mixture:
        """Evaluate a mix, or know it again. _UsedUp where no evaluation is left."""
        types = _types_of(plan, self._open)
        key = _key(types)
        if (known := self._asked.get(key)) is not None:
            return replace(known, what=what, plan=plan)
        if len(self._tried) >= self._effort.evaluations:
            raise _UsedUp(f"all {self._effort.evaluations} evaluations are used up")
        minutes = self._effort.minutes
        if minutes is not None and self._tried and self._effort.clock() - self._began > 60 * minutes:
            raise _UsedUp(f"the {minutes:g} minutes are used up")
        found = self._evaluate(plan, what)
        made = _Mixture(what=what, types=types, plan=plan, found=found)
        self._asked[key] = made
        return made

    def _note(self, made: _Mixture, beside: _Mixture | None, *, within: bool, kept: bool) -> None:
        change, error = (0.0, 0.0) if beside is None else paired(made.found, beside.found)
        self._tried.append(
            Tried(
                what=made.what,
                nbytes=sum(a.nbytes for a in made.plan.assignments),
                expected=estimated_loss(made.plan, self._mixer.losses),
                kld=made.found.kld,
                beside="" if beside is None else beside.what,
                change=change,
                error=error,
                within=within,
                kept=kept,
            )
        )

    def _keeps(self, plan: Plan) -> bool:
        mixer = self._mixer
        return bool(rivals([mix_of("", plan, mixer.losses)], mixer.rules, mixer.registry))

    def _corrected(self) -> Sensitivity:
        tensors = {
            name: replace(it, alpha=it.alpha * self._factors.get(name, 1.0))
            for name, it in self._sensitivity.tensors.items()
        }
        return replace(self._sensitivity, tensors=frozen(tensors))

    def _loss(self, name: str, type_: str) -> float:
        """By the corrected alphas."""
        return self._mixer.losses.of(name, self._specs[type_]) * self._factors.get(name, 1.0)

    def _next(self, name: str, type_: str, *, cheaper: bool) -> str:
        """The neighbour of a tensor's type: of those that take less and lose more, or the other way round; or ""."""
        sign = 1 if cheaper else -1
        shape = self._tensors[name].shape
        size, loss = self._specs[type_].tensor_bytes(shape), self._loss(name, type_)
        found = [
            (sign * (size - it.tensor_bytes(shape)), self._loss(name, it.name), it.name)
            for it in self._open[name]
            if it.name not in self._dropped
        ]
        # Of those of one size the best; then the nearest size.
        return min((it for it in found if it[0] > 0 and sign * (it[1] - loss) > 0), default=(0, 0.0, ""))[2]

    def _roles(self) -> list[Group]:
        roles: dict[str, list[str]] = {}
        for tensor in self._mixer.model.tensors:
            if tensor.name in self._open:
                roles.setdefault(tensor.role, []).append(tensor.name)
        return self._worth_asking(list(roles.items()))

    def _halves(self) -> list[Group]:
        roles = [(role, names) for role, names in self._roles() if len(names) > 3]
        return self._worth_asking([half for role, names in roles for half in _halves_of(role, names)])

    def _worth_asking(self, groups: Sequence[Group]) -> list[Group]:
        """Those with something at stake, the most first."""
        stakes = {name: self._loss(name, type_) for name, type_ in self._best.types.items()}
        least = STAKE * sum(stakes.values())
        staked = [(sum(stakes[name] for name in names), what, names) for what, names in groups]
        staked.sort(key=lambda it: (-it[0], it[1]))
        return [(what, names) for stake, what, names in staked if stake >= least]


def _halves_of(role: str, names: Sequence[str]) -> Iterator[Group]:
    middle = (len(names) + 1) // 2
    yield f"{role}, first layers", names[:middle]
    yield f"{role}, last layers", names[middle:]


def _types_of(plan: Plan, names: Mapping[str, object]) -> Types:
    return {a.tensor.name: a.format.spec.name for a in plan.assignments if a.tensor.name in names}


def _key(types: Types) -> Key:
    return tuple(sorted(types.items()))
