"""What `speed` found, as a person reads it: how fast a model would be in each type, and what each role takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from quantrecipe.cli.errors import printable
from quantrecipe.cli.tables import Kind, Paragraph, Table, numbers
from quantrecipe.speed.clock import Clock, Pace
from quantrecipe.speed.profile import ROLES, Profile
from quantrecipe.speed.verdicts import iq_or_q

if TYPE_CHECKING:
    from quantrecipe.measure.speed import Measured
    from quantrecipe.model.model import Model
    from quantrecipe.registry import Registry

__all__ = [
    "iq_or_q_text",
    "pace_text",
    "rate_text",
    "render_measured",
    "render_profiles",
    "render_removed",
    "speed_document",
]

_MUCH = 1.25
"""How many times as long an IQ type has to take that one is told to leave it."""


def render_measured(found: Sequence[Measured], model: Model, registry: Registry) -> RenderableType:
    """A table for each way in which it was measured."""
    parts: list[RenderableType] = []
    for measured in found:
        profile = measured.profile
        head = (
            f"{printable(profile.where)}; llama.cpp {printable(profile.engine)}; files with the shapes of "
            f"{printable(profile.model)}, each timed {measured.turns} times; what was timed is "
            f"{100 * profile.misfit:.1f} % from what the rates say"
        )
        parts += [Paragraph(head, indent=0), _table(profile, model, registry)]
        if text := iq_or_q_text(profile, registry):
            parts.append(Paragraph(text, indent=0))
        parts.append(Text())
    said = (
        "tokens/s: a whole model of these shapes with all matrices in this type, at the beginning of a context. "
        "`plan`, `diff` and `advise` now say it of any mix."
    )
    return Lines(*parts, Paragraph(said, "dim", indent=0))


def _table(profile: Profile, model: Model, registry: Registry) -> Table:
    roles = [role for role in ROLES if any(role in rates for rates in profile.token.by.values())]
    columns: dict[str, Kind] = {"type": "word", **numbers("bits", "tokens/s", "prompt tokens/s")}
    headings = [f"{role}, GB/s" for role in roles]
    columns |= numbers(*headings)
    rows = []
    for type_, pace in _paces(profile, model, registry).items():
        rates = profile.token.by.get(type_, {})
        rows.append(
            (
                type_,
                f"{registry.formats[type_].spec.bits_per_weight:.2f}",
                rate_text(pace.token),
                rate_text(pace.prompt),
                *(f"{1e-9 / rates[role]:.1f}" if rates.get(role) else "–" for role in roles),
            )
        )
    return Table(columns, rows, spare=list(reversed(headings)))


def _paces(profile: Profile, model: Model, registry: Registry) -> dict[str, Pace]:
    """How fast the whole model would be in each type that it can have, the fewest bits first."""
    from quantrecipe.measure.speed.few_layers import whole_model
    from quantrecipe.measure.speed.mixes import mix_plan

    whole = whole_model(model)
    clock = Clock(whole, {profile.place: profile})
    found = {}
    known = [type_ for type_ in profile.types if type_ in registry.formats]
    for type_ in sorted(known, key=lambda name: registry.formats[name].spec.bits_per_weight):
        plan = mix_plan(whole, dict.fromkeys(ROLES, type_), registry)
        found[type_] = clock.pace([(a.tensor, a.nbytes, a.type) for a in plan.assignments])
    return found


def rate_text(rate: float | None) -> str:
    """Tokens per second, with the digits that mean something; "–" where it isn't known."""
    return "–" if rate is None else f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def pace_text(pace: Pace, profile: Profile, way: str = "") -> str:
    """How fast a mix is here, in a sentence; what is missing where that can't be said."""
    where = f"{way + ', ' if way else ''}{printable(profile.where)}"
    if pace.token is None or pace.prompt is None:
        missing = ", ".join(pace.missing) or "something"
        return (
            f"speed here isn't known: {missing} wasn't measured ({where}); "
            "`quantrecipe speed MODEL --types …` measures it"
        )
    return (
        f"speed here: about {rate_text(pace.token)} tokens/s in answers, {rate_text(pace.prompt)} in prompts ({where}; "
        f"measured on {profile.made:%Y-%m-%d} with shapes of {printable(profile.model)})"
    )


def iq_or_q_text(profile: Profile, registry: Registry) -> str:
    """Whether IQ types are slower than Q types here, in the user's own figures; "" where none were measured."""
    bits = {name: fmt.spec.bits_per_weight for name, fmt in registry.formats.items()}
    rivals = iq_or_q(profile, bits)
    if not rivals:
        return ""
    told = "; ".join(
        f"{rival.iq} takes {rival.answers:.2g} times as long as {rival.q} in answers, {rival.prompts:.2g} times in "
        "prompts"
        for rival in rivals
    )
    worst, best = max(rival.answers for rival in rivals), min(rival.answers for rival in rivals)
    if best > _MUCH:
        advice = "take IQ types only where a smaller loss at the same size is worth that time"
    elif worst > _MUCH:
        slow = [rival.iq for rival in rivals if rival.answers > _MUCH]
        advice = f"take {', '.join(slow)} only where a smaller loss at the same size is worth that time"
    else:
        advice = "IQ types are about as fast as Q types here: take what loses less"
    return f"IQ or Q on {printable(profile.where)}: for the same weights, {told}. So {advice}."


def render_profiles(found: Sequence[Profile]) -> RenderableType:
    """All that was measured, the newest first."""
    if not found:
        return Paragraph("nothing was measured on this machine: `quantrecipe speed MODEL` does it", indent=0)
    rows = [
        (
            profile.key,
            f"{profile.made:%Y-%m-%d %H:%M}",
            profile.model,
            profile.where,
            profile.engine,
            ", ".join(profile.types),
        )
        for profile in found
    ]
    columns: dict[str, Kind] = {"key": "word", "made (UTC)": "word", "shapes of": "name"}
    columns |= {"where": "text", "llama.cpp": "text", "types": "text"}
    return Table(columns, rows)


def render_removed(gone: Sequence[Profile]) -> RenderableType:
    """What was removed."""
    return Lines(
        *(
            Paragraph(
                f"removed {profile.key}: {printable(profile.where)}, shapes of {printable(profile.model)}"
            )
            for profile in gone
        )
    )


def speed_document(found: Sequence[Measured], model: Model, registry: Registry) -> dict[str, Any]:
    """What is printed, with all rates."""
    return {"measurements": list(_documents(found, model, registry))}


def _documents(found: Sequence[Measured], model: Model, registry: Registry) -> Iterator[dict[str, Any]]:
    bits = {name: fmt.spec.bits_per_weight for name, fmt in registry.formats.items()}
    for measured in found:
        paces = _paces(measured.profile, model, registry)
        yield {
            **measured.profile.to_json(),
            "turns": measured.turns,
            "left_out": measured.left_out,
            "whole_model": paces,
            "iq_or_q": iq_or_q(measured.profile, bits),
        }
