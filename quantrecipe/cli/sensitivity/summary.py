"""A sensitivity as a person reads it: what was measured, how surely, and which roles the output depends on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group as Lines
from rich.console import RenderableType

from quantrecipe.cli.errors import printable
from quantrecipe.cli.tables import Kind, Paragraph, Table, numbers
from quantrecipe.cli.units import count_text
from quantrecipe.measure import Scope
from quantrecipe.plain_data import fields_of
from quantrecipe.sensitivity import Sensitivity, TensorSensitivity
from quantrecipe.tensor import split_name

__all__ = [
    "cost_near",
    "reference_type",
    "render_sensitivity",
    "roles_table",
    "sampling_error",
    "sentences",
    "summary_document",
]

# A small, a usual and a large type: a column for each would be too many.
_SHOWN_TYPES = ("Q2_K", "Q4_K", "Q6_K")
# Of Q4_K, in which roles are compared.
_REFERENCE_BITS = 4.5


def render_sensitivity(found: Sensitivity) -> RenderableType:
    """A table of roles, and what is to be known about the numbers."""
    return Lines(roles_table(found), *sentences(found))


def sentences(found: Sensitivity) -> Iterator[Paragraph]:
    """What was measured, how surely, and what it weighs; and experts that calibration never reached."""
    source = found.provenance
    tensors = list(found.tensors.values())
    typical, worst = sampling_error(found)
    measured = (
        f"{len(tensors)} tensors, {len(found.types)} types, losses by {source.analysis} ({source.sampling})"
    )
    if worst > 0:
        measured += f"; standard error of sampling: {typical:.1%} of a loss, {worst:.1%} at most"
    if count := predicted_count(found):
        median, most = check_errors(found)
        measured += f". {count} losses are predicted; checks were off by {median:.1%}, {most:.1%} at most"
    yield from (Paragraph(printable(measured)), Paragraph(printable(_weighing(found))))
    for tensor in tensors:
        if tensor.unseen:
            many = f"{len(tensor.unseen)} of its {len(tensor.experts) or '?'} experts"
            yield Paragraph(f"! {printable(tensor.name)}: calibration never reached {many}", "yellow")


def summary_document(found: Sensitivity, scope: Scope, out: Path, pictures: Sequence[Path]) -> dict[str, Any]:
    """What is printed of it, in this order; all numbers are in the file."""
    typical, worst = sampling_error(found)
    return {
        "output": out,
        "pictures": pictures,
        "tensors": len(found.tensors),
        "types": found.types,
        **fields_of(found.provenance, "analysis", "weighing", "sampling"),
        "sampling_error_median": typical,
        "sampling_error_largest": worst,
        "predicted": predicted_count(found),
        "check_error_median": check_errors(found)[0],
        "check_error_largest": check_errors(found)[1],
        "probes": sum(probe.used for probe in found.probes),
        "probed_in": _residents(found),
        "unseen_experts": {t.name: t.unseen for t in found.tensors.values() if t.unseen},
        "fallbacks": [
            {"type": wanted, "measured": fallback, "tensors": [tensor.name for tensor in tensors]}
            for (wanted, fallback), tensors in scope.instead.items()
        ],
        "left_out": scope.left_out,
        "already_quantized": scope.quantized,
    }


def sampling_error(found: Sensitivity) -> tuple[float, float]:
    """Standard errors as shares of the losses: the median over tensors and types, and the largest.

    Losses below those of 8 bits don't count: 16-bit types lose next to nothing.
    """
    shares = sorted(
        loss.standard_error / loss.error
        for tensor in found.tensors.values()
        for name, loss in tensor.losses.items()
        if loss.error > 1e-5 and name not in tensor.predicted
    )
    return (shares[len(shares) // 2], shares[-1]) if shares else (0.0, 0.0)


def predicted_count(found: Sensitivity) -> int:
    """How many losses of a tensor in a type were predicted, not measured."""
    return sum(len(tensor.predicted) for tensor in found.tensors.values())


def check_errors(found: Sensitivity) -> tuple[float, float]:
    """How far predictions were off where one was checked: the median over tensors, and the largest."""
    off = sorted(abs(tensor.check) for tensor in found.tensors.values() if tensor.predicted)
    return (off[len(off) // 2], off[-1]) if off else (0.0, 0.0)


def reference_type(found: Sensitivity) -> str:
    """The type that tensors are compared in: Q4_K, or what is nearest to its size."""
    types = found.types
    if "Q4_K" in types:
        return "Q4_K"
    sizes = {
        name: min(8 * t.losses[name].nbytes / t.weights for t in found.tensors.values() if name in t.losses)
        for name in types
    }
    return min(types, key=lambda name: (abs(sizes[name] - _REFERENCE_BITS), name))


def roles_table(found: Sensitivity) -> Table:
    """What the roles cost, the most expensive first."""
    by_role: dict[str, list[TensorSensitivity]] = defaultdict(list)
    for tensor in found.tensors.values():
        by_role[split_name(tensor.name)[1]].append(tensor)
    reference = reference_type(found)
    shown = [name for name in _SHOWN_TYPES if name in found.types] or [reference]
    costs = {role: _cost(tensors, reference) for role, tensors in by_role.items()}
    total = sum(costs.values()) or 1.0
    rows = []
    for role in sorted(costs, key=lambda role: -costs[role]):
        tensors = by_role[role]
        alphas = [tensor.alpha for tensor in tensors]
        several = f"{min(alphas):.2g} … {max(alphas):.2g}" if len(alphas) > 1 else ""
        rows.append(
            (
                role,
                str(len(tensors)),
                count_text(sum(tensor.weights for tensor in tensors)),
                f"{100 * costs[role] / total:.1f}",
                *(_mean_loss(tensors, name) for name in shown),
                f"{sum(alphas) / len(alphas):.3g}",
                several,
            )
        )
    errors = [f"error % in {name}" for name in shown]
    columns: dict[str, Kind] = {
        "tensor": "name",
        **numbers("count", "weights", f"cost in {reference}, share %"),
    }
    return Table(columns | numbers(*errors, "alpha, mean", "alpha, from … to"), rows)


def _mean_loss(tensors: Iterable[TensorSensitivity], name: str) -> str:
    losses = [tensor.losses[name].error for tensor in tensors if name in tensor.losses]
    return f"{100 * sum(losses) / len(losses):.2f}" if losses else "–"


def _cost(tensors: Iterable[TensorSensitivity], reference: str) -> float:
    return sum(cost_near(tensor, reference) for tensor in tensors)


def cost_near(tensor: TensorSensitivity, reference: str) -> float:
    """What the tensor costs in this type, or where it doesn't take it in the measured one of the nearest size."""
    cost = tensor.cost(reference)
    if cost is not None or not tensor.losses:
        return cost or 0.0
    bits = {name: 8 * loss.nbytes / tensor.weights for name, loss in tensor.losses.items()}
    # Q4_K's size, which a reference has or comes near to (`reference_type`).
    return tensor.cost(min(bits, key=lambda name: (abs(bits[name] - _REFERENCE_BITS), name))) or 0.0


