"""Origin: where in which file something stands."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NOWHERE", "Origin"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where something stands: `recipes/code-model.yaml:14`."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


NOWHERE = Origin(file="", line=0)
"""Of what stands in no file, such as a rule that a program made."""
