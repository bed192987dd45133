"""reach: the smallest mix whose measured loss stays within a target: a KL divergence, or a change of the perplexity.

The estimate says which mix is the smallest for any loss; the engine says what that mix really does. So the loss that is
asked of the estimate is changed until the engine's is at the target: between two ends that were measured, one within
and one beyond, until hardly any bytes are between them.

    estimated loss asked for    0.010      0.0125      0.0117
    measured                    0.0081     0.0107      0.0099   ← the smallest that was found within 0.01

Where several mixes can be evaluated at the same time, there are as many in each step: at first around what was asked
for, and then around the place between both ends where the target should be, the more of them the nearer to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from quantrecipe.errors import EvaluationError, PlanError
from quantrecipe.evaluate.resampling import FEWEST_BLOCKS
from quantrecipe.fit.asks import BEYOND, between, first, inwards, onwards, towards
from quantrecipe.fit.fit import Fitted, with_mix
from quantrecipe.fit.frozen_recipe import Frozen
from quantrecipe.fit.mixer import wrapped
from quantrecipe.fit.stock import estimated_loss, rivals
from quantrecipe.fit.tried import Effort, Search, Tried
from quantrecipe.measure.mixed import Mixed, paired
from quantrecipe.plan.plan import Plan
from quantrecipe.recipe.budget import Budget
from quantrecipe.sensitivity.prior import estimate
from quantrecipe.sensitivity.sensitivity import Sensitivity

__all__ = ["Goal", "reach"]

NEAR = 0.002
"""Share of the bytes between the two ends at which there is no more to look for."""
PRESETS, WORTH = 2, 1.5
"""Presets smaller than what was found that are tried: so many, if they should lose at most so many times as much."""
STEPS = 3
"""One step has no more mixes than this part of the evaluations that are left: later ones are nearer to the target."""
SAME = 1e-6
"""Losses that are asked for, and differ by a smaller share, are the same."""
MORE = "allow more with --evaluations, or a larger loss"


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """What the output may lose. most: nats of mean KL divergence, or a share of the perplexity: 0.01 is 1 %."""

    key: Literal["kld", "perplexity"]
    most: float

    def value(self, found: Mixed, base: Mixed | None) -> float:
        """Of a mix; base: of the model in which nothing is quantized, for perplexities."""
        if self.key == "kld" or base is None:
            return found.kld
        return math.expm1(found.mean_cost - base.mean_cost)

    @property
    def limit(self) -> str:
        """As limits are told: "kld 0.01", "perplexity +1 %"."""
        return f"kld {self.most:.4g}" if self.key == "kld" else f"perplexity {100 * self.most:+.4g} %"

    def text(self, value: float) -> str:
        """For people."""
        return (
            f"a mean KL divergence of {value:.4g}"
            if self.key == "kld"
            else f"a perplexity of {100 * value:+.2f} %"
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Point:
    """A mix at an end: the loss that was asked of the estimate, what came of it, and what was measured.

    best: it has the best types that there are
    """

    asked: float
    frozen: Frozen
    found: Mixed
    value: float
    best: bool = False

    @property
    def nbytes(self) -> int:
        return _bytes(self.frozen.plan)


Types = tuple[tuple[str, str], ...]
"""Of all tensors, by which a mix is known again."""


def reach(
    fitted: Fitted,
    goal: Goal,
    evaluate: Callable[[Plan, str], Mixed],
    unchanged: Callable[[], Mixed],
    effort: Effort,
    *,
    text: str,
    sensitivity: Sensitivity | None = None,
    expect: Callable[[Iterable[tuple[Plan, str]]], None] | None = None,
    at_once: Callable[[], int] = lambda: 1,
) -> Fitted:
    """The smallest mix that stays within the target on the text, and within the limits that `fitted` was made for.

    unchanged: what is said when nothing is quantized, for perplexities
    expect:    hears which mixes will be evaluated next, where several can be at the same time: see `search`
    at_once:   how many these are now
    Where nothing within other limits stays within the target, they bind, and the best mix within them is the result.
    PlanError where nothing at all does: it says how near one can come. EvaluationError where the text is too short.
    """
    return _Reaching(fitted, goal, evaluate, unchanged, effort, text, sensitivity, expect, at_once).run()


class _Reaching:
    def __init__(
        self,
        fitted: Fitted,
        goal: Goal,
        evaluate: Callable[[Plan, str], Mixed],
        unchanged: Callable[[], Mixed],
        effort: Effort,
        text: str,
        sensitivity: Sensitivity | None,
        expect: Callable[[Iterable[tuple[Plan, str]]], None] | None,
        at_once: Callable[[], int],
    ) -> None:
        mixer = replace(fitted.mixer, request=replace(fitted.mixer.request, aim=goal.limit))
        self._fitted, self._mixer, self._goal = fitted, mixer, goal
        self._evaluate, self._effort, self._text = evaluate, effort, text
        self._sensitivity = sensitivity or estimate(self._mixer.model, self._mixer.registry)
        self._hear, self._at_once = expect, at_once
        self._several = at_once() > 1
        self._unchanged = unchanged
        self._base: Mixed | None = None
        if not self._several:
            self._look_at_the_base()
        self._known: dict[Types, _Point] = {}
        self._began = effort.clock()
        self._tried: list[Tried] = []

    def run(self) -> Fitted:
        limits = replace(self._mixer.request.budget, kld=None)
        within: _Point | None = None
        if limits.limited:
            _, made = self._mixer.fitted(self._sensitivity, limits)
            best = self._point(None, made, "the best within the limits")
            keys = " and ".join(_keys(limits))
            if best.value > self._goal.most:
                near = self._goal.text(best.value)
                said = f"{keys} binds: the best mix within it has {near}, more than was asked for"
                return self._settled(best, said, None)
            within = best
        found, ended = (self._divided if self._several else self._bisected)(limits, within)
        said = f"--{self._goal.key} binds: this is the smallest mix that was found within it ({ended})"
        return self._settled(found, said, self._smaller_preset(found))

    def _bisected(self, limits: Budget, within: _Point | None) -> tuple[_Point, str]:
        """The smallest that was found, and why nothing smaller was looked for."""
        asked = self._start()
        beyond: _Point | None = None
        while True:
            point = self._asked(asked, limits) or self._best_types()
            if point.value <= self._goal.most:
                if within is not None and point.nbytes >= within.nbytes and beyond is None:
                    return within, "no types that are allowed are smaller"
                within = point if within is None or point.nbytes < within.nbytes else within
            elif point.best:
                raise self._nothing(point)
            else:
                beyond = point
            used_up = self._used_up()
            if within is not None and beyond is not None:
                if within.nbytes - beyond.nbytes <= NEAR * within.nbytes:
                    return within, f"one that is {100 * NEAR:.1f} % smaller isn't within it"
                asked = between(within, beyond, self._goal.most)
            else:
                asked = point.asked * towards(point.value, self._goal.most)
                asked *= 1 + BEYOND if within is not None else 1 - BEYOND
            if used_up and within is not None:
                return within, used_up
            if used_up and beyond is not None:
                raise self._used_up_error(beyond, used_up)

    def _start(self) -> float:
        """The loss that is asked for at first."""
        return self._goal.most if self._goal.key == "kld" else math.log1p(self._goal.most)

    def _divided(self, limits: Budget, within: _Point | None) -> tuple[_Point, str]:
        """The same with as many mixes in each step as can be evaluated at once."""
        beyond: _Point | None = None
        most, count = self._goal.most, self._count()
        asks = first(self._start(), count) if within is None else onwards(within, most, count)
        while True:
            before, tried = within, len(self._tried)
            points = [*self._step(asks, limits, best=within is None), *(it for it in (within, beyond) if it)]
            within = min((it for it in points if it.value <= most), key=_smallest, default=None)
            # The largest of those beyond that are smaller than what is within.
            too_small = (it for it in points if it.value > most and (not within or it.nbytes < within.nbytes))
            beyond = max(too_small, key=_smallest, default=None)
            used_up, count = self._used_up(), self._count()
            if within and beyond:
                if within.nbytes - beyond.nbytes <= NEAR * within.nbytes:
                    return within, f"one that is {100 * NEAR:.1f} % smaller isn't within it"
                if beyond.asked <= within.asked * (1 + SAME):
                    return within, "no mix is between it and one that isn't within it"
                asks = inwards(within, beyond, most, count, even=len(self._tried) == tried)
            elif within:
                if before and within.nbytes >= before.nbytes:
                    return within, "no types that are allowed are smaller"
                asks = onwards(within, most, count)
            elif beyond:
                if best := next((it for it in points if it.best), None):
                    raise self._nothing(best)
                if used_up:
                    raise self._used_up_error(beyond, used_up)
                asks = onwards(beyond, most, count)
            if within and used_up:
                return within, used_up

    def _step(self, asks: Sequence[float], limits: Budget, *, best: bool) -> list[_Point]:
        """What comes of these losses. best: of those that nothing is expected to stay below, take the best types"""
        made = list[tuple[float, Frozen, str, bool]]()
        for asked in asks:
            found = self._smallest(asked, limits)
            if found is not None:
                made.append((asked, *found, False))
            elif best:
                frozen, what = self._best_frozen()
                made.append((estimated_loss(frozen.plan, self._mixer.losses), frozen, what, True))
        keys = [_types(frozen.plan) for _, frozen, *_ in made]
        new = {key: it for key, it in zip(keys, made, strict=True) if key not in self._known}
        for place, (key, (asked, frozen, what, is_best)) in enumerate(new.items()):
            self._expect((it.plan, name) for _, it, name, _ in [*new.values()][place:])
            self._known[key] = replace(self._point(asked, frozen, what), best=is_best)
        # A mix that is known may be the answer to another loss, too.
        return [replace(self._known[key], asked=asked) for key, (asked, *_) in zip(keys, made, strict=True)]

    def _count(self) -> int:
        """How many mixes the next step has."""
        left = self._effort.evaluations - len(self._tried)
        return max(1, min(self._at_once(), math.ceil(left / STEPS)))

    def _expect(self, plans: Iterable[tuple[Plan, str]]) -> None:
        if self._hear is not None:
            self._hear(plans)

    def _asked(self, asked: float, limits: Budget) -> _Point | None:
        """The smallest mix that is expected to lose so much; None where nothing is expected to lose so little."""
        found = self._smallest(asked, limits)
        return None if found is None else self._point(asked, *found)

    def _smallest(self, asked: float, limits: Budget) -> tuple[Frozen, str] | None:
        """The same, before it is measured; and what it is called."""
        try:
            _, made = self._mixer.fitted(self._sensitivity, replace(limits, kld=asked))
        except PlanError:
            return None
        return made, f"the smallest expected within {asked:.3g}"

    def _best_types(self) -> _Point:
        made, what = self._best_frozen()
        return replace(self._point(None, made, what), best=True)

    def _best_frozen(self) -> tuple[Frozen, str]:
        """Every tensor in the type that loses least; and what that is called."""
        types = {
            name: min(its, key=lambda it: (it.loss, it.nbytes)).choice.format.spec.name
            for name, its in self._mixer.open_types().items()
        }
        return self._mixer.with_types(types, self._fitted.spending), "the best types"

    def _smaller_preset(self, found: _Point) -> str | None:
        """The name of a preset that stays within the target and takes less, if there is one."""
        mixes = [
            mix
            for mix in rivals(self._fitted.stock, self._mixer.rules, self._mixer.registry)
            if mix.nbytes < found.nbytes
            and mix.loss <= WORTH * estimated_loss(found.frozen.plan, self._mixer.losses)
        ]
        tried = sorted(mixes, key=lambda it: it.loss)[:PRESETS]
        for place, mix in enumerate(tried):
            if self._used_up():
                break
            self._expect((it.plan, it.name) for it in tried[place:])
            made = self._evaluate(mix.plan, mix.name)
            value = self._goal.value(made, self._base)
            self._note(mix.name, mix.plan, made, value)
            if value <= self._goal.most:
                return mix.name
        return None

    def _point(self, asked: float | None, made: Frozen, what: str) -> _Point:
        """Measure a mix. asked: None for what the estimate expects of it."""
        self._look_at_the_base()
        found = self._evaluate(made.plan, what)
        if len(found.counts) < FEWEST_BLOCKS:
            few = f"fewer than {FEWEST_BLOCKS} can't tell mixes apart"
            said = f"the search text has {len(found.counts)} chunks or documents, and {few}"
            raise EvaluationError(said, "give --text more of it; a hundred chunks are better")
        value = self._goal.value(found, self._base)
        self._note(what, made.plan, found, value)
        if asked is None:
            asked = estimated_loss(made.plan, self._mixer.losses)
        return _Point(asked=asked, frozen=made, found=found, value=value)

    def _note(self, what: str, plan: Plan, found: Mixed, value: float) -> None:
        within = value <= self._goal.most
        self._tried.append(
            Tried(
                what=what,
                nbytes=_bytes(plan),
                expected=estimated_loss(plan, self._mixer.losses),
                kld=found.kld,
                beside="",
                change=0.0,
                error=found.standard_error,
                within=within,
                kept=within,
            )
        )

    def _look_at_the_base(self) -> None:
        if self._goal.key == "perplexity" and self._base is None:
            self._base = self._unchanged()

    def _used_up_error(self, beyond: _Point, used_up: str) -> PlanError:
        near = self._goal.text(beyond.value)
        return PlanError(f"nothing was found within the target: {used_up}, and the nearest has {near}", MORE)

    def _used_up(self) -> str:
        """Why no more mixes may be tried; "" where they may."""
        minutes = self._effort.minutes
        if minutes is not None and self._effort.clock() - self._began > 60 * minutes:
            return f"the {minutes:g} minutes are used up"
        used_up = len(self._tried) >= self._effort.evaluations
        return f"all {self._effort.evaluations} evaluations are used up" if used_up else ""

    def _nothing(self, best: _Point) -> PlanError:
        near, most = self._goal.text(best.value), self._goal.text(self._goal.most)
        return PlanError(
            f"no mix of the types that are allowed stays within {most}: the best types come to {near}",
            "allow more, or better types with --types",
        )

    def _settled(self, point: _Point, ended: str, preset: str | None) -> Fitted:
        error = self._error(point.found)
        found = Search(
            text=self._text,
            positions=point.found.positions,
            tried=tuple(self._tried),
            best="the smallest",
            kld=point.found.kld,
            preset=preset,
            preset_kld=next((it.kld for it in self._tried if it.what == preset), None),
            change=0.0,
            error=error,
            ended=ended,
            target=self._goal.key,
            most=self._goal.most,
            value=point.value,
        )
        near = f"{self._goal.text(point.value)} (± {error:.1g})"
        said = f"Tried on {self._text} ({found.positions:,} positions): this mix has {near}. {ended}."
        mix = next((it for it in self._fitted.stock if it.name == preset), None)
        why = "it stays within the target, and is smaller than what was found"
        return with_mix(self._fitted, point.frozen, mix, why=why, found=found, comments=wrapped(said))

    def _error(self, found: Mixed) -> float:
        """Standard error of the value."""
        if self._base is None:
            return found.standard_error
        costs = (replace(it, divergence=it.cost) for it in (found, self._base))
        return paired(*costs)[1]


def _keys(budget: Budget) -> list[str]:
    """The limits of bytes that a budget has, as options."""
    return [
        f"--{key}" for key in ("size", "bpw", "vram", "ram", "active") if getattr(budget, key) is not None
    ]


def _smallest(point: _Point) -> tuple[int, float]:
    """The order of ends: fewest bytes first, and of the same mix the one for the largest loss."""
    return point.nbytes, -point.asked


def _types(plan: Plan) -> Types:
    return tuple((a.tensor.name, a.type) for a in plan.assignments)


def _bytes(plan: Plan) -> int:
    return sum(a.nbytes for a in plan.assignments)
