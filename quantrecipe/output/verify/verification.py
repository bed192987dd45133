"""Verification: which checks were made, and what each found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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

    def to_json(self) -> dict[str, Any]:
        """Plain data for machines."""
        return {
            "what": self.what,
            "tensor": self.tensor,
            "file": None if self.file is None else str(self.file),
            "offset": self.offset,
            "row": self.row,
            "block": self.block,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One question and its answer. `said`: what was checked, or why it wasn't."""

    name: Name
    status: Status
    said: str
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, name: Name, said: str, findings: Iterable[Finding]) -> Check:
        """Failed if there is any finding."""
        found = tuple(findings)
        return cls(name=name, status="failed" if found else "ok", said=said, findings=found)

    @classmethod
    def skipped(cls, name: Name, said: str) -> Check:
        """Not made."""
        return cls(name=name, status="skipped", said=said)

    def to_json(self) -> dict[str, Any]:
        """Plain data for machines."""
        findings = [finding.to_json() for finding in self.findings]
        return {"check": self.name, "status": self.status, "said": self.said, "findings": findings}


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
        """Of all checks."""
        return tuple(finding for check in self.checks for finding in check.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain data for machines; the layout is documented in docs/review.md."""
        return {
            "path": str(self.path),
            "files": [str(path) for path in self.files],
            "ok": self.ok,
            "checks": [check.to_json() for check in self.checks],
            "requantized": list(self.requantized),
            "read_bytes": self.read,
            "seconds": round(self.seconds, 3),
        }
