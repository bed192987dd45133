"""The codes of findings: what each means, and how serious it is unless a lint says otherwise.

A code never changes its meaning; one that is given up isn't used again. docs/check.md has a section for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from quantrecipe.lint.finding import Severity

__all__ = ["CODES", "GENERAL", "Code"]

GENERAL = "QR001"
"""For what the loader refuses without a code of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """A kind of finding."""

    code: str
    severity: Severity
    title: str


_ALL = (
    # Reading
    ("QR001", "error", "the recipe says what can't be read or done"),
    ("QR002", "error", "an unknown key"),
    ("QR003", "error", "a type that there isn't, or isn't any more"),
    ("QR004", "error", "not YAML, or YAML that recipes don't use"),
    ("QR005", "error", "a value of another kind than meant; it needs quotes, or none"),
    # The text
    ("QR101", "warning", "a rule without a reason"),
    ("QR102", "warning", "a text that ends at a #, since the rest is a comment"),
    ("QR103", "warning", "an `allow` comment that allows nothing, or gives no reason"),
    # Rules and models
    ("QR201", "error", "a rule that earlier rules hide"),
    ("QR202", "error", "a rule that names no tensor"),
    ("QR203", "error", "a rule whose layers hold no tensor"),
    ("QR204", "warning", "layers that leave nothing out"),
    ("QR205", "warning", "a condition that is never true"),
    ("QR206", "warning", "a condition that is always true"),
    ("QR207", "warning", "layers beyond the model's last one"),
    ("QR208", "advice", "a type that a tensor doesn't accept, so that it falls back"),
    ("QR209", "error", "a condition that fails on a model"),
    ("QR210", "warning", "a mix that leaves much of a model as it is"),
    ("QR211", "warning", "a label that most weights contradict"),
    # Quality
    ("QR301", "warning", "types that need importance, in a recipe that asks for none"),
    ("QR302", "advice", "a type below what is advised for its role"),
    ("QR303", "advice", "so few bits that the file is for experiments"),
    ("QR304", "advice", "few bits for code"),
    # Targets
    ("QR401", "error", "a type that the target can't run"),
    ("QR402", "warning", "a type that is slow on the target"),
    ("QR403", "advice", "what the table of targets doesn't know"),
)

CODES: Mapping[str, Code] = MappingProxyType(
    {code: Code(code=code, severity=severity, title=title) for code, severity, title in _ALL}  # type: ignore[arg-type]  # the literals above
)
"""Every code, in order."""
