"""Why a rule has its type: what its tensors lose by it, and what the next cheaper and the next better would change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from quantrecipe.allocate.losses import Losses
from quantrecipe.plan.plan import Assignment
from quantrecipe.registry import Registry
from quantrecipe.units import bytes_text

__all__ = ["Reason", "reason", "reason_text"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Another type for the same tensors: how many bytes more and how much more loss, negative for less."""

    type: str
    nbytes: int
    loss: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why a group of tensors has its type.

    cheaper: of the types that take less, the one that loses least for a byte that it saves
    better:  of the types that lose less, the one that saves most for a byte that it takes
    """

    type: str
    nbytes: int
    loss: float
    cheaper: Step | None
    better: Step | None


def reason(members: Sequence[Assignment], types: Iterable[str], losses: Losses, registry: Registry) -> Reason:
    """Say why tensors have their type; `types` were on offer."""
    chosen = members[0].format.spec
    nbytes = sum(a.nbytes for a in members)
    loss = _loss(members, losses, {a.tensor.name: a.type for a in members}, registry)
    steps = []
    for name in types:
        fmt = registry.formats[name]
        if name == chosen.name or any(fmt.accepts(a.tensor) is not None for a in members):
            continue
        if fmt.spec.importance == "required" and not all(a.importance for a in members):
            continue
        size = sum(fmt.spec.tensor_bytes(a.tensor.shape) for a in members)
        other = _loss(members, losses, dict.fromkeys((a.tensor.name for a in members), name), registry)
        steps.append(Step(type=name, nbytes=size - nbytes, loss=other - loss))
    cheaper = [step for step in steps if step.nbytes < 0 and step.loss > 0]
    better = [step for step in steps if step.nbytes > 0 and step.loss < 0]
    return Reason(
        type=chosen.name,
        nbytes=nbytes,
        loss=loss,
        cheaper=min(cheaper, key=lambda s: s.loss / -s.nbytes, default=None),
        better=max(better, key=lambda s: -s.loss / s.nbytes, default=None),
    )


def reason_text(why: Reason) -> str:
    """Write a reason: loses 0.00021; Q4_K loses 0.00042 more for 1.20 MiB less."""
    text = f"loses {_number(why.loss)}"
    parts = []
    if why.cheaper is not None:
        parts.append(
            f"{why.cheaper.type} loses {_number(why.cheaper.loss)} more for {bytes_text(-why.cheaper.nbytes)} less"
        )
    if why.better is not None:
        parts.append(
            f"{why.better.type} loses {_number(-why.better.loss)} less for {bytes_text(why.better.nbytes)} more"
        )
    return "; ".join([text, *parts])


def _loss(
    members: Sequence[Assignment], losses: Losses, types: Mapping[str, str], registry: Registry
) -> float:
    return fsum(
        losses.of(a.tensor.name, registry.formats[types[a.tensor.name]].spec) for a in members if not a.copied
    )


def _number(loss: float) -> str:
    return f"{loss:.2g}"
