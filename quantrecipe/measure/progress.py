"""Progress: who wants to hear how far a measurement is. Called from one thread at a time."""

from __future__ import annotations

from typing import Protocol

__all__ = ["COMPILING", "Progress", "Silent"]

COMPILING = "compiling kernels"
"""The stage before all others, where kernels aren't in the user's cache."""


class Progress(Protocol):
    """A measurement has stages; each has a name, and a share of it that is done."""

    def stage(self, what: str) -> None:
        """Something else begins: "losses", "probes"; COMPILING may come first."""

    def say(self, what: str) -> None:
        """This is at work now: a tensor, or a probe."""

    def share(self, done: float) -> None:
        """So much of what is at work now is done, from 0 to 1."""

    def total(self, done: float) -> None:
        """So much of the stage is done, from 0 to 1."""

    def note(self, what: str) -> None:
        """This should be known of the numbers, or of the time that they take: one line."""


class Silent:
    """A Progress for whoever doesn't want to hear anything."""

    def stage(self, what: str) -> None: ...

    def say(self, what: str) -> None: ...

    def share(self, done: float) -> None: ...

    def total(self, done: float) -> None: ...

    def note(self, what: str) -> None: ...
