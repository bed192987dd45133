"""Clock: the time that a mix takes for a token, from what was measured on this machine.

Each matrix takes the time of the device on which it lies. Routers and other matrices that no mix quantizes were in
all files that were timed, so their time is in that of the others. What isn't in it: the attention over a long context
(times are those of a context's beginning), and the copies between the devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from quantrecipe.memory.active import ActiveBytes
from quantrecipe.model.model import Model
from quantrecipe.plain_data import significant
from quantrecipe.speed.profile import Place, Profile, Rates, Role, role_of
from quantrecipe.tensor import F32_ROLES, TensorInfo

__all__ = ["Clock", "Mixed", "Needs", "Pace"]

Mixed = Iterable[tuple[TensorInfo, int, str]]
"""The tensors of a mix: each with its bytes, and the name of its type."""

Places = Callable[[TensorInfo], Place]

_UNMEASURED = 0.01
"""The share of what a token reads that may be of types that weren't measured."""


_UNQUANTIZED = ("F32", "F16", "BF16")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How fast a mix runs: tokens per second, None where that can't be said.

    token:   of an answer, at the beginning of a context
    prompt:  of a prompt
    missing: types of the mix that weren't measured
    """

    token: float | None
    prompt: float | None
    missing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order."""
        return {
            "tokens_per_second": None if self.token is None else significant(self.token, 4),
            "prompt_tokens_per_second": None if self.prompt is None else significant(self.prompt, 4),
            "not_measured": self.missing,
        }


class Needs:
    """What a token needs of each matrix of a model: bytes in an answer, weights in a prompt.

    Of a prompt only the last token gets logits, and so only that goes through the head, and through the feed-forward
    part of the last layer: these count as nothing there.
    """

    def __init__(self, model: Model) -> None:
        self._reads = ActiveBytes(model)
        self._head, self._last = model.head, model.n_layers - 1

    @property
    def known(self) -> bool:
        """False where a model with experts doesn't say how many of them a token is sent to."""
        return self._reads.known

    def role(self, tensor: TensorInfo) -> Role:
        """What the matrix does."""
        return role_of(tensor, self._head)

    def answer(self, tensor: TensorInfo, nbytes: int) -> int:
        """Bytes that a token of an answer reads of a tensor of so many."""
        return self._reads(tensor, nbytes)

    def prompt(self, tensor: TensorInfo) -> int:
        """Weights that each token of a prompt is multiplied with."""
        return 0 if self.only_last(tensor) else self._reads(tensor, tensor.size)

    def only_last(self, tensor: TensorInfo) -> bool:
        """True for what only the last token of a prompt goes through."""
        role = self.role(tensor)
        return role == "head" or (tensor.layer == self._last and role in ("feed-forward", "experts"))


class Clock:
    """The times of one model's mixes. profiles: what was measured, by the device on which layers lie."""

    def __init__(self, model: Model, profiles: Mapping[Place, Profile]) -> None:
        self.profiles = profiles
        self._needs = Needs(model)

    def pace(self, mix: Mixed, place: Places | None = None) -> Pace:
        """How fast a mix runs. place: where each tensor lies; without it, all lie where the only profile is of."""
        mix = list(mix)
        where = place or self.only
        token, missing = self._seconds(mix, where, prompt=False)
        prompt, also = self._seconds(mix, where, prompt=True)
        return Pace(
            token=1 / token if token else None,
            prompt=1 / prompt if prompt else None,
            missing=tuple(sorted(missing | also)),
        )

    def only(self, tensor: TensorInfo) -> Place:
        """The GPU where that was measured, else the processor; where one table alone stays in main memory, it does."""
        return "gpu" if "gpu" in self.profiles else "cpu"

    def constant(self, place: Place) -> float:
        """Seconds of each token of an answer, whatever its types. KeyError where the place wasn't measured."""
        return self.profiles[place].token.constant

    def seconds(self, tensor: TensorInfo, nbytes: int, type_: str, place: Place) -> float | None:
        """Seconds that a token of an answer takes for a tensor; None for a type that wasn't measured there."""
        if len(tensor.shape) < 2 or _in_every_mix(tensor, type_):
            return 0.0
        return self._of(tensor, nbytes, type_, place, prompt=False)

    def _seconds(self, mix: Mixed, where: Places, *, prompt: bool) -> tuple[float | None, set[str]]:
        """Of a token; and the types that weren't measured. None where there are many of those, or no profile."""
        if not self._needs.known or not self.profiles:
            return None, set()
        total, known, unknown = 0.0, 0, 0
        missing: set[str] = set()
        places: set[Place] = set()
        for tensor, nbytes, type_ in mix:
            if len(tensor.shape) < 2 or _in_every_mix(tensor, type_):
                continue
            place = where(tensor)
            seconds = self._of(tensor, nbytes, type_, place, prompt=prompt)
            read = self._needs.answer(tensor, nbytes)
            if seconds is None:
                unknown += read
                missing.add(type_)
                continue
            places.add(place)
            known += read
            total += seconds
        if unknown > _UNMEASURED * (known + unknown) or not places:
            return None, missing
        return total + max(self._rates(place, prompt=prompt).constant for place in places), set()

    def _of(self, tensor: TensorInfo, nbytes: int, type_: str, place: Place, *, prompt: bool) -> float | None:
        if place not in self.profiles:
            return None
        needs = self._needs
        rate = self._rates(place, prompt=prompt).of(type_, needs.role(tensor))
        amount = needs.prompt(tensor) if prompt else needs.answer(tensor, nbytes)
        return rate * amount if rate is not None else None if amount else 0.0

    def _rates(self, place: Place, *, prompt: bool) -> Rates:
        profile = self.profiles[place]
        return profile.prompt if prompt else profile.token


def _in_every_mix(tensor: TensorInfo, type_: str) -> bool:
    """True for what nobody quantizes: the files that were timed have it, too."""
    return type_ in _UNQUANTIZED and tensor.role in F32_ROLES
