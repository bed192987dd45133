"""QR208, QR210, QR211: what becomes of a model: types that tensors don't accept, a mix that reaches little of it, and a
label that the types contradict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from quantrecipe.lint.finding import Finding
from quantrecipe.lint.subject import Outcome, Subject, View, names
from quantrecipe.plan.label import Share, untrue
from quantrecipe.plan.reach import reach
from quantrecipe.recipe.recipe import KEEP, Rule
from quantrecipe.tensor import TensorInfo

__all__ = ["labels", "misfits", "reached"]


def misfits(subject: Subject) -> Iterator[Finding]:
    """One finding for each rule and type on each given model; an error where the recipe refuses fallbacks.

    Reference models only stand for others, whose rows have other lengths.
    """
    for view in subject.views:
        if view.reference:
            continue
        found: dict[tuple[int, str, str], list[Outcome]] = {}
        rules: dict[int, Rule | None] = {}
        for outcome in view.outcomes:
            for name in outcome.types:
                fmt = subject.format(name)
                if fmt is not None and (reason := fmt.accepts(outcome.tensor)):
                    rules[id(outcome.rule)] = outcome.rule
                    found.setdefault((id(outcome.rule), name, reason), []).append(outcome)
        for (key, name, reason), outcomes in found.items():
            yield _finding(subject, view, rules[key], name, reason, outcomes)


def _finding(
    subject: Subject, view: View, rule: Rule | None, name: str, reason: str, outcomes: list[Outcome]
) -> Finding:
    policy = (rule.fallback if rule else None) or subject.recipe.fallback
    tensors = names([outcome.tensor.role for outcome in outcomes])
    refused = policy == "error"
    fallback = "the format's own chain" if policy == "chain" else policy
    then = "the recipe declares `fallback: error`" if refused else f"the fallback is {fallback}"
    return subject.finding(
        "QR208",
        subject.place(rule),
        f"{tensors} can't be {name} on {view.name}: {reason}; {then}",
        "name a type that they can be in a rule of its own, or say `fallback:` if this one is meant",
        "error" if refused else None,
    )


def reached(subject: Subject) -> Iterator[Finding]:
    """On each given model; reference models only stand for others."""
    recipe = subject.recipe
    for view in subject.views:
        if view.reference or view.bare.problems:  # rules that do nothing there are told one by one
            continue
        trace, types = view.bare, view.types
        found = reach(
            recipe,
            (
                (trace.decision(tensor), _type(subject, types.get(tensor.name, ()), tensor))
                for tensor in trace.tensors
            ),
        )
        problem = None if found is None else found.problem()
        if problem is not None:
            what, remedy = problem
            yield subject.finding("QR210", subject.first_line, f"on {view.name}, {what}", remedy)


def labels(subject: Subject) -> Iterator[Finding]:
    """On each given model; on reference models, where it is untrue on all of them.

    A label that the recipe itself gives is written all the same; one that it inherits gives way to the types.
    """
    recipe = subject.recipe
    if recipe.file_type in (None, KEEP) or any(len(it.types) > 1 for v in subject.views for it in v.outcomes):
        return  # nothing is claimed, or what becomes of it depends on the budget
    given = [view for view in subject.views if not view.reference]
    found = {view.name: share for view in given or subject.views if (share := _untrue(subject, view))}
    if not given and len(found) < len(subject.views):
        return
    for name, share in found.items():
        most = f"{100 * share.share:.0f} % of the weights in layers are {share.type} (on {name})"
        if recipe.file_type_fixed:
            what = f"the file will say that it is mostly {recipe.file_type}, but {most}"
            remedy = "name the mix that it is, or leave file_type out: it then follows the types"
        else:
            what = f"{most}, so the file won't say that it is mostly {recipe.file_type}, as this recipe's parent does"
            remedy = "a `file_type:` of its own says what the file is to say"
        origin = recipe.file_type_origin if recipe.file_type_fixed else None
        place = origin if origin is not None and origin.file == recipe.file else subject.first_line
        yield subject.finding("QR211", place, what, remedy, None if recipe.file_type_fixed else "advice")
        if not given:
            return  # once is enough


def _untrue(subject: Subject, view: View) -> Share | None:
    types = view.types
    pairs = [(tensor, types.get(tensor.name, (tensor.dtype,))[0]) for tensor in view.bare.tensors]
    return untrue(subject.recipe.file_type, pairs, view.model, subject.registry)


def _type(subject: Subject, wanted: Sequence[str], tensor: TensorInfo) -> str:
    """The type that the tensor gets, fallbacks included; of several the first that takes it."""
    tried = (fmt for name in wanted for fmt in subject.registry.chain(name))
    return next((fmt.spec.name for fmt in tried if fmt.accepts(tensor) is None), tensor.dtype)
