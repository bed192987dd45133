"""Text: what models are evaluated on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from quantrecipe.errors import EvaluationError

__all__ = ["Text", "read_text"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A text to evaluate on, and what to call it."""

    name: str
    data: bytes

    @property
    def digest(self) -> str:
        """Of its bytes."""
        return hashlib.blake2b(self.data, digest_size=16).hexdigest()


def read_text(path: str | Path) -> Text:
    """A file as a text. EvaluationError where it can't be read, or is empty."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise EvaluationError(f"the text can't be read ({error.strerror or error})", file=path) from error
    if not data.strip():
        raise EvaluationError("the text is empty", "give a text to evaluate on", file=path)
    return Text(name=Path(path).name, data=data)
