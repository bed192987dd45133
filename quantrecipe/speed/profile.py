"""Profile: how long llama.cpp takes for a byte of each type in each role, on one machine, as it was measured.

    a token of an answer    constant + Σ bytes that it reads of a matrix · seconds per byte
    a token of a prompt     constant + Σ weights that it is multiplied with · seconds per weight

Answers wait for memory, and prompts for arithmetic, so each has rates of its own. The head isn't in those of prompts: a
prompt needs the logits of its last token alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from quantrecipe.model.model import Model
from quantrecipe.plain_data import fields_of, significant
from quantrecipe.tensor import TensorInfo

__all__ = ["ROLES", "Place", "Profile", "Rates", "Role", "role_of", "shapes_digest"]

Role = Literal["attention", "feed-forward", "experts", "head"]

ROLES: tuple[Role, ...] = ("attention", "feed-forward", "experts", "head")
"""What matrices do, as far as their speed goes: recurrent layers count as attention, shared experts as feed-forward."""

Place = Literal["cpu", "gpu"]

_DIGITS = 5  # of a rate: a measurement is sure of two


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds for each unit of each type and role, and a constant for each token.

    by: type → role → seconds per byte, or per weight
    """

    constant: float
    by: Mapping[str, Mapping[Role, float]]

    def of(self, type_: str, role: Role) -> float | None:
        """The rate of a type in a role; in a role that the measured model hasn't, what the type takes elsewhere.

        None for a type that wasn't measured.
        """
        rates = self.by.get(type_)
        if not rates:
            return None
        return rates[role] if role in rates else sum(rates.values()) / len(rates)

    def to_json(self) -> dict[str, Any]:
        """What is written of it, with the digits that mean something."""
        by = {
            type_: {role: significant(rate, _DIGITS) for role, rate in rates.items()}
            for type_, rates in self.by.items()
        }
        return {"constant": significant(self.constant, _DIGITS), "by": by}


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """What was measured in one way of running models.

    processor: name of the machine's processor
    device:    name of the GPU that has all layers; "" where the processor has them
    threads:   of the processor
    engine:    llama.cpp's version
    model:     whose shapes the measured files had, as it was named
    shapes:    their digest; see `shapes_digest`
    width:     of the model (its embedding's columns), by which the nearest model is found
    token:     rates of answers, seconds per byte
    prompt:    rates of prompts, seconds per weight
    tokens:    length of the prompts that were timed
    misfit:    how far the rates are from the times that they were made of: root mean square, a share
    made:      when, in UTC
    """

    processor: str
    device: str
    threads: int
    engine: str
    model: str
    shapes: str
    width: int
    token: Rates
    prompt: Rates
    tokens: int
    misfit: float
    made: datetime

    @property
    def place(self) -> Place:
        """Where the layers were."""
        return "gpu" if self.device else "cpu"

    @property
    def key(self) -> str:
        """A short name of what was measured how: a second measurement of the same replaces the first."""
        parts = (self.processor, self.device, str(self.threads), self.engine, self.shapes)
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=4).hexdigest()

    @property
    def types(self) -> tuple[str, ...]:
        """The types that were measured, in the order in which they were."""
        return tuple(self.token.by)

    @property
    def where(self) -> str:
        """The machine in a few words."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return self.device or f"{self.processor}, {threads}"

    def to_json(self) -> dict[str, Any]:
        """The file's content, in this order."""
        return {
            "key": self.key,
            **fields_of(self, "processor", "device", "threads", "engine", "model", "shapes", "width"),
            **fields_of(self, "token", "prompt", "tokens"),
            "misfit": significant(self.misfit, 3),
            "made": self.made.isoformat(timespec="seconds"),
        }


def role_of(tensor: TensorInfo, head: str | None) -> Role:
    """What a matrix does. head: name of the one that makes the logits"""
    if tensor.name == head:
        return "head"
    if tensor.role.endswith(("_exps", "_chexps")):
        return "experts"
    return "feed-forward" if tensor.role.startswith("ffn_") else "attention"


def shapes_digest(model: Model) -> str:
    """The same for models whose layers have the same shapes, however many layers there are."""
    shapes = {
        (tensor.role, tensor.shape)
        for tensor in model.tensors
        if len(tensor.shape) > 1 and tensor.layer is not None
    }
    return hashlib.blake2b(repr(sorted(shapes)).encode(), digest_size=8).hexdigest()
