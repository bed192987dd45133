"""Progress: who wants to hear how far a measurement is. Called from one thread at a time."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """A measurement has stages; each has a name, and a share of it that is done."""

    def stage(self, what: str) -> None:
        """Something else begins: "losses", "probes"."""

    def say(self, what: str) -> None:
        """What is at work now: a tensor, a probe."""

    def share(self, done: float) -> None:
        """So much of what is at work now is done, from 0 to 1."""

    def total(self, done: float) -> None:
        """So much of the stage is done, from 0 to 1."""


class Silent:
    """Hears nothing."""

    def stage(self, what: str) -> None: ...

    def say(self, what: str) -> None: ...

    def share(self, done: float) -> None: ...

    def total(self, done: float) -> None: ...
