"""An explanation as a person reads it: file by file the rules that were tried, then what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.tables import Cell, Paragraph, Table
from quantrecipe.cli.units import bytes_text, counted, shape_text
from quantrecipe.layer_ranges import layer_ranges
from quantrecipe.plan.review.explain import Explanation, Outcome, Trial
from quantrecipe.recipe.recipe import KEEP, Recipe
from quantrecipe.recipe.writing.flatten import written_patterns

__all__ = ["render_explanations"]

# Tensors that are named where they aren't simply layers; more of them wouldn't fit on a line of 80.
_MOST_NAMES = 3
_MARKS: dict[Outcome, tuple[str, str]] = {
    "decides": ("✓", "bold green"),
    "matches": ("·", "yellow"),
}
# The mark of a rule that doesn't match.
_NOT = ("✗", "dim")


def render_explanations(
    explanations: Sequence[Explanation], recipe: Recipe, *, all_rules: bool = False
) -> RenderableType:
    """One story for tensors that fare alike, told of the first; `all_rules` goes on behind the rule that decides."""
    stories: dict[tuple[object, ...], list[Explanation]] = {}
    for it in explanations:
        stories.setdefault(_story(it, _tried(it, all_rules=all_rules)), []).append(it)
    parts: list[RenderableType] = []
    for members in stories.values():
        parts += [Text(), _title(members), *_others(members), Text()]
        tried = _tried(members[0], all_rules=all_rules)
        parts += [_rules(members[0], tried), Text(), _outcome(members[0], recipe)]
    return Lines(*parts[1:])


def _tried(it: Explanation, *, all_rules: bool) -> tuple[Trial, ...]:
    """The rules up to the one that decides, or all."""
    decider = next((n for n, trial in enumerate(it.trials) if trial.outcome == "decides"), None)
    return it.trials if all_rules or decider is None else it.trials[: decider + 1]


def _story(it: Explanation, tried: Sequence[Trial]) -> tuple[object, ...]:
    """What tensors must have in common to be told of together."""
    return (
        it.tensor.role,
        tuple(trial.outcome for trial in tried),
        it.decision.because,
        it.format.spec.name if it.format else "",
        it.steps,
        it.importance,
        it.problems,
    )


def _title(members: Sequence[Explanation]) -> Paragraph:
    it = members[0]
    shape = shape_text(it.tensor.shape)
    title = Text.assemble((printable(it.tensor.name), "bold"), f"  {shape}, {it.tensor.dtype}")
    rule = it.decision.rule
    if it.format is None and rule is not None and rule.choose:
        return Paragraph(title.append("  → left to the optimiser", "bold yellow"))
    if it.format is None:
        return Paragraph(title.append("  → no type", "bold red"))
    style = "bold yellow" if len(it.steps) > 1 else "bold green"
    return Paragraph(title.append("  → ").append(it.format.spec.name, style))


def _others(members: Sequence[Explanation]) -> Iterator[Paragraph]:
    """A line on the other tensors, for which everything is as for the first."""
    rest = members[1:]
    if not rest:
        return
    layers = [it.tensor.layer for it in members if it.tensor.layer is not None]
    where = f"layers {layer_ranges(layers)}" if len(layers) == len(members) else ""
    names = ", ".join(printable(it.tensor.name) for it in rest[:_MOST_NAMES])
    more = ", …" if len(rest) > _MOST_NAMES else ""
    yield Paragraph(
        f"and {len(rest)} more alike: {where or names + more}; the values below are the first one's", "dim"
    )


def _rules(it: Explanation, tried: Sequence[Trial]) -> RenderableType:
    """The rules that were tried, under the files that they are in."""
    parts: list[RenderableType] = []
    width = max((len(lines) for lines, _ in map(_row, _runs(tried))), default=1)
    for (file, through), of_file in groupby(
        tried, key=lambda trial: (trial.rule.origin.file, trial.rule.through)
    ):
        way = " → ".join(str(origin) for origin in through)
        by = printable(f", by extends in {way}") if way else ""
        parts.append(Paragraph(Text.assemble((printable(file), "cyan"), (by, "dim"))))
        rows: list[tuple[Cell, ...]] = []
        for run in _runs(list(of_file)):
            mark, style = _MARKS.get(run[0].outcome, _NOT)
            lines, text = _row(run)
            rows.append(((f"  {mark} {lines:>{width}}", style), text))
        parts.append(Table(("word", "text"), rows))
    if not it.trials:
        parts.append(Text("the recipe has no rules", "dim"))
    if left := len(it.trials) - len(tried):
        parts.append(
            Paragraph(f"{counted(left, 'rule')} behind it {'is' if left == 1 else 'are'} not tried", "dim")
        )
    return Lines(*parts)


def _runs(trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    """One rule each, but those of one file that just don't name the tensor together."""
    for (outcome, _), run in groupby(trials, key=lambda trial: (trial.outcome, trial.rule.origin.file)):
        if outcome == "names another":
            yield list(run)
        else:
            yield from ([trial] for trial in run)