def _weighing(found: Sensitivity) -> str:
    source = found.provenance
    by_source: dict[str, int] = defaultdict(int)
    for tensor in found.tensors.values():
        by_source[tensor.alpha_source] += 1
    if by_source.keys() == {"prior"}:
        return (
            f"alphas are the prior's (version {source.prior}), by role and depth: "
            "nobody ran this model; --text FILE does"
        )
    parts = ", ".join(f"{count} by {name}" for name, count in sorted(by_source.items()))
    used = sum(probe.used for probe in found.probes)
    resident = ", ".join(_residents(found))
    probes = f", {used} probes on {_names_of(source.text)}" if used else ""
    probes += f" with the model in {resident}" if used and resident else ""
    reference = reference_type(found)
    total = _cost(found.tensors.values(), reference)
    return f"alphas: {parts}{probes}; everything in {reference} should cost {total:.4f} nats of KL divergence"


def _residents(found: Sensitivity) -> list[str]:
    """Types that the model had in memory while probes were made that alphas rest on."""
    return sorted({probe.resident for probe in found.probes if probe.used and probe.resident})


def _names_of(text: str) -> str:
    """ "code.txt 7da…, prose.txt 01f…; 16 × 512 tokens of each" → "code.txt, prose.txt"."""
    return ", ".join(part.rsplit(" ", 1)[0] for part in text.split(";")[0].split(", "))
