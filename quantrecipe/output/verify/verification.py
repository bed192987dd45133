"""Verification: which checks were made, and what each found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from quantrecipe.plain_data import fields_of

__all__ = ["Check", "Finding", "Verification"]

Name = Literal["header", "payload", "recipe", "types", "lock", "plan", "source", "bytes"]
Status = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that isn't as it should be.

    tensor: its name, or None where it isn't about one
    file, offset: where in which file it begins
    row, block:   counted from 0, over all experts; None where that isn't known
    """

    what: str
    tensor: str | None = None
    file: Path | None = None
    offset: int | None = None
    row: int | None = None
    block: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One question and its answer. `said`: what was checked, or why it wasn't."""

    name: Name
    status: Status
    said: str
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, name: Name, said: str, findings: Iterable[Finding]) -> Check:
        """A check that was made: failed if there is any finding."""
        found = tuple(findings)
        return cls(name=name, status="failed" if found else "ok", said=said, findings=found)

    @classmethod
    def skipped(cls, name: Name, said: str) -> Check:
        """A check that wasn't made, and why."""
        return cls(name=name, status="skipped", said=said)

    def to_json(self) -> dict[str, Any]:
        """Its fields; its name stands there as `check`."""
        return {"check": self.name, **fields_of(self, "status", "said", "findings")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """All checks of a file.

    claims:      False where the file says nothing of how it was made, so that only what was given counts
    requantized: names of tensors
    read:        bytes, from the file and from the source
    """

    path: Path
    files: tuple[Path, ...]
    claims: bool
    checks: tuple[Check, ...]
    requantized: tuple[str, ...]
    read: int
    seconds: float

    @property
    def ok(self) -> bool:
        """True if nothing that was checked is wrong."""
        return all(check.status != "failed" for check in self.checks)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all checks."""
        return tuple(finding for check in self.checks for finding in check.findings)

    def to_json(self) -> dict[str, Any]:
        """What is printed of it, in this order; documented in docs/review.md."""
        of_the_work = {"read_bytes": self.read, "seconds": round(self.seconds, 3)}
        return fields_of(self, "path", "files", "ok", "checks", "requantized") | of_the_work
