"""A machine whose speed is known: sessions that say how long a file would take there, without running it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from quantrecipe.errors import EvaluationError
from quantrecipe.measure.speed import beside
from quantrecipe.model.model import Model
from quantrecipe.model.open_model import open_model
from quantrecipe.speed.clock import Needs
from quantrecipe.speed.kept import remember
from quantrecipe.speed.profile import Profile, Rates, shapes_digest

PROCESSOR = "a processor"
CONSTANT = 2e-5
TOKEN = {
    "IQ2_XXS": 3e-10,
    "Q8_0": 4e-11,
    "Q6_K": 5e-11,
    "Q4_K": 6e-11,
    "Q3_K": 8e-11,
    "IQ3_S": 3e-10,
    "IQ4_XS": 7e-11,
}
"""Seconds for a byte in answers; the head is a quarter quicker."""
PROMPT = {
    "IQ2_XXS": 3e-11,
    "Q8_0": 2e-11,
    "Q6_K": 1.5e-11,
    "Q4_K": 1.6e-11,
    "Q3_K": 1.4e-11,
    "IQ3_S": 2.5e-11,
    "IQ4_XS": 2e-11,
}
"""Seconds for a weight in prompts."""


def seconds_of(model: Model, mix: Mapping[str, tuple[int, str]], *, prompt: int = 0) -> float:
    """Of a token of an answer, or of a whole prompt. mix: bytes and type of each tensor, by its name"""
    needs = Needs(model)
    total = CONSTANT * (prompt or 1)
    for tensor in model.tensors:
        nbytes, type_ = mix[tensor.name]
        if type_ not in TOKEN:
            continue
        answer = needs.answer(tensor, nbytes) * TOKEN[type_] * (0.75 if needs.role(tensor) == "head" else 1)
        if not prompt:
            total += answer
        else:
            total += answer if needs.only_last(tensor) else prompt * needs.prompt(tensor) * PROMPT[type_]
    return total


class TimedSession:
    """Stands in for engine.Session: every other token is disturbed, and takes up to twice as long."""

    refuses: tuple[str, ...] = ()
    opened: list[str]

    def __init__(self, path: Path, **options: Any) -> None:
        self._model = open_model(path)
        self._mix = {
            tensor.name: (self._model.sources[tensor.name].nbytes, tensor.dtype)
            for tensor in self._model.tensors
        }
        self._options = options

    def __enter__(self) -> Self:
        for type_ in self.refuses:
            if any(used == type_ for _, used in self._mix.values()):
                raise EvaluationError(f"llama.cpp can't load it: it has no {type_}", file=self._model.path)
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def call(self, function: object, prompt: int, answer: int) -> tuple[float, list[float]]:
        each = seconds_of(self._model, self._mix)
        busy = 1 + np.random.default_rng(len(self._mix)).random(answer)
        busy[::2] = 1
        return seconds_of(self._model, self._mix, prompt=prompt), (each * busy).tolist()


def use_timed_machine(monkeypatch: pytest.MonkeyPatch, *, refuses: tuple[str, ...] = ()) -> None:
    """Let files be timed there."""
    monkeypatch.setattr(beside, "Session", TimedSession)
    monkeypatch.setattr(TimedSession, "refuses", refuses)


def profile(model: Model, /, **more: Any) -> Profile:
    """What measuring that machine for a model would find, of all its types."""
    by = {
        type_: {"attention": rate, "feed-forward": rate, "experts": rate, "head": 0.75 * rate}
        for type_, rate in TOKEN.items()
    }
    fields: dict[str, Any] = {
        "processor": PROCESSOR,
        "device": "",
        "threads": 4,
        "engine": "b7000",
        "model": "shapes/x",
        "shapes": shapes_digest(model),
        "width": 256,
        "token": Rates(constant=CONSTANT, by=by),  # type: ignore[arg-type]  # the roles that there are
        "prompt": Rates(
            constant=CONSTANT, by={type_: {"feed-forward": rate} for type_, rate in PROMPT.items()}
        ),
        "tokens": 64,
        "misfit": 0.01,
        "made": datetime(2026, 11, 30, 12, tzinfo=UTC),
    }
    return Profile(**{**fields, **more})


def empty_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Measurements go to this folder, and this machine has `PROCESSOR`."""
    monkeypatch.setattr("quantrecipe.speed.folder.speed_folder", lambda: folder / "speed")
    monkeypatch.setattr("quantrecipe.memory.machine.processor_name", lambda: PROCESSOR)


def measured_here(monkeypatch: pytest.MonkeyPatch, folder: Path, model: str, **more: Any) -> Profile:
    """As if `quantrecipe speed MODEL` had measured all types of `timed_machine` here."""
    empty_folder(monkeypatch, folder)
    found = profile(open_model(model), model=model, **more)
    remember(found)
    return found