def _row(run: Sequence[Trial]) -> tuple[str, Text]:
    """The line numbers of the rules, and what is said of them."""
    first, last = run[0].rule.origin.line, run[-1].rule.origin.line
    if len(run) > 1:
        return f"{first}-{last}", Text(f"{counted(len(run), 'rule')} that don't name it", "dim")
    return str(first), _trial(run[0])


def _trial(trial: Trial) -> Text:
    """What the rule is about, and below it what made it match or not."""
    rule, outcome = trial.rule, trial.outcome
    patterns = printable(", ".join(written_patterns(rule)))
    if outcome == "names another":
        return Text(f"{patterns}  doesn't name it", "dim")
    text = Text(patterns)
    if rule.layers is not None:
        text.append(f"  layers {rule.layers}", "dim")
    if rule.when is not None:
        text.append(printable(f"  when {rule.when.text}"), "dim")
    if outcome in _MARKS:
        types = rule.type or f"one of {', '.join(rule.choose)}"
        text.append(f"  → {types}", "bold" if outcome == "decides" else "yellow")
    if outcome == "matches":
        text.append("  would match, but comes too late", "yellow")
    notes = list(trial.reasons)
    if outcome == "kept":
        notes.append("its wildcard matches, but wildcards leave the kept list alone")
    if outcome == "no matrix":
        notes.append("its wildcard matches, but wildcards are about matrices")
    for note in notes:
        text.append(
            f"\n{printable(note)}", "green" if outcome == "decides" else "red" if outcome != "matches" else ""
        )
    return text


def _outcome(it: Explanation, recipe: Recipe) -> Table:
    return Table(("word", "text"), [((label, "dim"), text) for label, text in _lines(it, recipe)])


def _lines(it: Explanation, recipe: Recipe) -> Iterator[tuple[str, Text]]:
    rule, decision = it.decision.rule, it.decision
    decided = Text.assemble((printable(decision.because), "bold"))
    if it.kept is not None and rule is None:
        patterns = ", ".join(str(pattern) for pattern in it.kept.tensors)
        decided.append(printable(f": no rule names it outright, and the kept list has {patterns}"), "")
    elif rule is None and decision.because.endswith("(default)"):
        decided.append(": no rule matches, and it is a quantizable matrix")
    elif rule is None:
        decided.append(
            ": no rule matches, and defaults are about matrices" if recipe.default else ": nothing matches"
        )
    yield "decided by", decided
    if decision.why:
        yield "why", Text(printable(decision.why))
    if rule is not None and rule.choose:
        yield "wanted", Text(f"one of {', '.join(rule.choose)}, as the budget allows")
    elif decision.type == KEEP:
        yield "wanted", Text(f"kept as it is, {it.tensor.dtype}")
    else:
        yield "wanted", Text(decision.type)
    for label, step in zip(["format", *["then"] * len(it.steps)], it.steps, strict=False):
        if step.misfit:
            yield label, Text(f"{step.type} doesn't take it: {step.misfit}", "yellow")
        elif len(it.steps) > 1:
            yield label, Text(f"{step.type} takes it", "yellow")
    for problem in it.problems:
        yield "error", Text(printable(str(problem)), "red")
    if it.importance:
        yield "importance", Text(printable(it.importance))
    if it.format is not None and it.nbytes is not None:
        bits = 8 * it.nbytes / max(1, it.tensor.size)
        copied = ", copied as it is" if it.copied else ""
        becomes = Text.assemble(
            (it.format.spec.name, "bold"),
            f", {bytes_text(it.nbytes)} ({it.nbytes:,} bytes), {bits:.3f} bits per weight{copied}",
        )
        yield "becomes", becomes
