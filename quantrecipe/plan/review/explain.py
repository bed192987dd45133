"""explain: why a tensor gets its type: the rules tried, in order, then what the format says of the tensor.

Rules are traced as `resolve` tries them; nothing is refused here, so that a recipe that doesn't plan yet can be
understood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from quantrecipe.api import QuantFormat
from quantrecipe.errors import PlanError, Problem, QuantrecipeError
from quantrecipe.model.model import Model
from quantrecipe.plain_data import fields_of, rounded_bits
from quantrecipe.plan.assign import Choice, choose_format
from quantrecipe.plan.condition_facts import model_facts, tensor_facts
from quantrecipe.plan.plan import Plan
from quantrecipe.plan.resolution import Resolution
from quantrecipe.plan.trace import Decision, Match, is_matrix, shadowed
from quantrecipe.recipe.recipe import KEEP, KeepEntry, Rule
from quantrecipe.recipe.terms.expression_reasons import reasons
from quantrecipe.recipe.terms.meant_patterns import meant
from quantrecipe.recipe.terms.pattern import Pattern
from quantrecipe.tensor import TensorInfo

__all__ = ["Explanation", "Outcome", "Step", "Trial", "explain", "find_tensors"]

Outcome = Literal["decides", "matches", "names another", "kept", "no matrix", "other layers", "condition"]
"""What became of a rule; "matches": it would have decided, had no earlier rule."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A rule that was tried on a tensor.

    reasons: for a rule with layers or a `when`, what makes it match or not
    """

    rule: Rule
    outcome: Outcome
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The rule as it is written, and what became of it."""
        rule = self.rule
        return {
            "origin": str(rule.origin),
            "through": [str(origin) for origin in rule.through],
            "tensors": [str(pattern) for pattern in rule.tensors],
            "layers": str(rule.layers) if rule.layers else None,
            "when": rule.when.written_out if rule.when else None,
            "type": rule.type or None,
            "choose": rule.choose,
            **fields_of(self, "outcome", "reasons"),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A type that was tried, and why it doesn't take the tensor; "" if it does."""

    type: str
    misfit: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """Why one tensor gets its type.

    trials:     every rule of the recipe, in order
    decision:   what the recipe says
    kept:       the entry of the kept list that names the tensor
    steps:      the types that were tried, the wanted one first, the last one the type that it gets
    format:     what it gets; None where that can't be said, for the reason in `problems`
    copied:     True where the source's bytes are the output's
    importance: whether the importance matrix is used, and if not, why
    problems:   why it can't be had
    """

    tensor: TensorInfo
    trials: tuple[Trial, ...]
    decision: Decision
    kept: KeepEntry | None
    steps: tuple[Step, ...]
    format: QuantFormat | None
    copied: bool
    importance: str
    problems: tuple[Problem, ...] = ()

    @property
    def nbytes(self) -> int | None:
        """Bytes that the tensor's data has in the output; None where its type isn't known."""
        return None if self.format is None else self.format.spec.tensor_bytes(self.tensor.shape)

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        nbytes = self.nbytes
        return {
            **fields_of(self.tensor, "name", "shape"),
            "source_type": self.tensor.dtype,
            "layer": self.tensor.layer,
            "rules": self.trials,
            **fields_of(self.decision, "because", "why"),
            "kept_by": None if self.kept is None else str(self.kept.origin),
            "wanted": self.decision.type or None,
            "tried": self.steps,
            "type": None if self.format is None else self.format.spec.name,
            **fields_of(self, "copied", "importance", "nbytes"),
            "bits_per_weight": None
            if nbytes is None
            else rounded_bits(8 * nbytes / max(1, self.tensor.size)),
            "problems": [str(problem) for problem in self.problems],
        }


def find_tensors(model: Model, wanted: Sequence[str]) -> list[TensorInfo]:
    """The tensors that names, roles, patterns or `head` stand for, each once, in the order of the model.

    PlanError, with what may have been meant, where one stands for none.
    """
    head = model.head
    names = {tensor.name: tensor for tensor in model.tensors}
    hidden = shadowed(model.tensors)
    found: set[str] = set()
    problems: list[Problem] = []
    for text in wanted:
        if text in names:
            found.add(text)
            continue
        try:
            full = text.startswith("name:")
            pattern = Pattern.parse(text if full else text.removesuffix(".weight"))
        except QuantrecipeError as error:
            problems += error.problems
            continue
        hits = {
            tensor.name
            for tensor in model.tensors
            if pattern.matches(tensor, head, shadowed=tensor.name in hidden)
        }
        if not hits:
            problems.append(_unknown(text, model))
        found |= hits
    if problems:
        raise PlanError(problems)
    return [tensor for tensor in model.tensors if tensor.name in found]


def explain(resolution: Resolution, wanted: Sequence[str], plan: Plan | None = None) -> list[Explanation]:
    """An Explanation for each tensor that `wanted` stands for, as `find_tensors` finds them.

    `plan` is the plan of the same recipe and model, if there is one: what the optimiser chose is taken from it.
    PlanError where a name stands for no tensor, or a condition can't be evaluated.
    """
    asker = _Asker(resolution, plan)
    tensors = {tensor.name for tensor in find_tensors(resolution.model, wanted)}
    return [asker.explain(tensor) for tensor in resolution.trace.tensors if tensor.name in tensors]


class _Asker:
    def __init__(self, resolution: Resolution, plan: Plan | None) -> None:
        model = resolution.model
        self._resolution = resolution
        self._found = resolution.trace
        self._facts = model_facts(model, has_importance=resolution.importance is not None)
        self._head = model.head
        self._shadowed = shadowed(model.tensors)
        self._ranks: dict[frozenset[str], dict[str, int]] = {}
        self._planned = {a.tensor.name: a for a in plan.assignments} if plan else {}

    def explain(self, tensor: TensorInfo) -> Explanation:
        decision = self._found.decision(tensor)
        choice: Choice | None = None
        problems: tuple[Problem, ...] = ()
        if decision.type:
            try:
                choice = choose_format(decision, self._resolution)
            except PlanError as error:
                problems = error.problems
        elif (planned := self._planned.get(tensor.name)) is not None:  # its rule leaves several types open
            choice = Choice(
                format=planned.format,
                because=planned.because,
                copied=planned.copied,
                wanted=planned.wanted,
                misfit=planned.misfit,
            )
        return Explanation(
            tensor=tensor,
            trials=tuple(self._trials(tensor)),
            decision=decision,
            kept=self._found.kept[tensor.name],
            steps=self._steps(decision, choice),
            format=choice.format if choice else None,
            copied=choice is not None and choice.copied,
            importance=self._importance(tensor, choice),
            problems=problems,
        )

    def _trials(self, tensor: TensorInfo) -> Sequence[Trial]:
        decider = self._found.decided.get(tensor.name)
        return [self._trial(tensor, rule, match, decider) for rule, match in self._found.matches]

    def _trial(self, tensor: TensorInfo, rule: Rule, match: Match, decider: Rule | None) -> Trial:
        name = tensor.name
        if name not in match.named:
            hidden = name in self._shadowed
            named = any(pattern.matches(tensor, self._head, shadowed=hidden) for pattern in rule.tensors)
            outcome: Outcome = "names another"
            if named:
                outcome = "kept" if is_matrix(tensor) else "no matrix"
            return Trial(rule=rule, outcome=outcome)
        why = [] if rule.layers is None else [self._layers(tensor, rule)]
        if name not in match.in_layers:
            return Trial(rule=rule, outcome="other layers", reasons=tuple(why))
        if rule.when is not None:
            rank, count = self._rank(tensor, match), len(match.named)
            facts = tensor_facts(
                tensor,
                rank=rank,
                count=count,
                covered=name in self._resolution.covered,
                source_type=self._resolution.model.source_type(tensor),
            )
            why += reasons(rule.when, {**self._facts, **facts})
        outcome = "condition" if name not in match.matched else "decides" if rule is decider else "matches"
        return Trial(rule=rule, outcome=outcome, reasons=tuple(why))

    def _rank(self, tensor: TensorInfo, match: Match) -> int:
        """The tensor's position among the tensors that the rule names."""
        if (ranks := self._ranks.get(match.named)) is None:
            named = (it.name for it in self._found.tensors if it.name in match.named)
            ranks = self._ranks[match.named] = {name: rank for rank, name in enumerate(named)}
        return ranks[tensor.name]

    def _layers(self, tensor: TensorInfo, rule: Rule) -> str:
        if tensor.layer is None:
            return f"it stands outside the blocks, and the rule is about layers {rule.layers}"
        word = "is" if rule.layers and rule.layers.contains(tensor.layer, self._found.n_layers) else "isn't"
        return f"layer {tensor.layer} {word} in {rule.layers} of {self._found.n_layers}"

    def _steps(self, decision: Decision, choice: Choice | None) -> tuple[Step, ...]:
        """The wanted type, and the fallbacks up to the one that takes the tensor."""
        wanted = decision.type or (choice.wanted or choice.format.spec.name if choice else "")
        if wanted == KEEP or (choice is not None and choice.copied and choice.wanted is None):
            return (Step(type=choice.format.spec.name),) if choice else ()
        policy = (decision.rule.fallback if decision.rule else None) or self._resolution.recipe.fallback
        registry = self._resolution.registry
        tried = list(
            registry.chain(wanted) if policy == "chain" else [registry.format(wanted)] if wanted else []
        )
        if policy not in ("chain", "error"):
            tried.append(registry.format(policy))
        steps: list[Step] = []
        for fmt in tried:
            steps.append(Step(type=fmt.spec.name, misfit=fmt.accepts(decision.tensor) or ""))
            if not steps[-1].misfit:
                break
        return tuple(steps)

    def _importance(self, tensor: TensorInfo, choice: Choice | None) -> str:
        if choice is None or choice.copied:
            return "not used: nothing is quantized" if choice else ""
        spec = choice.format.spec
        if spec.importance == "ignored":
            return f"not used: {spec.name} ignores it"
        if self._resolution.importance is None:
            return "not used: no importance matrix is given"
        return (
            "used"
            if tensor.name in self._resolution.covered
            else "not used: the matrix doesn't cover this tensor"
        )


def _unknown(text: str, model: Model) -> Problem:
    roles = list(dict.fromkeys(tensor.role for tensor in model.tensors))
    names = [tensor.name.removesuffix(".weight") for tensor in model.tensors]
    close = get_close_matches(text.removesuffix(".weight"), [*roles, *names], n=3)
    remedy = f"did you mean {' or '.join(close)}?" if close else "`quantrecipe inspect MODEL` lists the names"
    hint = meant(text, roles)
    if "GGUF" in hint:  # a name of Hugging Face's looks like others by chance alone
        remedy = hint
    return Problem(what=f"no tensor of this model is named by {text!r}", remedy=remedy)
