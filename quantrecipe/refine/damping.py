"""Dampings that are found by measurement: each group of tensors is encoded with each, in the open model.

    start       all that the encoder makes is quantized, with the damping that it predicts
    a group     is quantized again with each damping that is tried; all else stays as it is
    after it    the group has the damping that was best, if that is surely better than what was predicted

Groups are attention, experts, other feed-forward, and all else, those of one type together: what is right depends on
how far a type rounds, and on how many tokens the statistics are of. All dampings are run over the same chunks of a text
that gave no statistics. Several are tried, and the luckiest of them looks better than it is, so "surely" asks for three
standard errors of the paired difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from quantrecipe.api import Encoder
from quantrecipe.core.processors import usable_processors
from quantrecipe.engine import RunOptions, find_engine
from quantrecipe.engine.session import Session
from quantrecipe.errors import PlanError
from quantrecipe.evaluate import Positions, Text, difference, make_reference, score
from quantrecipe.measure.open_resident import Exchange
from quantrecipe.model.open_model import open_model
from quantrecipe.output.jobs import Job
from quantrecipe.output.progress import Silent
from quantrecipe.output.stream import Stream
from quantrecipe.output.work_folder import work_folder
from quantrecipe.plan.condition_facts import model_facts
from quantrecipe.plan.plan import Assignment, Plan
from quantrecipe.recipe.reading.recipe_part import RecipePart
from quantrecipe.recipe.reading.rule_items import Inclusion
from quantrecipe.recipe.recipe import EncoderChoice, Rule
from quantrecipe.recipe.writing.new_recipe import write_recipe
from quantrecipe.recipe.writing.summarise import summarise
from quantrecipe.refine.stages import into_model
from quantrecipe.registry import Registry

__all__ = ["DAMPINGS", "DampedGroup", "DampingTried", "damped_recipe", "find_dampings", "groups_of"]

DAMPINGS = (0.01, 0.03, 0.1, 0.3, 1.0)
_OPTION = "damping"
_SURELY = 3.0
"""Standard errors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DampingTried:
    """What a group's damping does to the whole model.

    damping:  None: what the encoder predicts
    kld_mean: of the model, in nats
    change:   of that beside what is predicted, and its standard error
    """

    damping: float | None
    kld_mean: float
    change: float = 0.0
    error: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DampedGroup:
    """Tensors that get their damping together.

    kind:    "attention", "experts", "feed-forward" or "other"
    tried:   in the order in which they were tried, what is predicted first
    damping: the one that is chosen; None: what is predicted
    """

    kind: str
    type: str
    tensors: tuple[Assignment, ...]
    tried: tuple[DampingTried, ...] = ()
    damping: float | None = None

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        return {
            "kind": self.kind,
            "type": self.type,
            "tensors": [a.tensor.name for a in self.tensors],
            "tried": self.tried,
            "damping": self.damping,
        }


def groups_of(plan: Plan) -> list[DampedGroup]:
    """The tensors whose damping is left to the statistics, in groups. PlanError where there are none."""
    found: dict[tuple[str, str], list[Assignment]] = {}
    for a in plan.assignments:
        if _OPTION in a.settled:
            found.setdefault((_kind(a), a.type), []).append(a)
    if not found:
        raise PlanError(
            f"recipe {plan.recipe!r} leaves no tensor's damping to the statistics",
            "say `encoder: feedback` in it, without a number for the damping",
            file=plan.recipe_file,
        )
    return [
        DampedGroup(kind=kind, type=type_, tensors=tuple(members))
        for (kind, type_), members in sorted(found.items())
    ]


def _kind(a: Assignment) -> str:
    role = a.tensor.role
    if a.tensor.experts > 1 and role.startswith("ffn_"):
        return "experts"
    if role.startswith("attn_"):
        return "attention"
    return "feed-forward" if role.startswith("ffn_") else "other"


