"""JSON files of a model folder, read without trust: config.json, tokenizer.json and their kin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quantrecipe.errors import ModelError

__all__ = ["read_json_object", "read_text"]

_MAX_BYTES = 500_000_000  # the largest tokenizers have 40 MB
_AGAIN = "download it again"


def read_json_object(path: Path) -> dict[str, Any]:
    """The object that the file holds. ModelError where it can't be read, or is something else."""
    raw = read_text(path)
    try:
        value = json.loads(raw)
    except RecursionError:
        raise ModelError("is nested too deeply", _AGAIN, file=path) from None
    except ValueError as error:
        raise ModelError(f"is not valid JSON: {error}", _AGAIN, file=path) from error
    if not isinstance(value, dict):
        raise ModelError("is not a JSON object", _AGAIN, file=path)
    return value


def read_text(path: Path) -> str:
    """A UTF-8 file's text, line ends as they are. ModelError where it can't be read."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelError(f"is larger than {_MAX_BYTES:,} bytes", "check where it comes from", file=path)
        return path.read_bytes().decode()
    except OSError as error:
        raise ModelError(f"can't be read: {error.strerror or error}", file=path) from error
    except UnicodeDecodeError as error:
        raise ModelError(f"is not UTF-8: {error}", _AGAIN, file=path) from error
