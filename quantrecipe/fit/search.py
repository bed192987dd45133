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

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from quantrecipe.errors import EvaluationError, PlanError
from quantrecipe.evaluate.resampling import FEWEST_BLOCKS
from quantrecipe.fit.corrected import Corrected, Group, Types
from quantrecipe.fit.fit import Fitted, with_mix
from quantrecipe.fit.frozen_recipe import Frozen
from quantrecipe.fit.mixer import Mixer, wrapped
from quantrecipe.fit.stock import Mix, estimated_loss, mix_of, rivals
from quantrecipe.fit.tried import Effort, Search, Tried, search_text
from quantrecipe.measure.mixed import Mixed, paired
from quantrecipe.plan.plan import Plan
from quantrecipe.sensitivity.prior import estimate
from quantrecipe.sensitivity.sensitivity import Sensitivity

__all__ = ["SURE", "search"]

SURE = 2.0
"""Standard errors of a paired difference that a mix has to be better by."""
PRESETS = 3
"""Presets that are tried, those that should lose least."""
HOPELESS = 4
"""Exchanges in a row that gain nothing, after which there are no more."""
NEAR = 1.15
"""How much more than the best mix another one may be expected to lose, to be worth a try."""
REFUSED = 64
"""Exchanges in a row that break a floor or a tie, or whose recorded recipe is too long, after which there are none."""

