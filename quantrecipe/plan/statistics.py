"""Which encoder makes a tensor's bytes, and what is known of the tensor's inputs: decided before any work.

Statistics are of tensors by the names that the model has before any of its layers is pruned. An encoder that needs them
leaves a tensor to its format where there are none, or too few tokens: a Gram matrix of fewer tokens than columns looks
splendid and means nothing. The plan says so. Where there are no statistics at all, the plan has the right sizes, but
can't be applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from quantrecipe.api import Encoder, InputStatistics
from quantrecipe.errors import PlanError
from quantrecipe.wording import some_of

if TYPE_CHECKING:
    from quantrecipe.api import FloatArray, QuantFormat
    from quantrecipe.plan.plan import Assignment, Plan
    from quantrecipe.plan.resolution import Resolution
    from quantrecipe.plan.trace import Decision

__all__ = [
    "NO_STATISTICS",
    "InputEntry",
    "Made",
    "Statistics",
    "encoder_lines",
    "encoder_warnings",
    "input_statistics",
    "made_by",
    "matrix_of",
    "require_statistics",
]


class InputEntry(Protocol):
    """What statistics say of one input: see `calibration.gram.GramEntry`."""

    @property
    def columns(self) -> int: ...
    @property
    def matrices(self) -> int: ...
    @property
    def tokens(self) -> tuple[int, ...]: ...
    @property
    def digest(self) -> str: ...


class Statistics(Protocol):
    """Gram matrices of a model's inputs, by the weights that these are multiplied with: `calibration.gram.Grams`."""

    @property
    def folder(self) -> Path: ...
    @property
    def digest(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    def __contains__(self, weight: object) -> bool: ...
    def entry(self, weight: str) -> InputEntry: ...
    def matrix(self, weight: str, number: int = 0) -> FloatArray: ...


NO_STATISTICS = "no statistics are given"


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """How a tensor's bytes are made.

    encoder: None where the format makes them by itself
    inputs:  the name under which statistics have the tensor's input, "" where none are used
    digest:  of those statistics
    lacking: why the encoder that the recipe wants isn't used, "" where it is
    """

    encoder: Encoder | None = None
    inputs: str = ""
    digest: str = ""
    lacking: str = ""


def made_by(decision: Decision, fmt: QuantFormat, resolution: Resolution) -> Made:
    """Which encoder makes the bytes of a tensor that becomes `fmt`. PlanError where statistics don't fit the tensor."""
    rule, recipe = decision.rule, resolution.recipe
    choice = (rule.encoder if rule is not None else None) or recipe.encoder
    if choice is None or fmt.spec.block == 1:  # floats lose next to nothing
        return Made()
    spared = choice.except_layers
    if spared and spared.contains(decision.tensor.layer, resolution.trace.n_layers):
        return Made()
    encoder = resolution.registry.encoder(choice.name).with_options(choice.options)
    if (reason := encoder.accepts(fmt)) is not None:
        return Made(lacking=reason)
    if not encoder.needs_statistics:
        return Made(encoder=encoder)
    statistics, tensor = resolution.statistics, decision.tensor
    if statistics is None:
        return Made(lacking=NO_STATISTICS)
    name = resolution.old_names[tensor.name]
    if name not in statistics:
        return Made(lacking="there are no statistics of its inputs")
    entry = statistics.entry(name)
    if entry.columns != tensor.cols or entry.matrices not in (1, tensor.experts):
        raise PlanError(
            f"{tensor.name} has {tensor.cols} columns and {tensor.experts} matrices, and the statistics of its inputs "
            f"are of {entry.columns} columns and {entry.matrices} matrices",
            "use the statistics that were made from this model",
            file=statistics.folder,
        )
    most = max(entry.tokens)
    if most < entry.columns:
        return Made(lacking=f"its statistics are of {most:,} tokens, and it has {entry.columns:,} columns")
    return Made(encoder=encoder, inputs=name, digest=entry.digest)


def matrix_of(entry: InputEntry, expert: int) -> int | None:
    """The number of an expert's Gram matrix; None where it is of fewer tokens than columns."""
    number = expert if entry.matrices > 1 else 0
    tokens = entry.tokens[number if len(entry.tokens) > 1 else 0]
    return None if tokens < entry.columns else number


def input_statistics(statistics: Statistics, weight: str, number: int) -> InputStatistics:
    """What an encoder is given. ImportanceError where the file is damaged."""
    tokens = statistics.entry(weight).tokens
    gram = statistics.matrix(weight, number)
    return InputStatistics(gram=gram, tokens=tokens[number if len(tokens) > 1 else 0])


def require_statistics(plan: Plan) -> None:
    """PlanError for a plan whose encoders need statistics, and that was made without any."""
    if any(a.lacking == NO_STATISTICS for a in plan.assignments):
        raise PlanError(
            f"the encoder of recipe {plan.recipe!r} needs the Gram matrices of the model's inputs",
            "give them with --statistics FOLDER; `quantrecipe imatrix compute --gram FOLDER` makes them",
            file=plan.recipe_file,
        )


def encoder_lines(plan: Plan) -> list[str]:
    """What each encoder makes, and of how many tokens for each column its statistics are: a line for each."""
    found: dict[str, list[Assignment]] = {}
    for a in plan.assignments:
        if a.encoder is not None:
            found.setdefault(a.encoder.name, []).append(a)
    lines = []
    for name, members in sorted(found.items()):
        weights = sum(a.tensor.size for a in members)
        line = f"{name}: {len(members)} of {len(plan.assignments)} tensors, {weights:,} weights"
        entries = (
            [] if plan.statistics is None else [plan.statistics.entry(a.inputs) for a in members if a.inputs]
        )
        if entries:
            each = [min(entry.tokens) / entry.columns for entry in entries]
            line += f"; statistics of {min(each):.3g} to {max(each):.3g} tokens for each column"
        lines.append(line)
    return lines


def encoder_warnings(assignments: Sequence[Assignment], statistics: Statistics | None) -> list[str]:
    """A line for each reason why the encoder that the recipe wants isn't used, and for experts without it."""
    found: dict[str, list[str]] = {}
    for a in assignments:
        if a.lacking:
            found.setdefault(a.lacking, []).append(a.tensor.name)
    without = found.pop(NO_STATISTICS, ())
    lines = [
        f"{some_of(without, 2)}: the recipe's encoder needs statistics of the inputs (--statistics FOLDER), and "
        "apply will refuse to go without"
        for _ in without[:1]
    ]
    lines += [
        f"{some_of(names, 2)}: each weight is rounded for itself, since {reason}"
        for reason, names in sorted(found.items())
    ]
    few: Mapping[str, int] = {
        a.tensor.name: sum(matrix_of(statistics.entry(a.inputs), e) is None for e in range(a.tensor.experts))
        for a in assignments
        if statistics is not None and a.inputs
    }
    if experts := {name: count for name, count in few.items() if count}:
        total = sum(experts.values())
        lines.append(
            f"{some_of(list(experts), 2)}: {total} experts got fewer tokens than they have columns, and each of their "
            "weights is rounded for itself"
        )
    return lines
