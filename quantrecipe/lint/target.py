"""QR401, QR402, QR403: what the target can't run, what is slow there, and what isn't known of it."""

from __future__ import annotations

from collections.abc import Iterator

from quantrecipe.errors import RecipeError
from quantrecipe.lint.finding import GENERAL, Finding
from quantrecipe.lint.subject import Subject
from quantrecipe.recipe.recipe import Rule, Target
from quantrecipe.targets import Support
from quantrecipe.targets.runnable import nearest_types

__all__ = ["where_it_runs"]

_CODES = {"no": "QR401", "slow": "QR402", "unknown": "QR403"}
_SAYS = {"no": "can't run", "slow": "runs slowly", "unknown": "may not run"}


def where_it_runs(subject: Subject) -> Iterator[Finding]:
    """One finding for each type; inherited ones are told at the `extends` that brought them."""
    target = subject.recipe.target
    if target is None:
        return
    try:
        newer = subject.targets.is_newer(target.engine, target.build)
    except RecipeError as error:
        problem = error.problems[0]
        yield subject.finding(GENERAL, target.origin, problem.what, problem.remedy)
        return
    if newer:
        newest = subject.targets.engine(target.engine).newest
        yield subject.finding(
            "QR403",
            target.origin,
            f"{target.engine} {target.build} is newer than the table of targets, which ends at {newest} "
            f"({subject.targets.as_of}); it is taken for that one",
            "a newer quantrecipe may know more",
        )
    for name, rule in subject.types_in_use().items():
        support = subject.targets.runs(target.engine, target.build, target.device, name)
        if support.speed != "fast":
            yield _finding(subject, target, name, rule, support)


def _finding(subject: Subject, target: Target, name: str, rule: Rule | None, support: Support) -> Finding:
    own = rule is not None and rule.own
    where = " ".join(filter(None, (target.engine, target.build)))
    where += f" on {target.device}" if target.device else ""
    through = "" if own or rule is None else f" (from {rule.origin})"
    return subject.finding(
        _CODES[support.speed],
        subject.place(rule),
        f"{name}{through} {_SAYS[support.speed]} with {where}: {support.why}",
        _remedy(subject, target, name, support),
    )


def _remedy(subject: Subject, target: Target, name: str, support: Support) -> str:
    """The nearest types in size that run well there."""
    wanted = subject.format(name)
    if wanted is None or support.speed == "unknown":
        source = f"; the source: {support.source}" if support.source else ""
        return f"see `quantrecipe help targets`{source}"
    near = [
        spec.name
        for spec in nearest_types(wanted.spec.bits_per_weight, subject.registry, target)
        if subject.targets.runs(target.engine, target.build, target.device, spec.name).speed == "fast"
    ]
    return f"of its size, {' and '.join(near[:2])} run well there" if near else ""
