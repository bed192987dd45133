"""What a benchmark measured, a row for each way: as a table, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def print_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """All rows have the keys of the first."""
    if as_json:
        print(json.dumps(rows, indent=2))  # noqa: T201  # a script's output
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)