Evaluate = Callable[[Plan, str], Mixed]
"""What a plan does to the output, and the name that it goes by."""
Expect = Callable[[Iterable[tuple[Plan, str]]], None]
"""Hears which plans will probably be evaluated next, the next one first: see `Prober.expect_mixes`."""
Key = tuple[tuple[str, str], ...]
"""Types in an order, by which a mix is known again."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Mixture:
    """A mix that was tried."""

    what: str
    types: Types
    plan: Plan
    found: Mixed


class _UsedUp(Exception):  # noqa: N818  # no error, but an end
    """No evaluation is left, or no time."""


def search(
    fitted: Fitted,
    evaluate: Evaluate,
    effort: Effort,
    *,
    text: str,
    sensitivity: Sensitivity | None = None,
    expect: Expect | None = None,
) -> Fitted:
    """The best mix that was measured, with all that was tried. `sensitivity`: by which `fitted` was chosen.

    expect: where several mixes can be evaluated at the same time
    EvaluationError where the text is too short to tell mixes apart, PlanError for types that can't be tried.
    """
    mixer = fitted.mixer
    for name in mixer.types:
        if mixer.registry.formats[name].spec.companion is not None:
            what = f"{name} keeps factors in a tensor of its own, which the open model has no place for"
            raise PlanError(what, "leave it out of --types, or try no mixes: --evaluations 0")
    sensitivity = sensitivity or estimate(mixer.model, mixer.registry)
    searching = _Searching(fitted, evaluate, effort, sensitivity, expect)
    ended = searching.run()
    return searching.settled(text, ended)


class _Searching:
    def __init__(
        self,
        fitted: Fitted,
        evaluate: Evaluate,
        effort: Effort,
        sensitivity: Sensitivity,
        expect: Expect | None,
    ) -> None:
        self._fitted, self._evaluate, self._effort, self._hear = fitted, evaluate, effort, expect
        self._mixer: Mixer = fitted.mixer
        self._known = Corrected(self._mixer, sensitivity)
        self._began = effort.clock()
        self._tried: list[Tried] = []
        self._asked: dict[Key, _Mixture] = {}
        self._refused: set[Key] = set()
        self._presets: list[_Mixture] = []
        types = self._known.types_of(fitted.fitted_plan)
        self._frozen = self._mixer.with_types(types, fitted.spending)
        self._expect(
            [(self._frozen.plan, "fitted"), *((mix.plan, mix.name) for mix in self._first_presets())]
        )
        self._best = self._made("fitted", self._frozen.plan)
        self._begin()

    def run(self) -> str:
        """Why it ended."""
        try:
            self._try_presets()
            self._without_types()
            self._exchanges()
            self._round(self._known.roles(self._best.types))
            self._round(self._known.halves(self._best.types))
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

    def _expect(self, plans: Iterable[tuple[Plan, str]]) -> None:
        """Say what will probably be evaluated next, the next one first."""
        if self._hear is not None:
            types_of = self._known.types_of
            self._hear((plan, what) for plan, what in plans if _key(types_of(plan)) not in self._asked)

    def _first_presets(self) -> list[Mix]:
        """Presets that are tried, in their order."""
        order = sorted(self._fitted.rivals, key=lambda mix: (mix.loss, mix.nbytes))[:PRESETS]
        if self._fitted.best_rival is not None and self._fitted.best_rival not in order:
            order[-1:] = [self._fitted.best_rival]
        return order

    def _try_presets(self) -> None:
        order = self._first_presets()
        for place, mix in enumerate(order):
            self._expect((later.plan, later.name) for later in order[place:])
            made = self._made(mix.name, mix.plan)
            self._presets.append(made)
            if self._better(made):
                # The search goes on from its types, if rules can say them within the limits.
                self._step(made, self._mixer.with_types(made.types, self._fitted.spending))
            else:
                self._note(made, self._best, within=True, kept=False)

    def _without_types(self) -> None:
        """Types may do more or less than estimates say of all tensors alike: what the best mix has, others may beat."""
        known, tried = self._known, set[str]()
        while left := {*self._best.types.values()} & {*self._mixer.types} - tried:
            costs = dict.fromkeys(left, 0.0)
            for name, type_ in self._best.types.items():
                if type_ in left:
                    costs[type_] += known.loss(name, type_)
            type_ = max(left, key=lambda it: (costs[it], it))
            tried.add(type_)
            try:
                types = known.types_of(known.refitted(type_).plan)
            except PlanError:  # the smallest type, where the budget is near it
                continue
            if known.expected(types) > NEAR * known.expected(self._best.types):
                continue
            made = self._mixer.with_types(types, self._fitted.spending)
            if self._step(self._made(f"without {type_}", made.plan), made):
                known.drop(type_)

    def _round(self, groups: Sequence[Group]) -> None:
        """Slopes of these groups, and the mix that follows."""
        for place, (what, names) in enumerate(groups):
            self._expect(self._slopes(groups[place:]))
            self._slope(what, names)
        try:
            frozen_mix = self._known.refitted()
        except PlanError:  # corrected alphas may leave nothing to choose in a budget that did
            return
        number = 1 + sum(tried.what.startswith("refitted") for tried in self._tried)
        self._step(self._made(f"refitted {number}", frozen_mix.plan), frozen_mix)

    def _slopes(self, groups: Sequence[Group]) -> Iterator[tuple[Plan, str]]:
        """What `_slope` will evaluate, if what it finds before doesn't change it."""
        for what, names in groups:
            way, moved = self._known.moved(names, self._best.types)
            if moved:
                yield self._mixer.plan_of_types(self._best.types | moved), f"{what} {way}"

    def _slope(self, what: str, names: Sequence[str]) -> None:
        """What the group does, moved to its next cheaper types: its alphas are corrected by it."""
        best, known = self._best, self._known
        way, moved = known.moved(names, best.types)
        expected = known.expected(moved) - known.expected({name: best.types[name] for name in moved})
        if not moved or expected == 0:
            return
        types = best.types | moved
        made = self._made(f"{what} {way}", self._mixer.plan_of_types(types))
        change, error = paired(made.found, best.found)
        self._note(made, best, within=False, kept=False)
        known.correct(names, change, error, expected)

    def _exchanges(self) -> None:
        hopeless = 0
        while hopeless < HOPELESS and (found := self._next_exchange()) is not None:
            hopeless = 0 if self._step(*found) else hopeless + 1

    def _next_exchange(self) -> tuple[_Mixture, Frozen] | None:
        """The exchange of two tensors that should gain most, of those that keep the limits and weren't tried."""
        found = next(self._exchanges_left(self._refused), None)
        if found is None:
            return None
        said, made = found
        refused = set(self._refused)  # of those to expect: what is refused now counts when it is looked at
        self._expect((later.plan, what) for what, later in self._exchanges_left(refused))
        return self._made(said, made.plan), made

    def _exchanges_left(self, refused: set[Key]) -> Iterator[tuple[str, Frozen]]:
        """Exchanges that keep the limits and weren't tried, best first. refused: those that don't, which get more."""
        best, limits = self._best, self._mixer.rules.limits
        count = 0
        for pair in self._known.exchanges(best.types, [it.most - it.whole(best.plan) for it in limits]):
            types = best.types | {move.name: move.type for move in pair}
            key = _key(types)
            if key in self._asked or key in refused:
                continue
            made = self._mixer.with_types(types, self._fitted.spending)
            if self._keeps(made.plan):
                yield ", ".join(f"{move.name.removesuffix('.weight')} → {move.type}" for move in pair), made
                continue
            refused.add(key)
            count += 1
            if count == REFUSED:
                return

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
        types = self._known.types_of(plan)
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


def _key(types: Types) -> Key:
    return tuple(sorted(types.items()))
