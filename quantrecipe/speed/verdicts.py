"""What a profile says of types, in words and without a mix: which are slow here, and whether IQ is slower than Q.

Types are compared by the time that they take for the same weights, in the role that most of a model's weights have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quantrecipe.speed.profile import Profile, Rates, Role

__all__ = ["PAIRS", "Rival", "iq_or_q", "slow_types"]

PAIRS = (("IQ4_XS", "Q4_K"), ("IQ3_S", "Q3_K"), ("IQ2_S", "Q2_K"))
"""Types that one chooses between: about as many bits, with codebooks and without."""

_YARDSTICK = "Q8_0"
"""A type is slow where it takes longer than this one, of more than twice as many bytes: nothing is gained but room."""
_WEIGHING: tuple[Role, ...] = ("experts", "feed-forward", "attention", "head")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rival:
    """How many times as long an IQ type takes as the Q type beside it, in answers and in prompts."""

    iq: str
    q: str
    answers: float
    prompts: float


def iq_or_q(profile: Profile, bits: Mapping[str, float]) -> list[Rival]:
    """The pairs of which both were measured. bits: of a weight, by type"""
    found = []
    for iq, q in PAIRS:
        ours, theirs = (_per_weight(profile.token, type_, bits.get(type_, 0.0) / 8) for type_ in (iq, q))
        prompt, beside = (_per_weight(profile.prompt, type_, 1.0) for type_ in (iq, q))
        if ours and theirs and prompt and beside:
            found.append(Rival(iq=iq, q=q, answers=ours / theirs, prompts=prompt / beside))
    return found


def slow_types(profile: Profile, bits: Mapping[str, float]) -> frozenset[str]:
    """The measured types that are smaller than Q8_0 and yet take longer in answers. bits: of a weight, by type"""
    most = _per_weight(profile.token, _YARDSTICK, bits[_YARDSTICK] / 8)
    times = {type_: _per_weight(profile.token, type_, bits.get(type_, 0.0) / 8) for type_ in profile.types}
    smaller = {type_ for type_ in times if bits.get(type_, 0.0) < bits[_YARDSTICK]}
    return frozenset(type_ for type_ in smaller if most and (times[type_] or 0.0) > most)


def _per_weight(rates: Rates, type_: str, unit: float) -> float | None:
    """Seconds for a weight in the first of the weightier roles that there is. unit: what the rates are per, of it"""
    by = rates.by.get(type_, {})
    role = next((role for role in _WEIGHING if by.get(role)), None)
    return None if role is None else by[role] * unit