def find_dampings(
    plan: Plan,
    held: Path,
    texts: Sequence[Text],
    *,
    folder: Path,
    registry: Registry,
    dampings: Sequence[float] = DAMPINGS,
    chunks: int | None = None,
    told: Callable[[DampedGroup, DampingTried], object] = lambda group, tried: None,
    **running: Unpack[RunOptions],
) -> list[DampedGroup]:
    """Each group with what was tried, and what is best. `held`: the GGUF of the unquantized model.

    folder: for what the unquantized model says of the text
    told:   hears each damping that was run
    EvaluationError where the engine doesn't let weights be exchanged.
    """
    groups = groups_of(plan)
    options: dict[str, Any] = {**running}
    session = Session(held, engine=find_engine(options.pop("engine", None)), writable=True, **options)
    with session, work_folder(folder, "damping", remedy="write to another folder") as place:
        reference = make_reference(session, texts, place / "reference", chunks=chunks)
        exchange = Exchange(session, open_model(held, registry=registry), registry)
        model = _Open(plan=plan, exchange=exchange, registry=registry, threads=running.get("threads"))
        model.quantize([a for group in groups for a in group.tensors], None)
        last = score(session, reference)
        done = []
        for group in groups:
            found = [(DampingTried(damping=None, kld_mean=float(last.divergence.mean())), last)]
            for damping in dampings:
                model.quantize(group.tensors, damping)
                here = score(session, reference)
                found.append((_beside(damping, here, found[0][1]), here))
                told(group, found[-1][0])
            best, last = _best(found)
            model.quantize(group.tensors, best.damping)
            done.append(replace(group, tried=tuple(tried for tried, _ in found), damping=best.damping))
    return done


def _beside(damping: float, here: Positions, predicted: Positions) -> DampingTried:
    off, error = difference(here, predicted)
    mean = float(predicted.divergence.mean())
    return DampingTried(
        damping=damping,
        kld_mean=float(here.divergence.mean()),
        change=off / mean if mean else 0.0,
        error=error / mean if mean else 0.0,
    )


def _best(found: Sequence[tuple[DampingTried, Positions]]) -> tuple[DampingTried, Positions]:
    """The least loss, if it is surely less than the first."""
    best = min(found, key=lambda it: it[0].kld_mean)
    return best if best[0].change < -_SURELY * best[0].error else found[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Open:
    """The open model."""

    plan: Plan
    exchange: Exchange
    registry: Registry
    threads: int | None

    def quantize(self, tensors: Sequence[Assignment], damping: float | None) -> None:
        used = set(self.exchange.usable([a.tensor.name for a in tensors]))
        jobs = [
            Job(
                assignment=replace(a, offset=0),
                sink=into_model(self.exchange, a),
                importance=self.plan.importance,
                statistics=self.plan.statistics,
            )
            for a in (_damped(it, damping) for it in tensors)
            if a.tensor.name in used
        ]
        Stream(
            self.plan.model,
            jobs,
            self.registry,
            threads=self.threads or usable_processors(),
            nan="error",
            progress=Silent(),
        ).run()


def _damped(a: Assignment, damping: float | None) -> Assignment:
    if damping is None or a.encoder is None:
        return a
    return replace(a, encoder=a.encoder.with_options({**a.encoder.options, **_given_as(damping)}))


def damped_recipe(parent: str, name: str, plan: Plan, groups: Sequence[DampedGroup]) -> str:
    """A recipe that extends the parent, with a rule for what has another damping than is predicted."""
    chosen = {
        f"{group.type} {number}": group for number, group in enumerate(groups) if group.damping is not None
    }
    labels = {a.tensor.name: label for label, group in chosen.items() for a in group.tensors}
    n_layers = model_facts(plan.model, has_importance=False)["n_layers"]
    rules = [
        _damped_rule(rule, chosen[rule.type]) for rule in summarise(labels, plan.model.tensors, n_layers)
    ]
    comments = [] if rules else ["No damping was surely better on the text than the one that is predicted."]
    part = RecipePart(file=name, name=name, extends=(Inclusion(ref=parent),), rules=tuple(rules))
    return write_recipe(part, comments)[0]


def _damped_rule(rule: Rule, group: DampedGroup) -> Rule:
    a, best = group.tensors[0], min(group.tried, key=lambda it: it.kld_mean)
    name, options = ("", {}) if a.encoder is None else (a.encoder.name, _given(a.encoder))
    return replace(
        rule,
        type=group.type,
        options=a.format.options,
        encoder=EncoderChoice(name=name, options={**options, **_given_as(group.damping)}),
        why=f"{group.kind}: mean KLD {100 * best.change:+.1f} ± {100 * best.error:.1f} % beside the predicted damping",
    )


def _given_as(damping: float | None) -> dict[str, Any]:
    """The options of a damping as the prediction has it, as a part of each column's own value."""
    return {_OPTION: damping, "by": "column"}


def _given(encoder: Encoder) -> dict[str, Any]:
    """The options that aren't the defaults."""
    schema = encoder.option_schema
    return {name: value for name, value in encoder.options.items() if value != schema[name].get("default")}
