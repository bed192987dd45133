"""The recipe of a report: its rules with their reasons, beside what each of them decided."""

from __future__ import annotations

from collections.abc import Iterable

from quantrecipe.cli.report.frame import Section, folded, text
from quantrecipe.cli.report.subject import Subject
from quantrecipe.cli.tables import Kind, Table, numbers
from quantrecipe.cli.tables.markup import html_of
from quantrecipe.cli.units import bytes_text, counted
from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.pictures.layer_map import folded_role
from quantrecipe.plan.review.sides import Fate
from quantrecipe.recipe.recipe import Rule
from quantrecipe.recipe.writing.flatten import written_patterns
from quantrecipe.wording import some_of

__all__ = ["deciders_table", "recipe_section"]

_ORIGINS = {
    "given": "The recipe that was planned.",
    "recorded": "The recipe that the file has in it; its types are those of the file.",
    "inferred": "No recipe of these types is in the file. This one was inferred from them: on the model that the file "
    "was made from, it gives every tensor the type that it has.",
    "none": "There is no recipe.",
}
_MOST_ROLES = 6


def recipe_section(subject: Subject) -> Section:
    """What decided each tensor, the rules that decide nothing here, and the text."""
    recipe = subject.recipe
    parts = [f"<p>{text(_ORIGINS[subject.origin])}</p>"]
    if recipe is not None and recipe.summary:
        parts.append(f"<p>{text(recipe.summary)}</p>")
    if subject.trace is not None:
        parts.append(
            html_of(
                deciders_table(subject),
                caption="What decided, in the order in which rules are tried, and what came of it",
            )
        )
        if idle := _idle(subject):
            rows = [(str(rule.origin), rule_text(rule), rule.why.strip()) for rule in idle]
            columns: dict[str, Kind] = {"rule": "code", "says": "text", "why": "text"}
            many = counted(len(idle), "rule decides nothing", "rules decide nothing")
            table = html_of(Table(columns, rows), caption="Rules that decide nothing on this model")
            parts.append(folded(f"{many} here", table))
    if subject.text:
        parts.append(
            folded("The recipe's text, with all that it extends", f"<pre>{_text(subject.text)}</pre>")
        )
    return Section(ident="recipe", title="Recipe", body="\n".join(parts))


def deciders_table(subject: Subject) -> Table:
    """A line for each rule, and whatever else decided: what it says, what that came to, and why."""
    rules = {} if subject.trace is None else {str(rule.origin): rule for rule, _ in subject.trace.matches}
    groups: dict[str, list[Fate]] = {}
    for fate in subject.side.tensors.values():
        groups.setdefault(fate.because, []).append(fate)
    place = {origin: number for number, origin in enumerate(rules)}
    data = sum(fate.nbytes for fate in subject.side.tensors.values()) or 1
    rows = []
    for because, members in sorted(groups.items(), key=lambda it: place.get(_origin(it[0]), len(place))):
        rule = rules.get(_origin(because))
        nbytes = sum(fate.nbytes for fate in members)
        rows.append(
            (
                because or "not known",
                rule_text(rule) if rule is not None else _roles(members),
                _types(members),
                str(len(members)),
                layer_ranges(fate.tensor.layer for fate in members if fate.tensor.layer is not None),
                bytes_text(nbytes),
                f"{100 * nbytes / data:.1f}",
                members[0].why.strip(),
            )
        )
    columns: dict[str, Kind] = {"decided by": "code", "tensors": "list", "type": "list", "count": "number"}
    columns |= {"layers": "list", **numbers("size", "share %"), "why": "text"}
    return Table(columns, rows)


def rule_text(rule: Rule) -> str:
    """What a rule is about, and what it gives: "blk.*.ffn_down, layers first 1/8, when n_expert > 0 → Q6_K"."""
    said = [*written_patterns(rule)]
    said += [f"layers {rule.layers}"] if rule.layers is not None else []
    said += [f"when {rule.when.text}"] if rule.when is not None else []
    return f"{', '.join(said)} → {rule.type or 'one of ' + ', '.join(rule.choose)}"


def _origin(because: str) -> str:
    """What decided, without what was added: "mine.yaml:4 (chosen)" → "mine.yaml:4"."""
    return because.removesuffix(" (chosen)")


def _idle(subject: Subject) -> list[Rule]:
    if subject.trace is None:
        return []
    used = {_origin(fate.because) for fate in subject.side.tensors.values()}
    return [rule for rule, _ in subject.trace.matches if str(rule.origin) not in used]


def _roles(members: Iterable[Fate]) -> str:
    return some_of(list(dict.fromkeys(folded_role(fate.tensor) for fate in members)), _MOST_ROLES)


def _types(members: Iterable[Fate]) -> str:
    return ", ".join(
        dict.fromkeys(
            fate.label if fate.wanted is None else f"{fate.label} instead of {fate.wanted}"
            for fate in members
        )
    )


def _text(recipe: str) -> str:
    return "\n".join(text(line) for line in recipe.splitlines())
