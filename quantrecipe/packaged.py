"""packaged_table: tables of facts that ship with this package, as TOML or JSON files beside the code that uses them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["packaged_table"]

_PACKAGE = Path(__file__).parent


@cache
def packaged_table(path: str) -> Mapping[str, Any]:
    """The content of a table, by its path within the package: `lint/floors.toml`.

    Each table is read once, and all callers share what was read: nobody may change it.
    """
    text = (_PACKAGE / path).read_text(encoding="utf-8")
    table: Mapping[str, Any] = json.loads(text) if path.endswith(".json") else tomllib.loads(text)
    return table
